"""How long to wait before something is tried again. Pure."""

from __future__ import annotations

from typing import Final

FIRST_DELAY: Final = 0.1
"""Seconds until the second try; doubled with every further one."""

LAST_DELAY: Final = 60.0
"""Longest time between two tries, in seconds."""


def delay(attempts: int) -> float:
    """Return the seconds to wait after so many failed attempts."""
    return float(min(FIRST_DELAY * 2 ** min(attempts - 1, 16), LAST_DELAY))
