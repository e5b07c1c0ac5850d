"""What an answer of the store has to be like to be used. Pure.

A store may be broken, or be something else that answers at its port. What does not hold together is a
:class:`BrokenAnswer`, whatever was asked, and so an ordinary error of the member that sent it: nobody has to look at
counts, orders and signs afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final

from aetcd import rpc

MAX_REVISION: Final = 2**63 - 2
"""The highest revision that still has a next one."""

AT_ONCE: Final = 1000
"""Most keys of one revision that are one change; of more, so many at a time."""


class BrokenAnswer(Exception):
    """An answer contradicts itself or the request; the message says how, without repeating what it has."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds, the revision that wrote it, and the lease that it hangs on (0: none)."""

    data: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """A point in one cluster's history, as the header of every answer gives it."""

    cluster_id: int
    revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that ``revision`` did under the prefixes; ``None`` for a key that it deleted.

    Of more than :data:`AT_ONCE` keys it is a part (``is_part``), and ``more`` says that others follow.
    """

    revision: int
    changes: tuple[tuple[bytes, Value | None], ...]
    is_part: bool = False
    more: bool = False


def read_position(answer: Any) -> Position:
    """Return where the store was when it answered."""
    header = answer.header
    revision = int(header.revision)
    if not 0 < revision <= MAX_REVISION:
        raise BrokenAnswer("its revision is out of range")
    return Position(int(header.cluster_id), revision)


def read_value(answer: Any, key: bytes) -> Value | None:
    """Return what a single key holds, from the answer to a request for it; ``None`` if there is no such key."""
    if not answer.kvs:
        return None
    if len(answer.kvs) > 1 or answer.kvs[0].key != key:
        raise BrokenAnswer("it has other keys than the one that was asked for")
    return _value(answer.kvs[0])


def read_page(answer: Any, start: bytes, end: bytes, *, limit: int) -> list[tuple[bytes, Value]]:
    """Return the keys and values of one page of a listing that begins at ``start``, in the order of keys.

    It is full if there is more after it, so that listing gets on.
    """
    if answer.more and len(answer.kvs) < limit:
        raise BrokenAnswer("it has less than was asked for, and says that there is more")
    if len(answer.kvs) > limit:
        raise BrokenAnswer("it has more keys than were asked for")
    page: list[tuple[bytes, Value]] = []
    last = b""
    for kv in answer.kvs:
        key = kv.key
        if not (start <= key < end and last < key):
            raise BrokenAnswer("its keys are out of order, or out of the range that was asked for")
        last = key
        page.append((key, _value(kv)))
    return page


def read_deletions(answer: Any, keys: Sequence[bytes | None]) -> Iterable[bytes]:
    """Return which keys a transaction found to delete, given the one that each operation was to delete, if any."""
    check_responses(answer, len(keys))
    done = zip(keys, answer.responses, strict=True)
    return [key for key, response in done if key is not None and response.response_delete_range.deleted]


def check_responses(answer: Any, count: int) -> None:
    """Check that a transaction answers every operation of the branch that it took."""
    if len(answer.responses) != count:
        raise BrokenAnswer("it does not have a response for each operation of the transaction")


def read_changes(answer: Any, start: bytes, end: bytes, *, after: int) -> Iterator[Changes]:
    """Yield what one answer of a watch from ``start`` to ``end`` tells, by revision, each later than ``after``.

    It is read as it is asked for: one request may have deleted very many keys, whose events are one answer.
    """
    for revision, events in groupby(answer.events, key=_revision):
        if not after < revision <= MAX_REVISION:
            raise BrokenAnswer("its revisions do not follow each other")
        after = revision
        yield from _in_parts(revision, (_change(event, start, end) for event in events))


def _in_parts(revision: int, changes: Iterator[tuple[bytes, Value | None]]) -> Iterator[Changes]:
    some, is_part = tuple(islice(changes, AT_ONCE)), False
    while some:
        following = tuple(islice(changes, AT_ONCE))
        is_part = is_part or bool(following)
        yield Changes(revision, some, is_part, bool(following))
        some = following


def _revision(event: Any) -> int:
    return int(event.kv.mod_revision)


def _change(event: Any, start: bytes, end: bytes) -> tuple[bytes, Value | None]:
    kv = event.kv
    key = kv.key
    if not start <= key < end:
        raise BrokenAnswer("it tells of a key that was not asked for")
    return key, None if event.type == rpc.Event.DELETE else _value(kv)


def _value(kv: Any) -> Value:
    return Value(kv.value, int(kv.mod_revision), int(kv.lease))
