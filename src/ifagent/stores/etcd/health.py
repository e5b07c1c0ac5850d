"""How an agent is, as it is published: when it is written, and what."""

from __future__ import annotations

import time
from collections.abc import Callable

from ifagent.formats.health import OperationalState, encode_health
from ifagent.statistics import Statistics, build_version
from ifagent.stores.etcd.lock import HEARTBEAT

HEALTH_POLL_LEAST = 0.25
"""Least seconds between two looks at how the agent is."""


class PublishedHealth:
    """How the agent is, under its key: written when it changes, and every 10 s."""

    def __init__(self, key: bytes, statistics: Callable[[], Statistics]) -> None:
        self._key = key
        self._statistics = statistics
        self._version = build_version()
        self._start = self._last_change = time.time()
        self._state = OperationalState.INIT
        self._told: tuple[object, ...] = ()
        self._next = 0.0
        self._looked = -HEALTH_POLL_LEAST
        self.left_out: int = 0

    def begin(self) -> None:
        """Have it written the next time in any case."""
        self._next, self._looked = 0.0, -HEALTH_POLL_LEAST

    def due(self) -> dict[bytes, bytes]:
        """Return what is to be written now: nothing, or the key and its value."""
        if time.monotonic() < self._looked + HEALTH_POLL_LEAST:
            return {}
        self._looked = time.monotonic()
        now = self._statistics()
        problems = [f"{source.name}: {source.problem}" for source in now.sources if source.problem]
        problems += [now.trouble] if now.trouble else []
        problems += [f"{self.left_out} invalid interfaces are not published, for there are too many"] * bool(
            self.left_out
        )
        state = OperationalState.ERROR if problems else OperationalState.OK if now.ready else OperationalState.INIT
        told, moment = (state, *problems), time.time()
        if told == self._told and time.monotonic() < self._next:
            return {}
        if state is not self._state:
            self._state, self._last_change = state, moment
        self._told, self._next = told, time.monotonic() + HEARTBEAT
        value = encode_health(
            state=state,
            start_time=self._start,
            last_change=self._last_change,
            last_update=moment,
            problems=problems,
            build_version=self._version,
        )
        return {self._key: value}
