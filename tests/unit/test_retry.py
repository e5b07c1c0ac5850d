from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from ifagent.core.backoff import LAST_DELAY
from ifagent.core.link import Address, Link, LinkId, NsId, OperState
from ifagent.core.names import HostName
from ifagent.core.operation import Outcome, Target
from ifagent.core.operations import DeleteLink, RenewAddress
from ifagent.core.resources import Key, interface_key
from ifagent.core.retry import DETECTION, RetryBook

OP = DeleteLink(Target(NsId(1), HostName("x"), 2))
KEY = interface_key("a")
A = frozenset({KEY})


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
    assert RetryBook().may_try(OP, 0.0)
    assert RetryBook().next_time() is None


def test_a_transient_refusal_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    book, now, waits = RetryBook(), 0.0, []
    for _ in range(14):
        refuse(book, errno.EBUSY, now)
        time = book.next_time()
        assert time is not None
        assert not book.may_try(OP, time - 0.001)
        assert book.may_try(OP, time)
        waits.append(round(time - now, 3))
        now = time
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == LAST_DELAY


def test_a_stale_refusal_is_tried_again_at_once_but_only_once() -> None:
    book = RetryBook()
    refuse(book, errno.EEXIST, 5.0)
    assert book.may_try(OP, 5.0)
    refuse(book, errno.EEXIST, 5.0)
    assert not book.may_try(OP, 5.0)


@pytest.mark.parametrize("forget", ["changed", "unplanned", "full look"])
def test_a_permanent_refusal_lasts_until_something_changes(forget: str) -> None:
    book = RetryBook()
    refuse(book, errno.EINVAL, 0.0)
    assert not book.may_try(OP, 1e9)
    assert book.next_time() is None
    match forget:
        case "changed":
            book.forget(KEY)
        case "full look":
            book.retry_permanent()
        case _:
            book.keep_only([], {interface_key("b")})
            assert not book.may_try(OP, 0.0)
            book.keep_only([], A)
    assert book.may_try(OP, 0.0)
    assert not book.refusals_of(KEY)


def test_what_was_refused_for_good_is_tried_again_once_its_link_is_another() -> None:
    book, link = RetryBook(), make_link()
    book.refused(Outcome(OP, errno.EINVAL), A, "no", 0.0, link)
    book.retry_if_link_changed(A, lambda _: link)
    assert not book.may_try(OP, 1e9)
    book.retry_if_link_changed(A, lambda _: replace(link, mtu=1280))
    assert book.may_try(OP, 0.0)


def test_a_link_that_changes_does_not_hurry_what_waits_for_a_time() -> None:
    book = RetryBook()
    book.refused(Outcome(OP, errno.EBUSY), A, "no", 0.0, make_link())
    book.retry_if_link_changed(A, lambda _: None)
    assert not book.may_try(OP, 0.0)


RENEWAL = RenewAddress(OP.target, ip_interface("2001:db8::1/64"))


def test_duplicates_are_looked_for_less_and_less_often() -> None:
    book, now, waits = RetryBook(), 0.0, []
    assert book.may_try(RENEWAL, now)
    for _ in range(7):
        book.renewed(RENEWAL, A, now, "as ever")
        book.keep_only([RENEWAL], A)
        time = book.next_time()
        assert time is not None
        assert not book.may_try(RENEWAL, time - 0.001)
        assert book.may_try(RENEWAL, time)
        waits.append(time - now)
        now = time
    assert waits == [3, 6, 12, 24, 48, 60, 60]
    assert book.due(now) == A
    book.keep_only([], A)
    assert book.may_try(RENEWAL, now)
    assert book.next_time() is None


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
    assert book.next_time() == start + 24
    book.retry_if_link_changed(A, lambda _: None, lambda _: now)
    assert book.next_time() == (start + DETECTION if different else start + 24)
    book.retry_if_link_changed(A, lambda _: None, lambda _: before)
    assert book.next_time() == (start + DETECTION if different else start + 24)


class Counted(frozenset[Key]):
    """Counts how often anybody looks into it."""

    looks = 0

    def __contains__(self, key: object) -> bool:
        Counted.looks += 1
        return super().__contains__(key)


def key_of(number: int) -> Key:
    return interface_key(f"n{number}")


def test_what_was_refused_for_one_interface_is_found_without_looking_through_all() -> None:
    book, many = RetryBook(), 1_000
    for number in range(many):
        operation = DeleteLink(Target(NsId(1), HostName(f"x{number}"), number))
        book.refused(Outcome(operation, errno.EBUSY), Counted({key_of(number)}), "no", 0.0)
    for number in range(many):
        assert [refusal.keys for refusal in book.refusals_of(key_of(number))] == [{key_of(number)}]
    for number in range(0, many, 2):
        book.forget(key_of(number))
        book.keep_only([], {key_of(number + 1)})
        assert not book.refusals_of(key_of(number + 1))
    assert Counted.looks < 10 * many
