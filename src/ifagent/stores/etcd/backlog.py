"""Changes of the store that are still to be read, in an order that lets nobody wait for very many others. Pure.

What changes an interface that is declared well already comes before everything else: new keys, and values that were
wrong already, are what somebody may write very many of. Each key's changes stay in their order: one that was
overtaken by a later one is left out. What is written again before it was read is read once, as it was written last:
whoever writes one key as fast as he can is read as fast as that can be done, and nobody waits for what he wrote before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ifagent.stores.etcd.answers import Changes

MAX_BYTES: Final = 32 * 1024**2
"""Bytes of values from which on there is too much to take in more."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in a queue, and what is to be read there."""

    changes: Changes
    is_urgent: bool


class Backlog:
    """``is_urgent`` tells of a key whether it is that of an interface which is declared well."""

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
        """True while there is too much to take in more."""
        return self._size > MAX_BYTES

    def clear(self) -> None:
        """Forget everything, for a listing that has the outcome."""
        self._urgent.clear()
        self._others.clear()
        self._newest.clear()
        self._overtaken.clear()
        self._size = 0

    def add(self, changes: Changes) -> None:
        """Take in the changes of one revision, or a part of them, each later than those before.

        Where the same keys are still to be read as they were changed before, these take that place.
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
        """Return the place of the last change of exactly these keys, if no other change of one of them came later."""
        slots = {self._newest.get(key) for key, _ in changes.changes}
        slot = slots.pop() if len(slots) == 1 else None
        if slot is None or slot.changes.is_part or len(slot.changes.changes) != len(changes.changes):
            return None
        return slot

    def take(self) -> Changes:
        """Take out what is to be read next; there has to be something."""
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
