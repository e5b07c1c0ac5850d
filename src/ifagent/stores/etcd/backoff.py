"""How long to wait before the store is tried again, and when people are told that it is away or back."""

from __future__ import annotations

import random
import time

FIRST = 0.05
"""Seconds before the first new attempt."""

LONGEST = 3.0
"""Most seconds between two attempts."""

STABLE = 5.0
"""Seconds that a store must have stayed for its next loss to be a new one: told again, with short waits again."""


COMES_AND_GOES = 3
"""How often in a row a store is lost before it has stayed that long to be one that comes and goes."""


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


class Presence:
    """Whether the store is there, as people are told it.

    A loss is told once and not per attempt, and so is the return. The waits between the attempts grow until the store
    has stayed for :data:`STABLE` seconds, and one that comes and goes is not told to be back before.
    """

    def __init__(self) -> None:
        self.is_lost: bool = False
        self._backoff = Backoff()
        self._since: float | None = None
        self._short_stays = 0

    def reached(self) -> None:
        """Note that the store is there from now on."""
        self._since = time.monotonic()

    @property
    def return_due(self) -> float | None:
        """In how many seconds the return is to be told, ``None`` if there is nothing to tell."""
        if not self.is_lost or self._since is None:
            return None
        comes_and_goes = self._short_stays >= COMES_AND_GOES
        return max(0.0, self._since + STABLE - time.monotonic()) if comes_and_goes else 0.0

    def returned(self) -> None:
        """Note that the return was told."""
        self.is_lost = False

    def lost(self) -> bool:
        """Note that the store is lost, or still is; tell whether that is news."""
        if self._since is not None:
            if time.monotonic() < self._since + STABLE:
                self._short_stays += 1
            else:
                self._short_stays = 0
                self._backoff.reset()
        self._since = None
        news, self.is_lost = not self.is_lost, True
        return news

    def wait(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        return self._backoff.next()
