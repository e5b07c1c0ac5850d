from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import anyio
import pytest
from kernel_rig import Rig, SimulatedExternal

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import OWN_NAMESPACE, named
from ifagent.core.operation import Operation, Target
from ifagent.core.operations import (
    AddAddress,
    CreateLink,
    CreateNamespace,
    DeleteLink,
    LinkEnd,
    MoveLink,
    RemoveNamespace,
    SetLink,
)
from ifagent.errors import AgentBug, KernelRefused, NamespaceUnavailable
from ifagent.kernel.simulated import SimulatedKernel

pytestmark = pytest.mark.anyio


@pytest.fixture
def kernel() -> SimulatedKernel:
    return SimulatedKernel()


@pytest.fixture
async def rig(kernel: SimulatedKernel) -> AsyncIterator[Rig]:
    """A simulated kernel with the namespaces ``a`` and ``b`` and the pair ``e0`` and ``e1`` in them."""
    async with Rig(kernel, SimulatedExternal(kernel)) as running:
        await running.add_namespaces("a", "b")
        await running.make_pair(("a", "e0"), ("b", "e1"))
        yield running


async def test_an_injected_failure_happens_as_often_as_said(kernel: SimulatedKernel, rig: Rig) -> None:
    kernel.fail_next(SetLink, errno.EBUSY, times=2, text="not now")
    change = SetLink(target=rig.target("a", "e0"), mtu=1400)
    for _ in range(2):
        (outcome,) = await rig.execute(change)
        assert (outcome.errno, outcome.text) == (errno.EBUSY, "not now")
        assert kernel.snapshot().link("a", "e0").mtu == 1500, "what fails is not done"
    assert await rig.do(change) == 0
    assert kernel.snapshot().link("a", "e0").mtu == 1400


async def test_an_injected_failure_meets_only_what_it_matches(kernel: SimulatedKernel, rig: Rig) -> None:
    kernel.fail_next(lambda operation: isinstance(operation, SetLink) and operation.mtu == 1300, errno.ENOBUFS)
    kernel.fail_next(DeleteLink, errno.EPERM)
    e0 = rig.target("a", "e0")
    assert await rig.do(SetLink(target=e0, mtu=1400)) == 0
    assert await rig.do(SetLink(target=e0, mtu=1300)) == errno.ENOBUFS
    assert await rig.do(SetLink(target=e0, mtu=1300)) == 0
    assert await rig.do(DeleteLink(e0)) == errno.EPERM
    assert await rig.do(DeleteLink(e0)) == 0


async def test_injected_failures_come_in_order(kernel: SimulatedKernel, rig: Rig) -> None:
    kernel.fail_next(SetLink, errno.EBUSY)
    kernel.fail_next(SetLink, errno.EAGAIN)
    change = SetLink(target=rig.target("a", "e0"), mtu=1400)
    assert [await rig.do(change) for _ in range(3)] == [errno.EBUSY, errno.EAGAIN, 0]


async def test_lost_notifications_end_in_a_new_listing(kernel: SimulatedKernel, rig: Rig) -> None:
    rig.events.clear()
    kernel.external.set_link("a", "e0", mtu=1400)
    kernel.external.delete_link("b", "e1")
    kernel.lose_notifications()
    kernel.drain()
    assert not any(isinstance(event, LinkSeen) for event in rig.events), "what was lost is not told"
    assert {event.namespace for event in rig.events if isinstance(event, LinksListed)} == {rig.id("a"), rig.id("b")}
    assert rig.host_names("a") == rig.host_names("b") == set()


async def test_events_wait_for_a_drain(kernel: SimulatedKernel, rig: Rig) -> None:
    rig.events.clear()
    await kernel.execute([])
    kernel.external.set_link("a", "e0", mtu=1400)
    assert rig.events == []
    kernel.drain()
    assert rig.link("a", "e0").mtu == 1400
    rig.events.clear()
    kernel.drain()
    assert rig.events == [], "nothing is told twice"


async def test_linux_is_silent_about_alias_and_group_of_a_link_that_is_down(kernel: SimulatedKernel, rig: Rig) -> None:
    rig.events.clear()
    kernel.external.set_link("a", "e0", alias="x", group=5)
    kernel.drain()
    assert rig.events == []
    kernel.external.set_link("a", "e0", up=True)
    kernel.external.set_link("a", "e0", alias="y")
    kernel.drain()
    assert (rig.link("a", "e0").alias, rig.link("a", "e0").group) == ("y", 5)


async def test_events_come_without_a_drain_too(kernel: SimulatedKernel, rig: Rig) -> None:
    kernel.external.set_link("a", "e0", mtu=1400)
    await rig.until(lambda: rig.link("a", "e0").mtu == 1400)


async def test_every_operation_is_counted(kernel: SimulatedKernel, rig: Rig) -> None:
    before = kernel.operations_executed
    kernel.fail_next(SetLink, errno.EBUSY)
    await rig.execute(SetLink(target=rig.target("a", "e0"), mtu=1400), SetLink(target=rig.target("b", "e1"), mtu=1))
    await rig.attach("a")
    kernel.external.set_link("a", "e0", mtu=1400)
    kernel.snapshot()
    assert kernel.operations_executed == before + 2


async def test_snapshots(kernel: SimulatedKernel, rig: Rig) -> None:
    before = kernel.snapshot()
    assert before == kernel.snapshot()
    assert set(before.namespaces) == {"a", "b"}
    assert set(before.links_in("a")) == {"lo", "e0"}
    assert set(before.links_in("")) == {"lo"}
    assert before.links_in("") == before.links_in(kernel.own)
    assert before.links_in("nobody") == {}
    assert before.link("a", "e0").peer == before.link("b", "e1").id
    with pytest.raises(KeyError):
        before.link("a", "e1")
    kernel.external.set_link("a", "e0", alias="x")
    assert kernel.snapshot() != before
    assert before.link("a", "e0").alias == ""
    assert rig.link("a", "e0").alias == ""


async def test_a_snapshot_shows_what_is_not_attached(kernel: SimulatedKernel) -> None:
    kernel.external.add_namespace("a")
    hidden = kernel.external.add_namespace_at("/proc/17/ns/net")
    kernel.external.add_veth("a", "e0", hidden, "e1")
    snapshot = kernel.snapshot()
    assert set(snapshot.namespaces) == {"a"}
    assert snapshot.link(hidden, "e1").peer == snapshot.link("a", "e0").id


async def test_a_namespace_reached_by_its_path(kernel: SimulatedKernel, rig: Rig) -> None:
    hidden = kernel.external.add_namespace_at("/proc/17/ns/net")
    with pytest.raises(NamespaceUnavailable):
        await rig.open(hidden, "/proc/18/ns/net")
    await rig.open(hidden, "/proc/17/ns/net")
    assert set(rig.names) == {named("a"), named("b")}
    e0 = rig.target("a", "e0")
    assert await rig.do(MoveLink(e0, hidden, HostName("eth0"))) == 0
    kernel.external.remove_namespace(hidden)
    assert rig.link("b", "e1").peer is not None, "it lives while it is attached"
    await kernel.detach(hidden)
    assert rig.host_names("b") == set()


async def test_outside_is_refused_as_the_kernel_refuses(kernel: SimulatedKernel) -> None:
    external = kernel.external
    external.add_namespace("a")
    external.add_link("a", "br", kind="bridge")
    attempts: list[tuple[Any, int]] = [
        (lambda: external.add_namespace("a"), errno.EEXIST),
        (lambda: external.remove_namespace("nobody"), errno.ENOENT),
        (lambda: external.remove_namespace(""), errno.EBUSY),
        (lambda: external.add_link("a", "br"), errno.EEXIST),
        (lambda: external.delete_link("a", "nobody"), errno.ENODEV),
        (lambda: external.set_link("a", "br", mtu=1), errno.EINVAL),
        (lambda: external.delete_address("a", "br", ip_interface("10.0.0.1/24")), errno.EADDRNOTAVAIL),
    ]
    for attempt, number in attempts:
        with pytest.raises(KernelRefused) as refused:
            attempt()
        assert refused.value.errno == number


async def test_the_world_outlives_a_run(kernel: SimulatedKernel) -> None:
    async with Rig(kernel, SimulatedExternal(kernel)) as rig:
        await rig.add_namespaces("a", "b")
        await rig.make_pair(("a", "e0"), ("b", "e1"))
        before = kernel.snapshot()
    assert kernel.snapshot() == before
    async with Rig(kernel, SimulatedExternal(kernel)) as rig:
        assert rig.picture == {}
        await rig.attach("a")
        assert rig.host_names("a") == {"e0"}


async def test_a_namespace_that_only_a_run_kept_ends_with_it(kernel: SimulatedKernel) -> None:
    async with Rig(kernel, SimulatedExternal(kernel)) as rig:
        await rig.add_namespaces("a", "b")
        await rig.make_pair(("a", "e0"), ("b", "e1"))
        kernel.external.remove_namespace("a")
        assert set(kernel.snapshot().links_in("b")) == {"lo", "e1"}
    assert set(kernel.snapshot().links_in("b")) == {"lo"}


TARGET = Target(NsId(0), HostName("e0"), 2)
END = LinkEnd(NsId(0), HostName("e0"), "", 1500)
FORBIDDEN: list[Operation] = [
    SetLink(target=TARGET),
    SetLink(target=replace(TARGET, ifindex=None), mtu=1400),
    SetLink(target=replace(TARGET, namespace=named("a")), mtu=1400),
    SetLink(target=TARGET, mtu="1400"),  # type: ignore[arg-type]
    SetLink(target=TARGET, mtu=True),
    SetLink(target=TARGET, mtu=-1),
    SetLink(target=TARGET, group=2**32),
    SetLink(target=TARGET, up=1),  # type: ignore[arg-type]
    SetLink(target=TARGET, mac="02:00:5E:00:00:01"),
    SetLink(target=TARGET, mac="02-00-5e-00-00-01"),
    SetLink(target=TARGET, mac=""),
    SetLink(target=TARGET, host_name=HostName("")),
    SetLink(target=TARGET, host_name=HostName("eth%d")),
    SetLink(target=TARGET, alias="a\0b"),
    MoveLink(TARGET, named("b"), HostName("e0")),
    MoveLink(TARGET, NsId(1), HostName("e0")),
    AddAddress(TARGET, "10.0.0.1/24"),  # type: ignore[arg-type]
    AddAddress(TARGET, ip_interface("fe80::1%eth0/64")),
    CreateLink("veth", (END, replace(END, namespace=NsId(1))), 0),
    CreateLink("veth", (END, replace(END, mac="xx")), 0),
    CreateLink("veth", (END, replace(END, host_name=HostName(""))), 0),
    CreateNamespace(OWN_NAMESPACE, "mark"),
    RemoveNamespace(OWN_NAMESPACE, NsId(0)),
]


@pytest.mark.parametrize("operation", FORBIDDEN, ids=repr)
async def test_what_the_contract_forbids_is_a_bug(kernel: SimulatedKernel, rig: Rig, operation: Any) -> None:
    a = rig.id("a")
    if isinstance(operation, CreateLink):
        ends = (end if end.namespace == NsId(1) else replace(end, namespace=a) for end in operation.ends)
        operation = replace(operation, ends=tuple(ends))
    elif hasattr(operation, "target") and operation.target.namespace == NsId(0):
        operation = replace(operation, target=replace(operation.target, namespace=a))
    before = kernel.snapshot()
    allowed = SetLink(target=rig.target("a", "e0"), mtu=1400)
    with pytest.raises(AgentBug):
        await rig.execute(allowed, operation)
    assert kernel.snapshot() == before, "nothing of a batch is done that has a bug in it"


async def test_an_operation_in_a_namespace_that_is_not_attached_is_a_bug(kernel: SimulatedKernel, rig: Rig) -> None:
    e0 = rig.target("a", "e0")
    await kernel.detach(rig.id("a"))
    with pytest.raises(AgentBug):
        await rig.execute(SetLink(target=e0, mtu=1400))


async def test_a_batch_whose_operations_depend_on_each_other_is_a_bug(rig: Rig) -> None:
    e0 = rig.target("a", "e0")
    with pytest.raises(AgentBug):
        await rig.execute(RemoveNamespace(named("a"), rig.id("a")), SetLink(target=e0, mtu=1400))


async def test_nothing_works_while_it_does_not_run(kernel: SimulatedKernel) -> None:
    with pytest.raises(AgentBug):
        await kernel.execute([CreateNamespace(named("a"), "mark")])
    with pytest.raises(AgentBug):
        kernel.drain()


async def test_it_runs_once_at_a_time(kernel: SimulatedKernel, rig: Rig) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with anyio.create_task_group() as group:
            await group.start(lambda **rest: kernel.run(rig.events.append, **rest))
    assert raised.group_contains(AgentBug)
