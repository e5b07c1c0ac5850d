"""How long to wait before the store is tried again, and when its loss and return are logged."""

from __future__ import annotations

import random
import time

FIRST = 0.05
"""Seconds before the first new attempt."""

STABLE = 5.0
"""Seconds that a store must stay connected for its next loss to count as new: logged, with short waits again."""

FLAPPING_LOSSES = 3
"""After so many losses in a row, each within :data:`STABLE` seconds of the return, a store is flapping."""


class Backoff:
    """Waits that double from 50 ms to ``longest`` seconds, each shortened at random by up to half to spread agents."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._next = FIRST

    def reset(self) -> None:
        """Start over with the shortest wait."""
        self._next = FIRST

    def next(self) -> float:
        """Return how many seconds to wait now."""
        wait, self._next = self._next, min(self._next * 2, self._longest)
        return wait * random.uniform(0.5, 1)  # noqa: S311 spreading load needs no cryptography


class Presence:
    """Whether the store counts as connected, for the log and for health.

    A loss is reported once and not per attempt, and so is the return. The waits between attempts grow, up to
    ``longest_wait`` seconds, until the store has stayed connected for :data:`STABLE` seconds; a flapping store is not
    reported as back before that.
    """

    def __init__(self, longest_wait: float) -> None:
        self.is_lost: bool = False
        self._backoff = Backoff(longest_wait)
        self._since: float | None = None
        self._short_stays = 0

    def reached(self) -> None:
        """Note that the store is connected now."""
        self._since = time.monotonic()

    @property
    def return_due(self) -> float | None:
        """Seconds until the return has to be reported, ``None`` if there is nothing to report."""
        if not self.is_lost or self._since is None:
            return None
        is_flapping = self._short_stays >= FLAPPING_LOSSES
        return max(0.0, self._since + STABLE - time.monotonic()) if is_flapping else 0.0

    def returned(self) -> None:
        """Note that the return has been reported."""
        self.is_lost = False

    def lost(self) -> bool:
        """Note that the store is lost, or still is; return whether that has to be reported."""
        if self._since is not None:
            if time.monotonic() < self._since + STABLE:
                self._short_stays += 1
            else:
                self._short_stays = 0
                self._backoff.reset()
        self._since = None
        is_new, self.is_lost = not self.is_lost, True
        return is_new

    def wait(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        return self._backoff.next()
