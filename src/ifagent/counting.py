"""The state stream with counters in it, for readers who ask for them.

Nothing is read while nobody asks. While somebody does, what a hub publishes is published again in a hub of their own,
with the counters of the last reading, and so is, after every reading, what has counted since the one before.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import anyio

from ifagent.core.counters import LEAST_INTERVAL, Counters, LinkCounters, Reading, counted
from ifagent.core.interface import Name
from ifagent.core.link import LinkId
from ifagent.core.state import InterfaceState
from ifagent.errors import InvalidSettings
from ifagent.kernel.contract import Kernel
from ifagent.stream import StateHub


def check_interval(seconds: float) -> float:
    """Return the interval. Raises :class:`InvalidSettings` if counters cannot be read so often."""
    if not LEAST_INTERVAL <= seconds < math.inf:
        raise InvalidSettings(f"counters are read every {LEAST_INTERVAL} s or less often, not every {seconds} s")
    return seconds


class CountedStates:
    """Publishes in ``hub`` what ``source`` does, with counters that are read every ``seconds``.

    All its readers share one reading. ``kept`` says that it is needed whether it has readers or not. ``clock`` returns
    monotonic seconds, ``sleep`` waits for so many.
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
        self.kept: bool = False
        self._source = source
        self._kernel = kernel
        self._seconds = check_interval(seconds)
        self._clock = clock
        self._sleep = sleep
        self._readings: dict[LinkId, Reading] = {}
        self._counters: dict[LinkId, Counters] = {}
        self.hub.publish(source.states, {})
        source.followers.append(self)

    def pass_on(self, changed: Mapping[Name, InterfaceState], deleted: Mapping[Name, InterfaceState]) -> None:
        """Publish what the source has published."""
        for name in changed.keys() | deleted.keys():
            before, after = self.hub.states.get(name), changed.get(name)
            if before is not None and before.link_id is not None and (not after or after.link_id != before.link_id):
                # If its place is taken by another link, that has counted nothing yet.
                self._readings.pop(before.link_id, None)
                self._counters.pop(before.link_id, None)
        last = {name: replace(state, statistics=self._last(name)) for name, state in deleted.items()}
        self.hub.publish({name: self._with_counters(state) for name, state in changed.items()}, last)

    async def run(self) -> None:
        """Read regularly, beginning now, until nobody reads ``hub``, or for good if it is ``kept``."""
        due = self._clock()
        while self.kept or self.hub.readers:
            await self.read()
            now = self._clock()
            due = max(due + self._seconds, now)
            await self._sleep(due - now)

    async def read(self) -> None:
        """Read the counters of every namespace in which a state has a link, and publish the states they change."""
        namespaces = {state.link_id.namespace for state in self.hub.states.values() if state.link_id}
        if not namespaces:
            return
        now = self._clock()
        self._take(now, await self._kernel.counters(namespaces))

    def stop(self) -> None:
        """Publish no more."""
        self._source.followers.remove(self)

    def _take(self, now: float, found: Mapping[LinkId, LinkCounters]) -> None:
        """Note a reading; a link that is not in it keeps what is known of it until its state says that it is gone."""
        for id in found.keys() & {state.link_id for state in self.hub.states.values()}:
            reading = Reading(now, found[id])
            self._counters[id] = counted(reading, self._readings.get(id))
            self._readings[id] = reading
        new = {name: self._with_counters(state) for name, state in self.hub.states.items()}
        self.hub.publish({name: state for name, state in new.items() if state is not self.hub.states[name]}, {})

    def _with_counters(self, state: InterfaceState) -> InterfaceState:
        counters = self._counters.get(state.link_id) if state.link_id else None
        return state if counters == state.statistics else replace(state, statistics=counters)

    def _last(self, name: Name) -> Counters | None:
        before = self.hub.states.get(name)
        return before.statistics if before else None
