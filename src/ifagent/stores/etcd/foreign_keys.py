"""Keys that somebody else has written where the agent publishes states, until they are deleted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from ifagent.stores.etcd.client import chunks

MAX_FOREIGN: Final = 10_000
"""Most keys that are remembered."""


class ForeignKeys:
    """Remembers so many at most; ``missed`` tells that there were more, which another listing finds."""

    def __init__(self, *, most: int = MAX_FOREIGN) -> None:
        self.missed: bool = False
        self._most = most
        self._keys: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Iterable[bytes]) -> None:
        """Remember keys."""
        for key in keys:
            if len(self._keys) >= self._most:
                self.missed = True
                return
            self._keys[key] = None

    def take(self) -> list[bytes]:
        """Return as many as one transaction can delete; they are not remembered any more."""
        keys = [key for key, _ in next(chunks((key, None) for key in islice(self._keys, self._most)), [])]
        for key in keys:
            del self._keys[key]
        return keys
