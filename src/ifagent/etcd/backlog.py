"""Changes of the store that are still to be read, in an order that lets nobody wait for very many others. Pure.

What changes an interface that is declared well already comes before everything else: new keys, and values that were
wrong already, are what somebody may write very many of. Each key's changes stay in their order: one that was
overtaken by a later one is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ifagent.etcd.answers import Changes

MAX_BYTES: Final = 32 * 1024**2
"""Bytes of values from which on there is too much to take in more."""


class Backlog:
    """``is_urgent`` tells of a key whether it is that of an interface which is declared well."""

    def __init__(self, is_urgent: Callable[[bytes], bool]) -> None:
        self._is_urgent = is_urgent
        self._urgent: deque[Changes] = deque()
        self._others: deque[Changes] = deque()
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
        self._overtaken.clear()
        self._size = 0

    def add(self, changes: Changes) -> None:
        """Take in the changes of one revision, or a part of them, each later than those before."""
        self._size += _size(changes)
        if not changes.is_part and any(self._is_urgent(key) for key, _ in changes.changes):
            self._urgent.append(changes)
        else:
            self._others.append(changes)

    def take(self) -> Changes:
        """Take out what is to be read next; there has to be something."""
        if self._urgent:
            changes = self._urgent.popleft()
            self._size -= _size(changes)
            if self._others:
                self._overtaken.update((key, changes.revision) for key, _ in changes.changes)
            return changes
        changes = self._others.popleft()
        self._size -= _size(changes)
        if self._overtaken:
            left = ((key, value) for key, value in changes.changes if self._overtaken.get(key, 0) < changes.revision)
            changes = replace(changes, changes=tuple(left))
        if not self._others:
            self._overtaken.clear()
        return changes


def _size(changes: Changes) -> int:
    return sum(len(key) + (len(value.data) if value else 0) + 100 for key, value in changes.changes)
