"""Whatever somebody does in his namespace, with his values or to what the agent asks: others are served (T4, T14)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_interface
from types import TracebackType
from typing import Any, Self

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ifagent import Agent, ConfigState, Existing, Interface, Memory, NamespaceRef, Settings, Veth, named
from ifagent.core.events import Event, LinksListed, NamespaceBehind
from ifagent.core.link import NsId
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import DeleteAddress, SetLink
from ifagent.core.planner import plan
from ifagent.errors import NamespaceUnavailable
from ifagent.host_routes import PATIENCE
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.reconciler import Reconciler

pytestmark = pytest.mark.anyio

SOON = 10
"""Seconds that are more than enough for what takes a few milliseconds."""


def veth(name: str, peer: str, namespace: str = "", **fields: Any) -> Interface:
    place = named(namespace) if namespace else NamespaceRef()
    return Interface(name=name, kind=Veth(peer_if_name=peer), namespace=place, enabled=True, **fields)


U = (veth("u0", "u1"), veth("u1", "u0", "unrelated"))
"""A pair that nobody attacks."""


class Kernel(SimulatedKernel):
    """A kernel that can be made to hang, and that is asked what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs: Callable[[Operation], bool] = lambda _: False
        self.opening_hangs: Callable[[NsId], bool] = lambda _: False
        self.not_to_be_entered: set[NsId] = set()
        self.asked: list[Operation] = []
        self.opened: list[NsId] = []
        self.never = anyio.Event()

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        self.asked += operations
        if any(map(self.hangs, operations)):
            await self.never.wait()
        return await super().execute(operations)

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        self.opened += paths
        if any(map(self.opening_hangs, paths)):
            await self.never.wait()
        refused = {id: NamespaceUnavailable("not for you") for id in paths if id in self.not_to_be_entered}
        return refused | await super().attach({id: path for id, path in paths.items() if id not in refused})


@asynccontextmanager
async def running(
    kernel: SimulatedKernel, *interfaces: Interface, settings: Settings | None = None
) -> AsyncIterator[Agent]:
    async with Agent.open(settings, kernel=kernel, sources=[Memory(interfaces)]) as agent:
        with anyio.fail_after(SOON):
            for interface in U:
                if interface in interfaces:
                    await agent.wait_for(interface.name)
        yield agent


@pytest.fixture
def plannings(monkeypatch: pytest.MonkeyPatch) -> list[Collection[str]]:
    """For which interfaces something was planned, each time."""
    seen: list[Collection[str]] = []

    def watched(desired: Any, *others: Any) -> Any:
        seen.append(list(desired.interfaces))
        return plan(desired, *others)

    defaults = Reconciler.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "plan", watched)
    return seen


class Held:
    """How much processor time the event loop is held for at most before others have a turn, in seconds."""

    async def __aenter__(self) -> Self:
        self.worst = 0.0
        self._task = asyncio.create_task(self._beat())
        await checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _beat(self) -> None:
        while True:
            before = time.thread_time()
            await checkpoint()
            self.worst = max(self.worst, time.thread_time() - before)


# What is nobody's business


async def test_links_that_no_interface_has_to_do_with_are_not_planned_for(plannings: list[Collection[str]]) -> None:
    kernel = Kernel()
    async with running(kernel, *U) as agent:
        kernel.external.add_link("unrelated", "theirs")
        await agent.resync()
        plannings.clear()
        for number in range(100):
            address = ip_interface("10.9.9.9/24")
            kernel.external.add_address("unrelated", "theirs", address)
            await anyio.wait_all_tasks_blocked()
            kernel.external.delete_address("unrelated", "theirs", address)
            kernel.external.set_link("unrelated", "theirs", mtu=1300 + number, up=number % 2 == 0)
            await anyio.wait_all_tasks_blocked()
        assert plannings == []
        kernel.external.set_link("unrelated", "u1", mtu=1300)
        with anyio.fail_after(SOON):
            while not plannings:  # what somebody does to a link of ours is
                await checkpoint()


async def test_namespaces_that_nobody_refers_to_hold_up_nothing() -> None:
    kernel = Kernel()
    for number in range(200):
        kernel.external.add_namespace(f"x{number}")
    async with running(kernel, *U) as agent:
        kernel.opened.clear()
        for number in range(200):
            kernel.external.add_namespace(f"y{number}")
        await checkpoint()
        await agent.configure(veth("v0", "v1"))
        assert len(kernel.opened) < 50
        with anyio.fail_after(6 * SOON):
            while len(set(kernel.opened)) < 200:
                await checkpoint()


# Who makes much work


async def test_a_change_does_not_wait_for_thousands_of_new_interfaces() -> None:
    kernel = Kernel()
    many = [veth(f"m{n}{a}", f"m{n}{b}", f"s{n % 5}") for n in range(150) for a, b in ("ab", "ba")]
    flood = Memory(name="flood")
    async with Agent.open(kernel=kernel, sources=[flood]) as agent:
        for interface in U:
            await agent.configure(interface)
        before = kernel.operations_executed
        flood.replace(many)
        assert (await agent.modify("u0", mtu=1300)).mtu == 1300
        assert kernel.operations_executed - before < 300, "the change came after most of the others"
        with anyio.fail_after(6 * SOON):
            for interface in many:
                await agent.wait_for(interface.name)


async def test_planning_and_telling_of_thousands_does_not_hold_the_loop() -> None:
    many = [veth(f"m{n}{a}", f"m{n}{b}") for n in range(1_500) for a, b in ("ab", "ba")]
    source = Memory()
    async with Agent.open(kernel=Kernel(), sources=[source]) as agent, Held() as held:
        source.replace(many)
        with anyio.fail_after(6 * SOON):
            for interface in many:
                await agent.wait_for(interface.name)
        source.replace([])
        with anyio.fail_after(6 * SOON):
            while agent.current_states():
                await anyio.sleep(0.01)
    assert held.worst < 0.4, "all in one go takes a second"


async def test_a_declaration_that_changes_all_the_time_is_planned_now_and_then(
    plannings: list[Collection[str]],
) -> None:
    noisy = Memory([veth("n0", "n1"), veth("n1", "n0")], name="noisy")
    async with Agent.open(kernel=Kernel(), sources=[noisy]) as agent:
        await agent.wait_for("n0")
        plannings.clear()
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 1:
            number += 1
            noisy.set(veth("n0", "n1", mtu=1300 + number % 100))
            for _ in range(20):
                await checkpoint()
        assert number > 200
        assert len(plannings) < number / 2
        # Either end, and the pair once more after each of its changes.
        assert len(plannings) <= 3 * (20 + 20 * (time.monotonic() - began)) + 5
        with anyio.fail_after(SOON):
            while (state := agent.state("n0")) is None or state.mtu != 1300 + number % 100:
                await checkpoint()


async def test_thousands_of_addresses_on_one_link_hold_up_nobody_else() -> None:
    kernel = Kernel()
    async with running(kernel, *U, veth("h0", "h1"), veth("h1", "h0", "hostile")) as agent:
        await agent.wait_for("h1")
        for number in range(1_000):
            kernel.external.add_address("hostile", "h1", ip_interface(f"10.{number >> 8}.{number & 255}.1/32"))
        with anyio.fail_after(6 * SOON):
            while not any(isinstance(operation, DeleteAddress) for operation in kernel.asked):
                await checkpoint()
            kernel.external.set_link("unrelated", "u1", mtu=1300)
            while not any(isinstance(op, SetLink) and op.mtu == 1500 for op in kernel.asked):
                await checkpoint()
            gone = sum(isinstance(operation, DeleteAddress) for operation in kernel.asked)
            assert gone < 700, "the repair came after most of them"
            while not all(a.made_by_kernel for a in kernel.snapshot().link("hostile", "h1").addresses):
                await anyio.sleep(0.01)


# Who is slow


async def test_what_the_kernel_does_not_answer_holds_up_nobody_else() -> None:
    kernel = Kernel()
    async with running(kernel, *U, veth("h0", "h1"), veth("h1", "h0", "hostile")) as agent:
        await agent.wait_for("h0")
        kernel.hangs = lambda operation: isinstance(operation, SetLink) and operation.mtu == 1280
        kernel.external.set_link("hostile", "h1", mtu=1280)
        async with anyio.create_task_group() as group:
            group.start_soon(agent.configure, veth("h0", "h1", mtu=1280))
            with anyio.fail_after(SOON):
                while not any(map(kernel.hangs, kernel.asked)):
                    await checkpoint()
                for mtu in (1300, 1301, 1302):
                    await agent.configure(veth("v0", "v1", mtu=mtu))
                    await agent.configure(veth("v1", "v0", "unrelated"))
                    await agent.wait_for("v0")
            group.cancel_scope.cancel()


async def test_a_namespace_that_cannot_be_opened_for_long_holds_up_nobody_else() -> None:
    kernel = Kernel()
    kernel.external.add_namespace("hostile")
    hostile = kernel.snapshot().namespaces["hostile"]
    kernel.opening_hangs = lambda namespace: namespace == hostile
    async with anyio.create_task_group() as group:
        agent = Agent(kernel=kernel, sources=[Memory(U)])
        group.start_soon(agent.run)
        with anyio.fail_after(SOON):
            await agent.wait_for("u1")
            while hostile not in kernel.opened:
                await checkpoint()
            assert (await agent.configure(veth("v0", "v1"))).config_state is ConfigState.PENDING
            await agent.configure(veth("v1", "v0"))
            await agent.wait_for("v0")
        group.cancel_scope.cancel()


async def test_a_namespace_that_may_not_be_entered_is_tried_once_a_second() -> None:
    kernel = Kernel()
    kernel.external.add_namespace("closed")
    closed = kernel.snapshot().namespaces["closed"]
    kernel.not_to_be_entered.add(closed)
    async with running(kernel, *U, veth("c0", "c1", "closed"), veth("c1", "c0")) as agent:
        await agent.configure(veth("v0", "v1"))
        began = time.monotonic()
        for number in range(100):
            await agent.configure(veth(f"w{number}", "v1"))
        assert kernel.opened.count(closed) <= 2 + time.monotonic() - began
        state = agent.state("c0")
        assert state is not None
        assert "not for you" in state.reason
        kernel.not_to_be_entered.clear()
        with anyio.fail_after(SOON):
            await agent.wait_for("c0")


async def test_names_that_are_not_looked_up_hold_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote(Memory):
        hosts = ("etcd.example",)

    kernel, asked = Kernel(), anyio.Event()
    kernel.external.add_link(kernel.own, "eth7")

    async def never(*_: object, **__: object) -> object:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr("ifagent.host_routes.anyio.to_thread.run_sync", never)
    settings = Settings(allow_existing=("eth*",))
    existing = Interface(
        name="e", kind=Existing(), host_if_name="eth7", enabled=True, ip_addresses=(ip_interface("10.0.0.1/24"),)
    )
    async with Agent.open(settings, kernel=kernel, sources=[Remote([*U, existing])]) as agent:
        with anyio.fail_after(SOON):
            await asked.wait()
            began = time.monotonic()
            for mtu in (1300, 1301, 1302):
                await agent.configure(veth("v0", "v1", "there", mtu=mtu))
            assert time.monotonic() - began < PATIENCE
            await agent.wait_for("e")


# Who is noisy


async def test_nothing_is_done_in_a_namespace_of_which_too_little_is_known() -> None:
    kernel = Kernel()
    async with running(kernel, *U, veth("h0", "h1"), veth("h1", "h0", "hostile")) as agent:
        await agent.wait_for("h1")
        hostile = kernel.snapshot().namespaces["hostile"]
        told = agent.state("h1")
        agent._inbox.put(NamespaceBehind(hostile, behind=True))
        kernel.asked.clear()
        kernel.external.set_link("hostile", "h1", mtu=1280)
        await anyio.wait_all_tasks_blocked()
        assert (kernel.asked, agent.state("h1")) == ([], told)
        assert (await agent.configure(veth("v0", "v1"))).config_state is ConfigState.PENDING, "others go on"
        # It is behind again at once, each time, and yet is served.
        listing = listed(kernel, hostile)
        agent._inbox.put(listing)
        agent._inbox.put(NamespaceBehind(hostile, behind=True))
        with anyio.fail_after(SOON):
            while kernel.snapshot().link("hostile", "h1").mtu != 1500:
                await checkpoint()
        agent._inbox.put(listed(kernel, hostile))
        agent._inbox.put(NamespaceBehind(hostile, behind=False))
        with anyio.fail_after(SOON):
            await agent.wait_for("h1")


def listed(kernel: SimulatedKernel, namespace: NsId) -> Event:
    links = {link.id.ifindex: link for link in kernel.snapshot().links.values() if link.id.namespace == namespace}
    return LinksListed(namespace, links)


class Liar(Kernel):
    """Says that it has set an MTU, and has not."""

    tries = 0

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        def lies(operation: Operation) -> bool:
            return isinstance(operation, SetLink) and operation.mtu == 1280

        self.tries += sum(map(lies, operations))
        outcomes = iter(await super().execute([operation for operation in operations if not lies(operation)]))
        return [Outcome(operation) if lies(operation) else next(outcomes) for operation in operations]


async def test_what_has_no_effect_is_tried_more_and_more_rarely() -> None:
    kernel = Liar()
    async with running(kernel, *U) as agent:
        await agent.configure(veth("u0", "u1", mtu=1280))
        with anyio.fail_after(SOON):
            while (state := agent.state("u0")) is None or state.attempts < 4:
                await checkpoint()
        assert state.config_state is ConfigState.RETRYING
        assert "did not take effect" in state.reason
        assert state.next_retry is not None
        assert state.next_retry - time.time() > 0.3
        assert kernel.tries <= 5
