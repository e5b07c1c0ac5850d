"""The state stream with counters in it, for readers who ask for them.

Nothing is read while nobody asks. While somebody does, what a hub publishes is published again in a hub of their own,
with the counters of the last reading, and so is, after every reading, what has counted since the one before.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import anyio
import anyio.lowlevel

from ifagent.core.counters import LEAST_INTERVAL, NO_RATES, Counters, LinkCounters, Reading, counted
from ifagent.core.interface import Name
from ifagent.core.link import LinkId
from ifagent.core.state import InterfaceState
from ifagent.errors import InvalidSettings
from ifagent.kernel.contract import Kernel
from ifagent.stream import StateHub

AT_A_TIME = 100
"""Most states that are published in one turn of the event loop, so that the agent has its turns between."""


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
        self._links: dict[Name, LinkId] = {}
        self._readings: dict[LinkId, Reading] = {}
        self._counters: dict[LinkId, Counters] = {}
        self.pass_on(source.states, {})
        source.followers.append(self)

    def pass_on(self, changed: Mapping[Name, InterfaceState], deleted: Mapping[Name, InterfaceState]) -> None:
        """Publish what the source has published."""
        last = {name: replace(state, statistics=self._known(name)) for name, state in deleted.items()}
        for name in deleted:
            self._relink(name, None)
        for name, state in changed.items():
            self._relink(name, state.link_id)
        self.hub.publish({name: self._with_counters(name, state) for name, state in changed.items()}, last)

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
        namespaces = {id.namespace for id in self._links.values()}
        if not namespaces:
            return
        now = self._clock()
        self.note(now, await self._kernel.counters(namespaces))
        for start in range(0, len(names := list(self._links)), AT_A_TIME):
            self.tell(names[start : start + AT_A_TIME])
            await anyio.lowlevel.checkpoint()

    def note(self, now: float, found: Mapping[LinkId, LinkCounters]) -> None:
        """Note a reading; a link that is not in it keeps what is known of it until its state says that it is gone."""
        for id in set(self._links.values()):
            if (counters := found.get(id)) is None:
                continue
            before, reading = self._readings.get(id), Reading(now, counters)
            self._readings[id] = reading
            known = self._counters.get(id)
            if known is None or before is None or before.counters != counters or known.rates != NO_RATES:
                self._counters[id] = counted(reading, before)

    def tell(self, names: Iterable[Name]) -> None:
        """Publish those of these states whose counters are new."""
        changed: dict[Name, InterfaceState] = {}
        for name in names:
            state = self.hub.states.get(name)
            if state is not None and state.statistics is not self._known(name):
                changed[name] = self._with_counters(name, state)
        self.hub.publish(changed, {})

    def stop(self) -> None:
        """Publish no more."""
        self._source.followers.remove(self)

    def _relink(self, name: Name, link: LinkId | None) -> None:
        before = self._links.pop(name, None)
        if link is not None:
            self._links[name] = link
        if before is not None and before != link:
            # If its place is taken by another link, that has counted nothing yet.
            self._readings.pop(before, None)
            self._counters.pop(before, None)

    def _known(self, name: Name) -> Counters | None:
        link = self._links.get(name)
        return None if link is None else self._counters.get(link)

    def _with_counters(self, name: Name, state: InterfaceState) -> InterfaceState:
        counters = self._known(name)
        return state if counters is None and state.statistics is None else replace(state, statistics=counters)
