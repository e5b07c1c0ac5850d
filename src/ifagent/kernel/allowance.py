"""How much of the event loop's time may be spent on one namespace, whatever happens there. Pure."""

from __future__ import annotations


class Allowance:
    """Seconds that may be spent: so many at once, and then as they come back. Times are monotonic, in seconds."""

    def __init__(self, *, burst: float, rate: float) -> None:
        """Start with ``burst`` seconds; ``rate`` of each second that passes comes back, until it is so many again."""
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._known_at = 0.0

    def left(self, now: float) -> float:
        """Return what may be spent now; less than zero where more was."""
        if self._left < self._burst:
            self._left = min(self._burst, self._left + self._rate * (now - self._known_at))
        self._known_at = now
        return self._left

    def spend(self, seconds: float, now: float) -> None:
        """Take away what was spent."""
        self._left = self.left(now) - seconds

    def grant(self, seconds: float, now: float, *, most: float) -> None:
        """Add to it, for work that was asked for: it may be ``most`` seconds more than the burst until it is spent."""
        left = self.left(now)
        self._left = max(left, min(left + seconds, self._burst + most))

    def is_touched(self, now: float) -> bool:
        """Tell whether much of it was spent lately."""
        return self.left(now) < self._burst / 2
