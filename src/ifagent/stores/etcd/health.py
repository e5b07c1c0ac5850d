"""The agent's published health: what is written, and when."""

from __future__ import annotations

import time
from collections.abc import Callable

from ifagent.formats.health import OperationalState, encode_health
from ifagent.statistics import Statistics, build_version

HEALTH_POLL_LEAST = 0.25
"""Least seconds between two reads of the agent's statistics."""


class PublishedHealth:
    """The agent's health under its key: written when it changes, and at least every ``heartbeat`` seconds."""

    def __init__(self, key: bytes, statistics: Callable[[], Statistics], *, heartbeat: float) -> None:
        self._key = key
        self._heartbeat = heartbeat
        self._statistics = statistics
        self._version = build_version()
        self._start = self._last_change = time.time()
        self._state = OperationalState.INIT
        self._written: tuple[object, ...] = ()
        self._next = 0.0
        self._polled = -HEALTH_POLL_LEAST
        self.left_out: int = 0

    def begin(self) -> None:
        """Make the next call of :meth:`due` return it in any case."""
        self._next, self._polled = 0.0, -HEALTH_POLL_LEAST

    def due(self) -> dict[bytes, bytes]:
        """Return the key and its value if it has to be written now, else nothing."""
        if time.monotonic() < self._polled + HEALTH_POLL_LEAST:
            return {}
        self._polled = time.monotonic()
        now = self._statistics()
        problems = [f"{source.name}: {source.problem}" for source in now.sources if source.problem]
        problems += [now.trouble] if now.trouble else []
        if self.left_out:
            problems.append(f"too many invalid interfaces, the states of {self.left_out} are not published")
        state = OperationalState.ERROR if problems else OperationalState.OK if now.ready else OperationalState.INIT
        content, moment = (state, *problems), time.time()
        if content == self._written and time.monotonic() < self._next:
            return {}
        if state is not self._state:
            self._state, self._last_change = state, moment
        self._written, self._next = content, time.monotonic() + self._heartbeat
        value = encode_health(
            state=state,
            start_time=self._start,
            last_change=self._last_change,
            last_update=moment,
            problems=problems,
            build_version=self._version,
        )
        return {self._key: value}
