"""How long to wait before the store is tried again."""

from __future__ import annotations

import random

FIRST = 0.05
"""Seconds before the first new attempt."""

LONGEST = 3.0
"""Most seconds between two attempts."""


class Backoff:
    """Waits that double from 50 ms to 3 s, each shortened at random by up to half so that agents spread."""

    def __init__(self) -> None:
        self._next = FIRST

    def reset(self) -> None:
        """Start over: the store was there."""
        self._next = FIRST

    def next(self) -> float:
        """Return how many seconds to wait now."""
        wait, self._next = self._next, min(self._next * 2, LONGEST)
        return wait * random.uniform(0.5, 1)  # noqa: S311 spreading load needs no cryptography
