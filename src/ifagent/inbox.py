"""The loop's inbox: at most one event per topic, in the order they were last said."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable

import anyio

from ifagent.core.events import Event


class Inbox:
    """Collects events between rounds; its size is bounded by the number of topics.

    ``sequence`` counts the events ever put, so that a caller can tell when its own has been dealt with. ``oldest`` is
    the monotonic time at which the first event since the last :meth:`take_oldest` was put.
    """

    def __init__(self) -> None:
        self.sequence: int = 0
        self.oldest: float | None = None
        self._events: dict[Hashable, Event] = {}
        self._news = anyio.Event()

    def put(self, event: Event) -> None:
        """Say something; the newest statement about a topic replaces an older one."""
        self.sequence += 1
        if self.oldest is None:
            self.oldest = time.monotonic()
        self._events.pop(event.topic, None)
        self._events[event.topic] = event
        self._news.set()

    def put_marker(self) -> int:
        """Have the loop do a round; return the sequence number that it will have covered then."""
        self.sequence += 1
        self._news.set()
        return self.sequence

    def wake(self) -> None:
        """End the loop's wait without saying anything."""
        self._news.set()

    def drain(self) -> list[Event]:
        """Take out everything, oldest first."""
        events = list(self._events.values())
        self._events.clear()
        return events

    def take_oldest(self) -> float | None:
        """Return ``oldest`` and reset it."""
        oldest, self.oldest = self.oldest, None
        return oldest

    def __len__(self) -> int:
        return len(self._events)

    async def wait(self, until: float | None) -> None:
        """Wait until something is said, or until a time of :func:`anyio.current_time`."""
        with anyio.CancelScope(deadline=math.inf if until is None else until):
            await self._news.wait()
        self._news = anyio.Event()
