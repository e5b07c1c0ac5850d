"""Changes of the store that have still to be decoded, ordered so that a flood does not delay others. Pure.

Changes of interfaces with a valid declaration come first: a flood consists of new keys, or of keys whose values are
invalid already. The changes of one key stay in order: one that a later one has overtaken is dropped. A key that is
written again before it was decoded is decoded once, with its newest value, so that a client that writes one key as
fast as it can does not build up a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ifagent.stores.etcd.answers import Changes

MAX_BYTES: Final = 32 * 1024**2
"""Bytes of values beyond which no more changes should be added."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in a queue, and the changes to decode there."""

    changes: Changes
    is_urgent: bool


class Backlog:
    """A queue of changes. ``is_urgent`` tells whether a key belongs to an interface with a valid declaration."""

    def __init__(self, is_urgent: Callable[[bytes], bool]) -> None:
        self._is_urgent = is_urgent
        self._urgent: deque[_Slot] = deque()
        self._others: deque[_Slot] = deque()
        self._newest: dict[bytes, _Slot] = {}
        self._overtaken: dict[bytes, int] = {}
        self._size = 0

    def __len__(self) -> int:
        """Return how many changes there are."""
        return len(self._urgent) + len(self._others)

    @property
    def is_full(self) -> bool:
        """True while no more changes should be added."""
        return self._size > MAX_BYTES

    def clear(self) -> None:
        """Drop everything, because a new listing has the outcome."""
        self._urgent.clear()
        self._others.clear()
        self._newest.clear()
        self._overtaken.clear()
        self._size = 0

    def add(self, changes: Changes) -> None:
        """Add the changes of one revision, or a part of them; each call is later than the one before.

        They replace queued changes of exactly the same keys.
        """
        is_urgent = not changes.is_part and any(self._is_urgent(key) for key, _ in changes.changes)
        before = None if changes.is_part else self._with_same_keys(changes)
        self._size += _size(changes)
        if before is not None and before.is_urgent >= is_urgent:
            self._size -= _size(before.changes)
            before.changes = changes
            return
        slot = _Slot(changes, is_urgent)
        self._newest.update((key, slot) for key, _ in changes.changes)
        (self._urgent if is_urgent else self._others).append(slot)

    def _with_same_keys(self, changes: Changes) -> _Slot | None:
        """Return the slot of the last change of exactly these keys, if no other change of one of them came later."""
        slots = {self._newest.get(key) for key, _ in changes.changes}
        slot = slots.pop() if len(slots) == 1 else None
        if slot is None or slot.changes.is_part or len(slot.changes.changes) != len(changes.changes):
            return None
        return slot

    def take(self) -> Changes:
        """Remove and return the next changes to decode; the queue must not be empty."""
        slot = (self._urgent or self._others).popleft()
        changes = slot.changes
        self._size -= _size(changes)
        for key, _ in changes.changes:
            if self._newest.get(key) is slot:
                del self._newest[key]
        if slot.is_urgent:
            if self._others:
                self._overtaken.update((key, changes.revision) for key, _ in changes.changes)
            return changes
        if self._overtaken:
            left = ((key, value) for key, value in changes.changes if self._overtaken.get(key, 0) < changes.revision)
            changes = replace(changes, changes=tuple(left))
        if not self._others:
            self._overtaken.clear()
        return changes


def _size(changes: Changes) -> int:
    return sum(len(key) + (len(value.data) if value else 0) + 100 for key, value in changes.changes)
