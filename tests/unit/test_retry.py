from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from ifagent.core.interface import HostName
from ifagent.core.link import Address, Link, LinkId, NsId, OperState
from ifagent.core.operations import DeleteLink, Outcome, RenewAddress, Target
from ifagent.core.retry import DETECTION, FLAP_WINDOW, FREE_REPAIRS, LAST_DELAY, RetryBook

OP = DeleteLink(Target(NsId(1), HostName("x"), 2))
A = frozenset({"a"})


def make_link() -> Link:
    return Link(
        id=LinkId(NsId(1), 2),
        host_name=HostName("x"),
        kind="veth",
        mac="02:00:00:00:00:01",
        mtu=900,
        up=True,
        carrier=True,
        operstate=OperState.UP,
    )


def refuse(book: RetryBook, code: int, now: float) -> None:
    book.refused(Outcome(OP, code), A, "no", now)


def test_what_was_never_refused_may_be_tried() -> None:
    assert RetryBook().may_try(OP, A, 0.0)
    assert RetryBook().next_time(0.0) is None


def test_a_transient_refusal_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    book, now, waits = RetryBook(), 0.0, []
    for _ in range(14):
        refuse(book, errno.EBUSY, now)
        time = book.next_time(now)
        assert time is not None
        assert not book.may_try(OP, A, time - 0.001)
        assert book.may_try(OP, A, time)
        waits.append(round(time - now, 3))
        now = time
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == LAST_DELAY


def test_a_stale_refusal_is_tried_again_at_once_but_only_once() -> None:
    book = RetryBook()
    refuse(book, errno.EEXIST, 5.0)
    assert book.may_try(OP, A, 5.0)
    refuse(book, errno.EEXIST, 5.0)
    assert not book.may_try(OP, A, 5.0)


@pytest.mark.parametrize("forget", ["changed", "unplanned", "gone", "full look"])
def test_a_permanent_refusal_lasts_until_something_changes(forget: str) -> None:
    book = RetryBook()
    refuse(book, errno.EINVAL, 0.0)
    assert not book.may_try(OP, A, 1e9)
    assert book.next_time(0.0) is None
    match forget:
        case "changed":
            book.changed("a")
        case "gone":
            book.forget("a")
        case "full look":
            book.retry_permanent()
        case _:
            book.keep_only([], {"b"})
            assert not book.may_try(OP, A, 0.0)
            book.keep_only([], {"a"})
    assert book.may_try(OP, A, 0.0)
    assert not book.refusals_of("a")


def test_what_was_refused_for_good_is_tried_again_once_its_link_is_another() -> None:
    book, link = RetryBook(), make_link()
    book.refused(Outcome(OP, errno.EINVAL), A, "no", 0.0, link)
    book.retry_if_link_changed(A, lambda _: link)
    assert not book.may_try(OP, A, 1e9)
    book.retry_if_link_changed(A, lambda _: replace(link, mtu=1280))
    assert book.may_try(OP, A, 0.0)


def test_a_link_that_changes_does_not_hurry_what_waits_for_a_time() -> None:
    book = RetryBook()
    book.refused(Outcome(OP, errno.EBUSY), A, "no", 0.0, make_link())
    book.retry_if_link_changed(A, lambda _: None)
    assert not book.may_try(OP, A, 0.0)


RENEWAL = RenewAddress(OP.target, ip_interface("2001:db8::1/64"))


def test_duplicates_are_looked_for_less_and_less_often() -> None:
    book, now, waits = RetryBook(), 0.0, []
    assert book.may_try(RENEWAL, A, now)
    for _ in range(7):
        book.renewed(RENEWAL, A, now, "as ever")
        book.keep_only([RENEWAL], A)
        time = book.next_time(now)
        assert time is not None
        assert not book.may_try(RENEWAL, A, time - 0.001)
        assert book.may_try(RENEWAL, A, time)
        waits.append(time - now)
        now = time
    assert waits == [3, 6, 12, 24, 48, 60, 60]
    assert book.due(now) == {"a"}
    book.keep_only([], A)
    assert book.may_try(RENEWAL, A, now)
    assert book.next_time(now) is None


@pytest.mark.parametrize(
    ("link", "peer", "different"),
    [
        ({}, {}, False),
        ({"mtu": 1280}, {"mtu": 1280}, False),
        ({"addresses": (Address(RENEWAL.address, 0x40),)}, {}, False),
        ({"carrier": False}, {}, True),
        ({"mac": "02:00:00:00:00:02"}, {}, True),
        ({"master": 7}, {}, True),
        ({}, {"mac": "02:00:00:00:00:02"}, True),
        ({}, {"addresses": (Address(RENEWAL.address, 0x80),)}, False),
        ({}, {"addresses": ()}, True),
    ],
)
def test_duplicates_are_looked_for_soon_where_that_may_end_otherwise(
    link: dict[str, Any], peer: dict[str, Any], different: bool
) -> None:
    book, there = RetryBook(), make_link()
    before = there.surroundings(replace(there, addresses=(Address(RENEWAL.address, 0x40),)))
    now = replace(there, **link).surroundings(replace(there, **{"addresses": (Address(RENEWAL.address),)} | peer))
    start = 100.0
    for _ in range(4):
        book.renewed(RENEWAL, A, start, before)
    assert book.next_time(start) == start + 24
    book.retry_if_link_changed(A, lambda _: None, lambda _: now)
    assert book.next_time(start) == (start + DETECTION if different else start + 24)
    book.retry_if_link_changed(A, lambda _: None, lambda _: before)
    assert book.next_time(start) == (start + DETECTION if different else start + 24)


def test_repairs_in_a_row_are_spaced_out_until_it_is_quiet() -> None:
    book = RetryBook()
    for _ in range(FREE_REPAIRS):
        book.drifted("a", 0.0)
        assert book.may_try(OP, A, 0.0)
    book.drifted("a", 0.0)
    assert not book.may_try(OP, A, 0.0)
    until = book.next_time(0.0) or 0.0
    assert until == pytest.approx(0.1)
    book.drifted("a", until + FLAP_WINDOW + 1)
    assert book.may_try(OP, A, until + FLAP_WINDOW + 1)
    assert book.drift_of("a").repairs == FREE_REPAIRS + 2


class Counted(frozenset[str]):
    """Counts how often anybody looks into it."""

    looks = 0

    def __contains__(self, name: object) -> bool:
        Counted.looks += 1
        return super().__contains__(name)


def test_what_was_refused_for_one_interface_is_found_without_looking_through_all() -> None:
    book, many = RetryBook(), 1_000
    for number in range(many):
        operation = DeleteLink(Target(NsId(1), HostName(f"x{number}"), number))
        book.refused(Outcome(operation, errno.EBUSY), Counted({f"n{number}"}), "no", 0.0)
    for number in range(many):
        assert [refusal.names for refusal in book.refusals_of(f"n{number}")] == [{f"n{number}"}]
    for number in range(0, many, 2):
        book.changed(f"n{number}")
        book.keep_only([], {f"n{number + 1}"})
        assert not book.refusals_of(f"n{number + 1}")
    assert Counted.looks < 10 * many
