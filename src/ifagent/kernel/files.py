"""Files that worker threads use: closed only when no thread can, for the number could come to mean another file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Files:
    """Puts off closing while anybody uses files; on the event loop only. ``in_use`` counts who does."""

    def __init__(self) -> None:
        self.in_use: int = 0
        self._to_close: list[Callable[[], None]] = []

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep every file open meanwhile."""
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1
            while self._to_close and not self.in_use:
                self._to_close.pop()()

    def close(self, close: Callable[[], None]) -> None:
        """Close something as soon as no thread uses it."""
        with self.using():
            self._to_close.append(close)
