"""How often a resource was changed externally, and so when that is repaired. Pure.

One that is changed again and again has its repairs spaced out. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from ifagent.core.backoff import delay

FREE_REPAIRS: Final = 5
"""How many repairs of one resource in a row are made at once, before they are spaced out."""

FLAP_WINDOW: Final = 60.0
"""Seconds without drift after which a resource's repairs are made at once again."""


@dataclass(frozen=True, slots=True)
class DriftHistory:
    """How often a resource was changed externally, what was different the last time, and until when it is left so."""

    repairs: int = 0
    streak: int = 0
    last: float = 0.0
    until: float = 0.0
    different: str = ""

    @property
    def suspended(self) -> bool:
        """True while drift is left as it is, whatever the time."""
        return self.until == math.inf

    def drifted(self, different: str, now: float, *, repair: bool) -> DriftHistory:
        """Return the history after one more change; without ``repair`` it is left so."""
        if not repair:
            return replace(self, streak=self.streak + 1, last=now, until=math.inf, different=different)
        streak = 1 if now - max(self.last, self.until) > FLAP_WINDOW else self.streak + 1
        until = now if streak <= FREE_REPAIRS else now + delay(streak - FREE_REPAIRS)
        return DriftHistory(self.repairs + 1, streak, now, until, different)

    def with_difference(self, different: str) -> DriftHistory:
        """Return the history with something else that was different the last time."""
        return replace(self, different=different)

    def resolved(self) -> DriftHistory:
        """Return the history once drift that was left as it is is no more, or is to be repaired."""
        return replace(self, until=0.0) if self.suspended else self

    def redeclared(self) -> DriftHistory:
        """Return the history once something else is declared: repairs are made at once again."""
        return replace(self, streak=0, until=0.0) if self.streak or self.until else self


NO_DRIFT: Final = DriftHistory()
