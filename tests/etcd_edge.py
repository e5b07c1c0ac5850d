"""The agent's edge to etcd without a kernel: a real index that a real source feeds, and states that are published."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from agent_view import FakeAgent, statistics
from etcd_server import until
from patience import PATIENCE

from ifagent.core.events import Event, SourceHealth
from ifagent.core.index import Index
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.core.link import NsId
from ifagent.core.names import Name
from ifagent.core.ownership import Owner
from ifagent.core.resources import by_name, interface_key
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.errors import SourceLost
from ifagent.statistics import SourceStatistics, Statistics
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.backoff import Backoff
from ifagent.stores.etcd.outlet import EtcdOutlet
from ifagent.stores.etcd.source import EtcdSource
from ifagent.stores.etcd.store import EtcdStore
from ifagent.stream import StateHub


def veth(name: str, peer: str = "peer", *, mtu: int = 0) -> Interface:
    return Interface(name=name, kind=Veth(peer_if_name=peer), enabled=True, mtu=mtu)


def state(name: str, *, mtu: int = 1500) -> InterfaceState:
    return InterfaceState(name=Name(name), config_state=ConfigState.APPLIED, mtu=mtu, last_change=1700000000.0)


class Edge:
    """What an agent called ``label`` at ``address`` has heard and published."""

    def __init__(self, address: EtcdAddress, label: str) -> None:
        self.address = address
        self.label = label
        self.index = Index(NsId(1), ["etcd"], Owner("vpp1"))
        self.health: list[SourceHealth] = []
        self.hub = StateHub()

    def emit(self, event: Event) -> None:
        self.index.fold(event)
        if isinstance(event, SourceHealth):
            self.health.append(event)

    @property
    def lost(self) -> bool:
        return bool(self.health and self.health[-1].problem)

    @property
    def heard(self) -> set[str]:
        return set(by_name(self.index.declared))

    def tell(self, told: InterfaceState) -> None:
        self.hub.publish({interface_key(told.name): told}, {})

    def take_back(self, name: str) -> None:
        self.hub.publish({}, {interface_key(name): self.hub.states[interface_key(Name(name))]})

    async def until_same_as(self, store: EtcdStore, *, within: float = 15) -> None:
        """Wait until the index is what the store says, and the store has the states."""
        differences: object = "nothing was compared"
        with anyio.move_on_after(within * PATIENCE):
            while differences:
                try:
                    wanted, published = await store.declarations(), await store.states()
                except SourceLost as error:
                    differences = error
                else:
                    declared, states = by_name(self.index.declared), by_name(self.hub.states)
                    differences = _different(declared, wanted) or _different(states, published)
                await anyio.sleep(0.02)
        assert not differences, differences
        await until(lambda: not self.lost)

    async def run(self) -> None:
        status = EtcdOutlet(self.address, self.label, ttl=3)
        async with anyio.create_task_group() as tg:
            tg.start_soon(EtcdSource(self.address, self.label).run, self.emit)
            tg.start_soon(status.run, FakeAgent(hub=self.hub, how=self.statistics))

    def statistics(self) -> Statistics:
        problem = self.health[-1].problem if self.health else ""
        source = SourceStatistics(name="etcd", synced=self.index.synced, problem=problem)
        return statistics(source, ready=self.index.synced)


def _different(ours: Mapping[Name, object], theirs: Mapping[Name, object]) -> list[object]:
    return [
        (name, ours.get(name), theirs.get(name)) for name in ours.keys() | theirs if ours.get(name) != theirs.get(name)
    ]


@asynccontextmanager
async def edge_to(address: EtcdAddress, label: str, store: EtcdStore) -> AsyncIterator[Edge]:
    """Have an edge that has heard of three interfaces through ``address``, and published their states."""
    await store.put([veth("a"), veth("b"), veth("c")])
    edge = Edge(address, label)
    for name in ("a", "b", "c"):
        edge.tell(state(name))
    async with anyio.create_task_group() as tg:
        tg.start_soon(edge.run)
        await edge.until_same_as(store)
        assert edge.heard == {"a", "b", "c"}
        yield edge
        tg.cancel_scope.cancel()


async def until_there(store: EtcdStore) -> None:
    """Wait until a store that was started again answers."""
    with anyio.fail_after(15 * PATIENCE):
        while True:
            try:
                await store.declarations()
            except SourceLost:
                await anyio.sleep(0.02)
            else:
                return


async def change_much(store: EtcdStore) -> None:
    """Put, change and delete."""
    await until_there(store)
    await store.put([veth("b", mtu=1400), veth("d")])
    await store.delete(["a"])
    await store.put([veth("e")])
    await store.delete(["e"])
    await store.put([veth("c", mtu=9000)])


class Attempts:
    """How often the store was tried, by whoever, since the last look.

    Whoever has an :meth:`impatient` address waits for ``longest`` seconds at most between two attempts.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, longest: float) -> None:
        self.waits: list[float] = []
        following = Backoff.next

        def noted(one: Backoff) -> float:
            self.waits.append(following(one))
            return self.waits[-1]

        monkeypatch.setattr(Backoff, "next", noted)
        self._longest = longest

    def impatient(self, address: EtcdAddress) -> EtcdAddress:
        """Return an address that is tried more often, everything else being the same."""
        return replace(address, limits=replace(address.limits, longest_wait=self._longest))

    async def until_slow(self) -> None:
        """Wait until the longest waits have come and gone, twice."""
        self.waits.clear()
        await until(lambda: len([wait for wait in self.waits if wait > self._longest / 2]) > 4, within=30)


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """Return how often something was logged."""
    return sum(record.getMessage().startswith(text) for record in caplog.records if record.levelno >= logging.INFO)
