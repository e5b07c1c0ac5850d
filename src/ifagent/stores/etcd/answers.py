"""Answers of the store, checked before they are used. Pure.

A store may be broken, or something else may answer at its port. An answer that contradicts itself or the request
raises :class:`BrokenAnswer`, an ordinary error of the member that sent it. So callers need not check counts, orders
and signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final

from aetcd import rpc

MAX_REVISION: Final = 2**63 - 2
"""The highest revision that still has a successor."""

AT_ONCE: Final = 1000
"""Most keys in one :class:`Changes`; a revision with more is split into parts."""


class BrokenAnswer(Exception):
    """An answer contradicts itself or the request; the message says how, without quoting its content."""


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a key, the revision that wrote it, and its lease (0: none)."""

    data: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class StoreRevision:
    """A point in one cluster's history, from the header of an answer."""

    cluster_id: int
    revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of ``revision`` under the prefixes; ``None`` for a deleted key.

    If there are more than :data:`AT_ONCE`, this is a part of them (``is_part``), and ``more`` says that others follow.
    """

    revision: int
    changes: tuple[tuple[bytes, Value | None], ...]
    is_part: bool = False
    more: bool = False


def read_position(answer: Any) -> StoreRevision:
    """Return the store's position at the time of the answer."""
    header = answer.header
    revision = int(header.revision)
    if not 0 < revision <= MAX_REVISION:
        raise BrokenAnswer("revision out of range")
    return StoreRevision(int(header.cluster_id), revision)


def read_value(answer: Any, key: bytes) -> Value | None:
    """Return the value of a single key from the answer to a request for it; ``None`` if there is no such key."""
    if not answer.kvs:
        return None
    if len(answer.kvs) > 1 or answer.kvs[0].key != key:
        raise BrokenAnswer("keys other than the requested one")
    return _value(answer.kvs[0])


def read_page(answer: Any, start: bytes, end: bytes, *, limit: int) -> list[tuple[bytes, Value]]:
    """Return the keys and values of one page of a listing that begins at ``start``, in the order of keys.

    A page that is followed by others must be full, so that every listing ends.
    """
    if answer.more and len(answer.kvs) < limit:
        raise BrokenAnswer("fewer keys than requested, although there are more")
    if len(answer.kvs) > limit:
        raise BrokenAnswer("more keys than requested")
    page: list[tuple[bytes, Value]] = []
    last = b""
    for kv in answer.kvs:
        key = kv.key
        if not (start <= key < end and last < key):
            raise BrokenAnswer("keys out of order, or outside of the requested range")
        last = key
        page.append((key, _value(kv)))
    return page


def read_deletions(answer: Any, keys: Sequence[bytes | None]) -> Iterable[bytes]:
    """Return the keys that a transaction deleted; ``keys`` has the key of each operation, ``None`` for a put."""
    check_responses(answer, len(keys))
    done = zip(keys, answer.responses, strict=True)
    return [key for key, response in done if key is not None and response.response_delete_range.deleted]


def check_responses(answer: Any, count: int) -> None:
    """Check that a transaction answers every operation of the branch that it took."""
    if len(answer.responses) != count:
        raise BrokenAnswer("wrong number of responses to a transaction")


def read_changes(answer: Any, start: bytes, end: bytes, *, after: int) -> Iterator[Changes]:
    """Yield the changes in one answer of a watch from ``start`` to ``end``, by revision, each later than ``after``.

    Decodes lazily: one request may have deleted very many keys, whose events are one answer.
    """
    for revision, events in groupby(answer.events, key=_revision):
        if not after < revision <= MAX_REVISION:
            raise BrokenAnswer("revisions out of order")
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
        raise BrokenAnswer("event for a key that is not watched")
    return key, None if event.type == rpc.Event.DELETE else _value(kv)


def _value(kv: Any) -> Value:
    return Value(kv.value, int(kv.mod_revision), int(kv.lease))
