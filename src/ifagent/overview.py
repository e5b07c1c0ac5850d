"""How the agent is, and what it has counted, put together when somebody asks."""

from __future__ import annotations

from types import MappingProxyType

from ifagent.core.counters import Counters
from ifagent.core.names import Name
from ifagent.core.state import DECLARED_STATES
from ifagent.loop import Loop
from ifagent.state_streams import StateStreams
from ifagent.statistics import Health, SourceStatistics, Statistics
from ifagent.stream import StateHub


class Overview:
    """Looks at the agent's parts. ``published`` has the states with counters, if the settings have these read."""

    def __init__(self, loop: Loop, streams: StateStreams, published: StateHub, *, counts_links: bool) -> None:
        self._loop = loop
        self._counters = loop.reconciler.counters
        self._index = loop.reconciler.index
        self._streams = streams
        self._published = published
        self._counts_links = counts_links

    def health(self) -> Health:
        """Return whether the agent is alive and ready now; it costs nothing however many interfaces there are."""
        declarations = self._index.declarations
        unheard = set(declarations.unheard)
        return Health(
            ready=self._loop.ready.is_set() and not self._loop.ended,
            ended=self._loop.ended,
            stalled_for=self._counters.stalled_for,
            sources=tuple(
                SourceStatistics(name=name, synced=name not in unheard, problem=declarations.problems.get(name, ""))
                for name in declarations.sources
            ),
        )

    def statistics(self) -> Statistics:
        """Return what has been counted and how the agent is now; later changes are not seen in it."""
        health, counters = self.health(), self._counters
        return Statistics(
            ready=health.ready,
            ended=health.ended,
            stalled_for=health.stalled_for,
            sources=health.sources,
            rounds=counters.rounds,
            operations=MappingProxyType(dict(counters.operations)),
            reaction=counters.histogram(),
            inbox=len(self._loop.inbox),
            namespaces=self._index.attached_count,
            subscribers=self._streams.readers,
            interfaces=MappingProxyType({state: self._published.counts[state] for state in DECLARED_STATES}),
            counters=MappingProxyType(self._links_counters()),
        )

    def _links_counters(self) -> dict[Name, Counters]:
        """Return what the links have counted; without an interval none of very many states is looked at for that."""
        if not self._counts_links:
            return {}
        return {state.name: state.statistics for state in self._published.states.values() if state.statistics}
