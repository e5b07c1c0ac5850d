"""The client for programs on other machines: a real etcd that restarts, and an agent that waits for its revisions."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest
from anyio import to_thread
from etcd_server import EtcdServer

from ifagent import Agent, Change, ConfigState, Interface, RevisionNotApplied, Settings, StateEvent, Veth
from ifagent.client import open_store, watch
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.stores.etcd.outlet import EtcdOutlet
from ifagent.stores.etcd.source import EtcdSource

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

A = Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True)
B = Interface(name="b", kind=Veth(peer_if_name="a"), enabled=True)


async def test_a_watch_from_elsewhere_survives_etcd(own_etcd: EtcdServer, label: str) -> None:
    url = str(own_etcd.address)
    told: list[StateEvent] = []

    async def follow() -> None:
        async with aclosing(watch(url, label=label, names=["a"])) as events:
            async for event in events:
                told.append(event)  # noqa: PERF401 it is read meanwhile

    async def until_mtu(mtu: int) -> None:
        with anyio.fail_after(20):
            while not (told and told[-1].state and told[-1].state.mtu == mtu):
                await anyio.sleep(0.01)

    source = EtcdSource(own_etcd.address, label)
    async with (
        open_store(url, label=label) as store,
        Agent.open(Settings(label=label), sources=[source], kernel=SimulatedKernel()) as agent,
        anyio.create_task_group() as group,
    ):
        status = EtcdOutlet(own_etcd.address, label)
        await group.start(status.run, agent)
        group.start_soon(follow)
        await agent.wait_for_revision(await store.put([A, B]), timeout=20)
        await until_mtu(1500)
        await to_thread.run_sync(own_etcd.kill)
        await to_thread.run_sync(own_etcd.start)
        with anyio.fail_after(20):
            revision = await store.put([Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True, mtu=1400)])
        await agent.wait_for_revision(revision, timeout=20)
        await until_mtu(1400)
        group.cancel_scope.cancel()
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert {event.name for event in told} == {"a"}
    assert told[-1].event is Change.CHANGED


async def test_an_agent_waits_for_a_revision_of_etcd(etcd: EtcdServer, label: str) -> None:
    source = EtcdSource(etcd.address, label)
    async with (
        open_store(str(etcd.address), label=label) as store,
        Agent.open(Settings(label=label), sources=[source], kernel=SimulatedKernel()) as agent,
    ):
        revision = await store.put([A])
        with pytest.raises(RevisionNotApplied, match="'a' PENDING: peer b is not declared"):
            await agent.wait_for_revision(revision, timeout=0.5)
        revision = await store.put([B])
        await agent.wait_for_revision(revision, timeout=20)
        states = agent.current_states().values()
        assert {state.config_state for state in states} == {ConfigState.APPLIED}
        await store.delete(["a", "b"])
        await agent.wait_for_revision(revision + 1, timeout=20)
        assert agent.current_states() == {}
