"""The state stream with counters in it, for readers who ask for them.

Counters are read only while there are such readers. They have a hub of their own: it republishes what the plain hub
publishes, with the counters of the last reading, and after each reading the states whose counters have changed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import anyio
import anyio.lowlevel

from ifagent.core.counters import LEAST_INTERVAL, NO_RATES, Counters, LinkCounters, Reading, counted
from ifagent.core.link import LinkId
from ifagent.core.resources import Key
from ifagent.core.state import InterfaceState
from ifagent.errors import InvalidSettings
from ifagent.kernel.contract import Kernel
from ifagent.stream import StateHub

AT_A_TIME = 100
"""Most states published in one turn of the event loop, so that other tasks run in between."""


def check_interval(seconds: float) -> float:
    """Return the interval. Raises :class:`InvalidSettings` if counters cannot be read so often."""
    if not LEAST_INTERVAL <= seconds < math.inf:
        raise InvalidSettings(f"counters are read every {LEAST_INTERVAL} s or less often, not every {seconds} s")
    return seconds


class CounterStream:
    """Republishes in ``hub`` what ``source`` publishes, with counters that are read every ``seconds``.

    All readers share one reading. A ``permanent`` stream is read even without readers. ``clock`` returns monotonic
    seconds, ``sleep`` waits for a number of seconds.
    """

    def __init__(
        self,
        source: StateHub,
        kernel: Kernel,
        seconds: float,
        *,
        clock: Callable[[], float] = anyio.current_time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.hub: StateHub = StateHub()
        self.permanent: bool = False
        self._source = source
        self._kernel = kernel
        self._seconds = check_interval(seconds)
        self._clock = clock
        self._sleep = sleep
        self._links: dict[Key, LinkId] = {}
        self._readings: dict[LinkId, Reading] = {}
        self._counters: dict[LinkId, Counters] = {}
        self.on_published(source.states, {})
        source.listeners.append(self)

    def on_published(self, changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
        """Republish what the source has published."""
        last = {key: replace(state, statistics=self._known(key)) for key, state in deleted.items()}
        for key in deleted:
            self._relink(key, None)
        for key, state in changed.items():
            self._relink(key, state.link_id)
        self.hub.publish({key: self._with_counters(key, state) for key, state in changed.items()}, last)

    async def run(self) -> None:
        """Read at the interval, beginning now, until ``hub`` has no readers; for ever if ``permanent``."""
        due = self._clock()
        while self.permanent or self.hub.readers:
            await self.read()
            now = self._clock()
            due = max(due + self._seconds, now)
            await self._sleep(due - now)

    async def read(self) -> None:
        """Read the counters of every namespace in which a state has a link, and publish the states they change."""
        namespaces = {id.namespace for id in self._links.values()}
        if not namespaces:
            return
        now = self._clock()
        self.record(now, await self._kernel.counters(namespaces))
        for start in range(0, len(keys := list(self._links)), AT_A_TIME):
            self.publish(keys[start : start + AT_A_TIME])
            await anyio.lowlevel.checkpoint()

    def record(self, now: float, found: Mapping[LinkId, LinkCounters]) -> None:
        """Record a reading; a link that is missing from it keeps its last counters until its state is gone."""
        for id in set(self._links.values()):
            if (counters := found.get(id)) is None:
                continue
            before, reading = self._readings.get(id), Reading(now, counters)
            self._readings[id] = reading
            known = self._counters.get(id)
            if known is None or before is None or before.counters != counters or known.rates != NO_RATES:
                self._counters[id] = counted(reading, before)

    def publish(self, keys: Iterable[Key]) -> None:
        """Publish those of the states whose counters have changed."""
        changed: dict[Key, InterfaceState] = {}
        for key in keys:
            state = self.hub.states.get(key)
            if state is not None and state.statistics is not self._known(key):
                changed[key] = self._with_counters(key, state)
        self.hub.publish(changed, {})

    def stop(self) -> None:
        """Stop publishing."""
        self._source.listeners.remove(self)

    def _relink(self, key: Key, link: LinkId | None) -> None:
        before = self._links.pop(key, None)
        if link is not None:
            self._links[key] = link
        if before is not None and before != link:
            # A new link under the same name starts with counters of its own.
            self._readings.pop(before, None)
            self._counters.pop(before, None)

    def _known(self, key: Key) -> Counters | None:
        link = self._links.get(key)
        return None if link is None else self._counters.get(link)

    def _with_counters(self, key: Key, state: InterfaceState) -> InterfaceState:
        counters = self._known(key)
        return state if counters is None and state.statistics is None else replace(state, statistics=counters)
