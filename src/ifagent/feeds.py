"""All streams of states: the ordinary one, and those with more in them, which are there while somebody reads them."""

from __future__ import annotations

import anyio

from ifagent.core.index import Index
from ifagent.counting import CountedStates
from ifagent.foreign import ForeignStates
from ifagent.kernel.contract import Kernel
from ifagent.stream import StateHub


class Feeds:
    """Makes a hub of states for every combination of options that readers ask for; readers with the same share one."""

    def __init__(self, hub: StateHub, index: Index, kernel: Kernel) -> None:
        self._hub = hub
        self._index = index
        self._kernel = kernel
        self._foreign: ForeignStates | None = None
        self._counted: dict[tuple[bool, float], CountedStates] = {}
        self._new: list[tuple[bool, float]] = []
        self._asked = anyio.Event()
        self._closed = False

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return sum(hub.readers for hub in self._hubs())

    def hub(self, *, foreign: bool = False, counters: float | None = None, keep: bool = False) -> StateHub:
        """Return the hub of states with ``foreign`` links, and with ``counters`` read at that interval in seconds.

        It is dropped again when it has no readers, so subscribe before the next ``await``; with ``keep`` it is never
        dropped. Raises :class:`ifagent.errors.InvalidSettings` for an interval that is too short.
        """
        source = self._with_foreign() if foreign else self._hub
        return source if counters is None else self._with_counters(source, (foreign, counters), keep=keep)

    async def run(self) -> None:
        """Read counters for those who ask, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                for key in self._new:
                    group.start_soon(self._count, key)
                self._new.clear()
                await self._asked.wait()
                self._asked = anyio.Event()

    def look(self) -> None:
        """Take note of other people's links, if anybody asks for them; to be called after every round, at once."""
        if self._foreign is None:
            return
        if self._foreign.hub.readers or self._foreign.hub.followers:
            self._foreign.look()
        else:
            self._foreign.stop()
            self._foreign = None

    def close(self) -> None:
        """End every subscription after what is there already, and those to come after their snapshot."""
        self._closed = True
        for hub in self._hubs():
            hub.close()

    def tidy(self) -> None:
        """Drop at once what no reader has to hear any more."""
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

    def _with_counters(self, source: StateHub, key: tuple[bool, float], *, keep: bool) -> StateHub:
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = CountedStates(source, self._kernel, key[1])
            if self._closed:
                counted.hub.close()
            self._new.append(key)
            self._asked.set()
        counted.kept = counted.kept or keep
        return counted.hub

    async def _count(self, key: tuple[bool, float]) -> None:
        counted = self._counted[key]
        await counted.run()
        # Nobody has had a turn since the last reader was missed.
        del self._counted[key]
        counted.stop()
