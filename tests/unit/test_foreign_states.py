"""Other people's links in the state stream: what they are called, and when they come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import ip_interface

import anyio
import pytest
from keyed import keys_of
from world import veth

from ifagent import (
    Agent,
    AutoTap,
    Change,
    ConfigState,
    Interface,
    InterfaceState,
    NamespaceRef,
    NamespaceType,
    StateEvent,
    Status,
    named,
)
from ifagent.core.counters import LEAST_INTERVAL
from ifagent.core.foreign import foreign_name, foreign_state, way_to
from ifagent.core.link import Duplex, Link, LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import OWN_NAMESPACE
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import CreateLink
from ifagent.core.report import Beside
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.stream import Subscription

pytestmark = pytest.mark.anyio

A, B = veth("a", "b", "ns1", enabled=True), veth("b", "a", enabled=True)
PID = NamespaceRef(NamespaceType.PID, "77")
ETH0 = Link(id=LinkId(NsId(7), 3), host_name=HostName("eth0"), kind="bridge", mtu=1500)


# Names and states


def test_names() -> None:
    assert foreign_name(ETH0, OWN_NAMESPACE, ()) == "eth0"
    assert foreign_name(ETH0, named("ns1"), ()) == "eth0@named:ns1"
    assert foreign_name(ETH0, OWN_NAMESPACE, keys_of({"eth0"})) == "eth0#3"
    assert foreign_name(ETH0, named("ns1"), keys_of({"eth0"})) == "eth0@named:ns1"
    assert foreign_name(ETH0, OWN_NAMESPACE, keys_of({"eth0", "eth0#3"})) == "eth0#3#3"


def test_the_way_to_a_namespace_is_the_one_that_interfaces_use() -> None:
    assert way_to([], ()) is None
    assert way_to([PID, named("z")], {PID}) == PID
    assert way_to([PID, named("z"), named("a")], {PID, named("z")}) == named("z")
    assert way_to([PID, named("z"), named("a")], ()) == named("a")
    assert way_to([named("a"), OWN_NAMESPACE], {named("a")}) == OWN_NAMESPACE


@pytest.mark.parametrize(
    ("kind", "ifindex", "called", "reason"),
    [
        ("bridge", 3, "bridge", "no interface is declared for this link of kind bridge"),
        ("gre", 3, "tunnel", "no interface is declared for this link of kind gre"),
        ("", 3, "existing", "no interface is declared for this link"),
        ("", 1, "loopback", "no interface is declared for this loopback link"),
        ("veth", 3, "veth", "no interface is declared for this link of kind veth"),
        ("tun", 3, "tap", "no interface is declared for this link of kind tun"),
    ],
)
def test_what_is_told(kind: str, ifindex: int, called: str, reason: str) -> None:
    link = replace(ETH0, kind=kind, id=LinkId(NsId(7), ifindex))
    state = foreign_state(link, Beside(), "x", named("ns1"), 5.0)
    assert (state.config_state, state.type, state.reason) == (ConfigState.FOREIGN, called, reason)
    assert (state.namespace, state.link_id, state.internal_name) == (named("ns1"), link.id, "eth0")


def test_last_change_is_when_it_last_changed() -> None:
    first = foreign_state(ETH0, Beside(), "x", named("ns1"), 5.0)
    assert foreign_state(ETH0, Beside(), "x", named("ns1"), 6.0, first) is first
    assert foreign_state(replace(ETH0, mtu=1400), Beside(), "x", named("ns1"), 7.0, first).last_change == 7.0


# The agent


@pytest.fixture
def kernel() -> SimulatedKernel:
    kernel = SimulatedKernel()
    kernel.external.add_namespace("ns1")
    kernel.external.add_link("", "eth0", kind="")
    kernel.external.add_link("ns1", "eth0", kind="bridge")
    return kernel


@pytest.fixture
async def agent(kernel: SimulatedKernel) -> AsyncIterator[Agent]:
    async with Agent.open(kernel=kernel) as running:
        await running.resync([A, B])
        yield running


def ready(events: Subscription) -> list[tuple[Change, str]]:
    """Return what is there without a wait."""
    found = []
    while (event := events._next()) is not None:
        found.append((event.event, event.name))
    return found


async def until(events: Subscription, change: Change, name: str) -> InterfaceState:
    """Return the state with which an event tells of a name."""
    seen: list[StateEvent] = []
    with anyio.move_on_after(5):
        async for event in events:
            seen.append(event)
            if (event.event, event.name) == (change, name):
                assert event.state
                return event.state
    raise AssertionError(f"no {change} {name} in {[(event.event, event.name) for event in seen]}")


async def test_the_snapshot_has_them_at_once(agent: Agent) -> None:
    names = {name for _, name in ready(agent.states(foreign=True))}
    assert names == {"a", "b", "lo", "eth0", "lo@named:ns1", "eth0@named:ns1"}
    assert {name for _, name in ready(agent.states())} == {"a", "b"}
    assert set(agent.current_states()) == {"a", "b"}
    assert ConfigState.FOREIGN not in agent.statistics().interfaces


async def test_what_becomes_of_them_is_told(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(foreign=True)
    assert {change for change, _ in ready(events)} == {Change.SNAPSHOT}
    kernel.external.add_link("ns1", "br", kind="bridge")
    state = await until(events, Change.CREATED, "br@named:ns1")
    assert (state.admin_status, state.ip_addresses) == (Status.DOWN, ())
    kernel.external.set_link("ns1", "br", up=True, mtu=1400)
    state = await until(events, Change.CHANGED, "br@named:ns1")
    assert (state.admin_status, state.mtu) == (Status.UP, 1400)
    kernel.external.add_address("ns1", "br", ip_interface("10.0.0.1/24"))
    state = await until(events, Change.CHANGED, "br@named:ns1")
    assert list(map(str, state.ip_addresses)) == ["10.0.0.1/24"]
    kernel.external.set_link("ns1", "br", new_host_name="br1")
    assert (await until(events, Change.DELETED, "br@named:ns1")).oper_status is Status.DELETED
    await until(events, Change.CREATED, "br1@named:ns1")
    kernel.external.delete_link("ns1", "br1")
    await until(events, Change.DELETED, "br1@named:ns1")
    assert ready(events) == []


async def test_what_is_ours_never_shows_up_as_foreign(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(foreign=True)
    ready(events)
    await agent.resync([A, B, veth("c", "d", "ns2"), veth("d", "c")])
    assert {name for _, name in ready(events)} == {"c", "d", "lo@named:ns2"}
    await agent.delete("c")
    assert {name for _, name in ready(events)} - {""} == {"c", "d", "lo@named:ns2"}
    kernel.external.delete_link("ns1", "a")
    with anyio.fail_after(5):
        while kernel.snapshot().links_in("ns1").keys() != {"lo", "eth0", "a"} or not agent.state("a"):
            await anyio.sleep(0.01)
    assert {name for _, name in ready(events)} <= {"a", "b"}


class Halting(SimulatedKernel):
    """A kernel that waits before it carries out what comes after the creation of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = anyio.Event(), anyio.Event()

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        if not any(isinstance(operation, CreateLink) for operation in operations):
            self.reached.set()
            await self.go_on.wait()
        return await super().execute(operations)


async def test_who_asks_in_the_middle_of_a_round_is_not_told_of_what_is_just_made() -> None:
    kernel = Halting()
    kernel.external.add_namespace("ns1")
    async with Agent.open(kernel=kernel) as agent, anyio.create_task_group() as group:
        group.start_soon(agent.resync, [A, B])
        await kernel.reached.wait()
        assert kernel.snapshot().links_in("ns1").keys() == {"a", "lo"}
        events = agent.states(foreign=True)
        assert {name for _, name in ready(events)} == {"lo", "lo@named:ns1"}
        kernel.go_on.set()
        await agent.wait_for("a", timeout=5)
        assert set(ready(events)) == {(Change.CREATED, "a"), (Change.CREATED, "b")}


async def test_a_link_that_is_adopted_is_foreign_no_more_and_then_again(kernel: SimulatedKernel, agent: Agent) -> None:
    kernel.external.add_link("", "tap7", kind="tun")
    events = agent.states(foreign=True)
    assert (await until(events, Change.CREATED, "tap7")).speed == 10_000_000_000
    adopt = Interface(name="adopted", kind=AutoTap(temp_if_name="tap7"), host_if_name="tap7", enabled=True)
    assert (await agent.configure(adopt)).config_state is ConfigState.APPLIED
    assert [(c, n) for c, n in ready(events) if n != "adopted"] == [(Change.DELETED, "tap7")]
    await agent.delete("adopted")
    await until(events, Change.CREATED, "tap7")


async def test_an_interface_that_is_called_as_a_foreign_link(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(foreign=True)
    assert (Change.SNAPSHOT, "eth0") in ready(events)
    ifindex = kernel.snapshot().link("", "eth0").id.ifindex
    await agent.configure(veth("eth0", "nobody", "ns1"))
    assert ready(events) == [(Change.CHANGED, "eth0"), (Change.CREATED, f"eth0#{ifindex}")]
    assert {name for _, name in ready(agent.states(foreign=True))} >= {"eth0", f"eth0#{ifindex}", "eth0@named:ns1"}
    await agent.delete("eth0")
    assert {name for _, name in ready(events)} >= {"eth0", f"eth0#{ifindex}"}
    assert {name for _, name in ready(agent.states(foreign=True))} & {"eth0", f"eth0#{ifindex}"} == {"eth0"}


async def test_filters_are_for_them_too(kernel: SimulatedKernel, agent: Agent) -> None:
    def names(**wanted: object) -> set[str]:
        return {name for _, name in ready(agent.states(foreign=True, **wanted))}  # type: ignore[arg-type]

    assert names(namespace=named("ns1")) == {"a", "lo@named:ns1", "eth0@named:ns1"}
    assert names(kind="existing") == {"eth0"}
    assert names(name="eth0@named:ns1") == {"eth0@named:ns1"}
    watching = agent.states(foreign=True, name="eth9")
    kernel.external.add_link("", "eth9")
    await until(watching, Change.CREATED, "eth9")
    assert names(names=["eth9", "a"]) == {"eth9", "a"}


async def test_a_namespace_that_is_no_longer_in_use_takes_its_links_away(agent: Agent) -> None:
    events = agent.states(foreign=True, namespace=named("ns1"))
    ready(events)
    await agent.resync([])
    assert set(ready(events)) == {(Change.DELETED, name) for name in ("a", "lo@named:ns1", "eth0@named:ns1")}


async def test_it_costs_nothing_while_nobody_asks(agent: Agent) -> None:
    assert agent._hub.listeners == []
    asking = agent.states(foreign=True)
    assert len(agent._hub.listeners) == 1
    assert agent.statistics().subscribers == 1
    assert ready(asking)
    del asking
    await agent.resync()
    assert agent._hub.listeners == []


async def test_they_have_counters_if_asked(kernel: SimulatedKernel, agent: Agent) -> None:
    kernel.external.set_link("", "eth0", up=True)
    events = agent.states(foreign=True, counters=LEAST_INTERVAL, name="eth0")
    kernel.external.send("", "eth0", packets=3)
    with anyio.fail_after(5):
        async for event in events:
            if event.state and event.state.statistics and event.state.statistics.out_packets == 3:
                break
    assert event.state
    assert (event.state.config_state, event.state.duplex) == (ConfigState.FOREIGN, Duplex.UNKNOWN)
    del event, events
    with anyio.fail_after(5):
        while agent._streams._counted:
            await anyio.sleep(0.01)
    await agent.resync()
    assert agent._hub.listeners == []


async def test_a_slow_reader_is_told_what_it_missed(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(foreign=True, name="eth0")
    fresh = agent.states(foreign=True, name="eth0")
    ready(events)
    ready(fresh)
    for mtu in (1400, 1401, 1402):
        kernel.external.set_link("", "eth0", mtu=mtu)
        with anyio.fail_after(5):
            while (event := await anext(fresh)).state is None or event.state.mtu != mtu:
                pass
    gap, last = await anext(events), await anext(events)
    assert (gap.event, gap.missed) == (Change.GAP, 2)
    assert last.state
    assert last.state.mtu == 1402


async def test_who_asks_after_the_end_gets_the_last_of_them(kernel: SimulatedKernel) -> None:
    async with Agent.open(kernel=kernel) as agent:
        await agent.resync([A, B])
    names = {event.name async for event in agent.states(foreign=True)}
    assert names >= {"a", "b"}
