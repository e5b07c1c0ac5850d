"""A token bucket for the event loop's time that one namespace may take. Pure."""

from __future__ import annotations


class Allowance:
    """Seconds that may be spent: a burst at once, then at a rate. Times are monotonic, in seconds."""

    def __init__(self, *, burst: float, rate: float) -> None:
        """Start with ``burst`` seconds; ``rate`` seconds are regained per second, up to the burst."""
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._known_at = 0.0

    def left(self, now: float) -> float:
        """Return what may be spent now; negative if too much was spent."""
        if self._left < self._burst:
            self._left = min(self._burst, self._left + self._rate * (now - self._known_at))
        self._known_at = now
        return self._left

    def spend(self, seconds: float, now: float) -> None:
        """Subtract what was spent."""
        self._left = self.left(now) - seconds

    def grant(self, seconds: float, now: float, *, most: float) -> None:
        """Add seconds for requested work: up to ``most`` more than the burst, until they are spent."""
        left = self.left(now)
        self._left = max(left, min(left + seconds, self._burst + most))

    def is_touched(self, now: float) -> bool:
        """Tell whether more than half of it was spent lately."""
        return self.left(now) < self._burst / 2
