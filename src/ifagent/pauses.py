"""Long work on the event loop, with pauses in which others have their turn."""

from __future__ import annotations

import time

import anyio.lowlevel

HOLD = 0.01
"""Seconds that the event loop is held at most before others have their turn."""


class Pauses:
    """Used by one piece of work; the first pause comes :data:`HOLD` seconds after its making."""

    def __init__(self) -> None:
        self._due = time.monotonic() + HOLD

    async def now_and_then(self) -> None:
        """Let others have their turn if it is time for that."""
        if time.monotonic() >= self._due:
            await anyio.lowlevel.checkpoint()
            self._due = time.monotonic() + HOLD
