"""How much is planned and carried out in one go, so that nobody waits long for his turn. Pure."""

from __future__ import annotations

AIM = 0.02
"""Seconds that one go is to take."""

LEAST, MOST = 16, 512
"""Bounds of how much is done in one go, in interfaces and links."""


class Budget:
    """Learns from how long it takes; ``size`` is how much to do."""

    def __init__(self) -> None:
        self.size: int = 64

    def spent(self, size: int, seconds: float) -> None:
        """Note how long so much has taken."""
        if seconds > AIM:
            self.size = max(LEAST, min(self.size, int(size * AIM / seconds)))
        elif size >= self.size and seconds < AIM / 2:
            self.size = min(MOST, 2 * self.size)
