"""Whoever writes very many keys holds up nobody who changes an interface that is there."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ifagent.stores.etcd.answers import Changes, Value
from ifagent.stores.etcd.backlog import MAX_BYTES, Backlog
from ifagent.stores.etcd.source import MOST_TURNS, TURNS, until_silent


def put(key: bytes, revision: int, data: bytes = b"") -> Changes:
    return Changes(revision, ((key, Value(data, revision)),))


def taken(backlog: Backlog) -> list[tuple[int, list[bytes]]]:
    found = []
    while len(backlog):
        changes = backlog.take()
        found.append((changes.revision, [key for key, _ in changes.changes]))
    return found


def test_what_is_declared_well_comes_before_what_is_not() -> None:
    backlog = Backlog(lambda key: key.startswith(b"well"))
    for revision, key in enumerate([b"j1", b"j2", b"well1", b"j3", b"well2"], start=1):
        backlog.add(put(key, revision))
    assert [revision for revision, _ in taken(backlog)] == [3, 5, 1, 2, 4]


def test_an_older_change_of_a_key_does_not_come_after_a_newer_one() -> None:
    well: set[bytes] = set()
    backlog = Backlog(lambda key: key in well)
    backlog.add(put(b"j1", 1))
    backlog.add(Changes(2, ((b"a", None), (b"b", Value(b"", 2)))))
    well.add(b"a")
    backlog.add(put(b"a", 3))
    assert taken(backlog) == [(3, [b"a"]), (1, [b"j1"]), (2, [b"b"])]
    well.clear()
    backlog.add(put(b"a", 4))
    assert taken(backlog) == [(4, [b"a"])]


def test_a_revision_with_very_many_keys_goes_before_nobody() -> None:
    backlog = Backlog(lambda key: key == b"well")
    backlog.add(Changes(1, ((b"well", None), (b"j1", None)), is_part=True, more=True))
    backlog.add(Changes(1, ((b"j2", None),), is_part=True))
    backlog.add(put(b"well", 2))
    assert taken(backlog) == [(2, [b"well"]), (1, [b"j1"]), (1, [b"j2"])]


def test_what_is_written_again_is_read_once_where_it_was_and_as_it_is_last() -> None:
    backlog = Backlog(lambda key: key in {b"a", b"b", b"c"})
    for revision in range(1, 1000):
        backlog.add(put(b"a", revision, b"%d" % revision))
        if revision == 5:
            backlog.add(put(b"b", revision))
    assert len(backlog) == 2
    first = backlog.take()
    assert first.changes == ((b"a", Value(b"999", 999)),)
    backlog.add(put(b"a", 1000))
    assert taken(backlog) == [(5, [b"b"]), (1000, [b"a"])]
    assert not backlog._size


def test_what_was_written_together_stays_together() -> None:
    backlog = Backlog(lambda _: True)

    def both(revision: int) -> Changes:
        return Changes(revision, ((b"a", Value(b"", revision)), (b"b", Value(b"", revision))))

    backlog.add(put(b"a", 1))
    backlog.add(both(2))
    backlog.add(both(3))
    backlog.add(put(b"a", 4))
    backlog.add(both(5))
    assert taken(backlog) == [(1, [b"a"]), (3, [b"a", b"b"]), (4, [b"a"]), (5, [b"a", b"b"])]


def test_a_value_that_has_become_urgent_does_not_wait_where_the_one_before_does() -> None:
    well: set[bytes] = set()
    backlog = Backlog(lambda key: key in well)
    backlog.add(put(b"j", 1))
    backlog.add(put(b"a", 2))
    well.add(b"a")
    backlog.add(put(b"a", 3))
    assert taken(backlog) == [(3, [b"a"]), (1, [b"j"]), (2, [])]


def test_it_is_full_by_its_bytes_and_has_room_again() -> None:
    backlog = Backlog(lambda _: False)
    backlog.add(put(b"a", 1, bytes(MAX_BYTES)))
    assert backlog.is_full
    backlog.take()
    assert not backlog.is_full
    backlog.add(put(b"a", 2, bytes(MAX_BYTES)))
    backlog.clear()
    assert not backlog.is_full
    assert not len(backlog)


@pytest.mark.anyio
@pytest.mark.parametrize("answers", [3, 1000])
async def test_the_store_is_heard_before_more_is_read_but_not_without_end(answers: int) -> None:
    heard, each = 0, TURNS - 2

    async def speak() -> None:
        nonlocal heard
        for _ in range(answers):
            for _ in range(each):
                await checkpoint()
            heard += 1

    async with anyio.create_task_group() as group:
        group.start_soon(speak)
        with anyio.fail_after(10):
            await until_silent(lambda: heard)
        assert heard == answers if answers * each < MOST_TURNS else 0 < heard <= MOST_TURNS
        group.cancel_scope.cancel()
