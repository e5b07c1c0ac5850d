"""All streams of states: the plain one, and those with counters or foreign links while they have readers."""

from __future__ import annotations

import anyio

from ifagent.core.index import Index
from ifagent.counter_stream import CounterStream
from ifagent.foreign_states import ForeignStates
from ifagent.kernel.contract import Kernel
from ifagent.stream import StateHub


class StateStreams:
    """Has a hub of states for each combination of options; readers with the same options share one."""

    def __init__(self, hub: StateHub, index: Index, kernel: Kernel) -> None:
        self._hub = hub
        self._index = index
        self._kernel = kernel
        self._foreign: ForeignStates | None = None
        self._counted: dict[tuple[bool, float], CounterStream] = {}
        self._to_start: list[tuple[bool, float]] = []
        self._start_requested = anyio.Event()
        self._closed = False

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return sum(hub.readers for hub in self._hubs())

    def hub(self, *, foreign: bool = False, counters: float | None = None, permanent: bool = False) -> StateHub:
        """Return the hub of states with ``foreign`` links, and with ``counters`` read at that interval in seconds.

        It is dropped when it has no readers, so subscribe before the next ``await``; one that is ``permanent`` is never
        dropped. Raises :class:`ifagent.errors.InvalidSettings` for an interval that is too short.
        """
        source = self._with_foreign() if foreign else self._hub
        return source if counters is None else self._with_counters(source, (foreign, counters), permanent=permanent)

    async def run(self) -> None:
        """Read counters for as long as they have readers, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                for key in self._to_start:
                    group.start_soon(self._count, key)
                self._to_start.clear()
                await self._start_requested.wait()
                self._start_requested = anyio.Event()

    def refresh_foreign(self) -> None:
        """Publish changes of foreign links, if they have readers; call it after every round, before the next await."""
        if self._foreign is None:
            return
        if self._foreign.hub.readers or self._foreign.hub.listeners:
            self._foreign.refresh()
        else:
            self._foreign.stop()
            self._foreign = None

    def close(self) -> None:
        """End every subscription after its pending events, and later ones after their snapshot."""
        self._closed = True
        for hub in self._hubs():
            hub.close()

    def tidy(self) -> None:
        """Drop what no reader needs any more."""
        for hub in self._hubs():
            hub.tidy()

    def _hubs(self) -> list[StateHub]:
        foreign = [] if self._foreign is None else [self._foreign.hub]
        return [self._hub, *(counted.hub for counted in self._counted.values()), *foreign]

    def _with_foreign(self) -> StateHub:
        if self._foreign is None:
            self._foreign = ForeignStates(self._hub, self._index)
            if self._closed:
                self._foreign.hub.close()
        return self._foreign.hub

    def _with_counters(self, source: StateHub, key: tuple[bool, float], *, permanent: bool) -> StateHub:
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = CounterStream(source, self._kernel, key[1])
            if self._closed:
                counted.hub.close()
            self._to_start.append(key)
            self._start_requested.set()
        counted.permanent = counted.permanent or permanent
        return counted.hub

    async def _count(self, key: tuple[bool, float]) -> None:
        counted = self._counted[key]
        await counted.run()
        # No other task has run since the last reader was seen to be gone.
        del self._counted[key]
        counted.stop()
