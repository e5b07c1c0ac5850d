"""Closing files that worker threads use, once none uses them: a descriptor may soon stand for another file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DeferredClose:
    """Defers closing while files are in use; for the event loop only. ``in_use`` counts the users."""

    def __init__(self) -> None:
        self.in_use: int = 0
        self._to_close: list[Callable[[], None]] = []

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep every file open within the block."""
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1
            while self._to_close and not self.in_use:
                self._to_close.pop()()

    def close(self, close: Callable[[], None]) -> None:
        """Call ``close`` as soon as no file is in use."""
        with self.using():
            self._to_close.append(close)
