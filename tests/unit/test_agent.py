"""The agent as its callers see it, on the simulated kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_interface

import anyio
import pytest
from world import veth

from ifagent import (
    Agent,
    ConfigState,
    Existing,
    Interface,
    InterfaceState,
    Memory,
    NotApplied,
    Settings,
    UnknownInterface,
)
from ifagent.core.events import Declaration, Declared, Event, NamespaceSeen, SourceRevision, SourceSnapshot
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.operations import CreateLink, DeleteLink, RemoveNamespace
from ifagent.core.resources import Key, interface_key
from ifagent.errors import AgentBug, AgentEnded, FieldError, InvalidSettings, NamespaceUnavailable, RevisionNotApplied
from ifagent.kernel.simulated import SimulatedKernel

pytestmark = pytest.mark.anyio

A, B = veth("a", "b", enabled=True), veth("b", "a", enabled=True)
BROKEN = (FieldError("", "not JSON"),)


class Scripted:
    """A source that says what a test has it say."""

    name = "scripted"

    def __init__(self, *declarations: Declaration) -> None:
        self._first = {declaration.key: declaration for declaration in declarations}

    def say(self, name: str, declaration: Declaration | None) -> None:
        self._emit(Declared(self.name, interface_key(name), declaration))

    def reach(self, revision: int) -> None:
        self._emit(SourceRevision(self.name, revision))

    async def run(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        emit(SourceSnapshot(self.name, self._first))
        await anyio.sleep_forever()


def state_of(agent: Agent, name: str) -> InterfaceState:
    state = agent.state(name)
    assert state is not None
    return state


async def test_configure_modify_delete_resync() -> None:
    kernel = SimulatedKernel()
    async with Agent.open(kernel=kernel) as agent:
        assert (await agent.configure(A)).config_state is ConfigState.PENDING
        assert (await agent.configure(B)).config_state is ConfigState.APPLIED
        assert (await agent.modify("a", mtu=1400)).mtu == 1400
        with pytest.raises(UnknownInterface):
            await agent.modify("never", mtu=1400)
        writes = kernel.operations_executed
        assert set(await agent.resync()) == {"a", "b"}
        assert kernel.operations_executed == writes, "a resync of what is right wrote something"
        await agent.delete("a")
        assert agent.state("a") is None
        assert state_of(agent, "b").missing == ("interface a",)
        assert await agent.resync([]) == {}
    assert not kernel.snapshot().links_in("").keys() - {"lo"}


async def test_waiting_tells_why_not() -> None:
    async with Agent.open(kernel=SimulatedKernel(), sources=[Memory([A])]) as agent:
        with pytest.raises(NotApplied, match="peer b is not declared"):
            await agent.wait_for("a", timeout=0.01)
        with pytest.raises(NotApplied, match="has no state for it"):
            await agent.wait_for("x", timeout=0.01)
        await agent.configure(B)
        assert (await agent.wait_for("a", timeout=5)).if_index


async def test_sources_of_one_name_are_refused_and_the_first_source_counts() -> None:
    with pytest.raises(InvalidSettings, match="must be unique"):
        Agent(kernel=SimulatedKernel(), sources=[Memory(), Memory()])
    rival = veth("a", "b", mtu=1400)
    sources = [Memory([A, B], name="first"), Memory([rival], name="second")]
    async with Agent.open(kernel=SimulatedKernel(), sources=sources) as agent:
        assert state_of(agent, "a").mtu == 1500


async def test_calls_to_an_agent_that_has_ended_say_so() -> None:
    agent = Agent(kernel=SimulatedKernel())
    with pytest.raises(AgentEnded):
        await agent.configure(A)
    waited = []
    async with anyio.create_task_group() as around:

        async def wait() -> None:
            with pytest.raises(AgentEnded):
                await agent.wait_for("a")
            waited.append(True)

        around.start_soon(wait)
        async with anyio.create_task_group() as group:
            await group.start(agent.run)
            group.cancel_scope.cancel()
    assert waited
    with anyio.fail_after(1):
        for call in (agent.configure(A), agent.delete("a"), agent.resync(), agent.wait_for("a")):
            with pytest.raises(AgentEnded):
                await call
        assert [event async for event in agent.states()] == []


async def test_a_link_kept_for_an_invalid_interface_is_not_torn_away() -> None:
    source = Scripted(*(Declaration.of(i) for i in (A, B)))
    kernel = SimulatedKernel()
    async with Agent.open(kernel=kernel, sources=[source]):
        pass
    kept = kernel.snapshot().link("", "b").id
    other = Scripted(
        Declaration(key=interface_key("a"), errors=BROKEN),
        *(Declaration.of(i) for i in (veth("b", "c"), veth("c", "b"))),
    )
    async with Agent.open(kernel=kernel, sources=[other]) as agent:
        assert state_of(agent, "b").config_state is ConfigState.PENDING
        assert kernel.snapshot().link("", "b").id == kept
        other.say("a", None)
        await agent.wait_for("b", timeout=5)
        await agent.wait_for("c", timeout=5)


async def test_nothing_is_told_of_what_was_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedKernel()
    memory = Memory()
    wrong: list[str] = []
    async with Agent.open(kernel=kernel, sources=[memory]) as agent:
        publish = agent._hub.publish

        def check(changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
            there = kernel.snapshot().links_in("")
            applied = (state.name for state in changed.values() if state.config_state is ConfigState.APPLIED)
            wrong.extend(name for name in applied if name not in there)
            publish(changed, deleted)

        monkeypatch.setattr(agent._hub, "publish", check)
        for number in range(300):
            memory.set(veth(f"a{number}", f"b{number}"))
            memory.set(veth(f"b{number}", f"a{number}"))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        await agent.wait_for("b299", timeout=20)
    assert not wrong


async def test_a_retry_that_comes_due_while_states_are_told_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedKernel()
    kernel.fail_next(CreateLink, errno.EBUSY)
    memory = Memory()
    async with Agent.open(kernel=kernel, sources=[memory]) as agent:
        late = iter([0.15])
        clock = agent._reconciler._clock
        shift = 0.0

        def publish(changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
            nonlocal shift
            shift += next(late, 0.0) if changed else 0.0
            agent._hub.__class__.publish(agent._hub, changed, deleted)

        monkeypatch.setattr(agent._hub, "publish", publish)
        monkeypatch.setattr(agent._reconciler, "_clock", lambda: clock() + shift)
        memory.set(A)
        await agent.configure(B)
        await agent.wait_for("a", timeout=5)


async def test_a_resync_asked_for_during_a_round_looks_before_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, memory = SimulatedKernel(), Memory()
    async with Agent.open(kernel=kernel, sources=[memory]) as agent:
        looks: list[NsId] = []
        started, go = anyio.Event(), anyio.Event()
        attach, execute = kernel.attach, kernel.execute

        async def counted(paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
            looks.extend(paths)
            return await attach(paths)

        async def held(operations: object) -> object:
            started.set()
            await go.wait()
            return await execute(operations)  # type: ignore[arg-type]

        monkeypatch.setattr(kernel, "attach", counted)
        monkeypatch.setattr(kernel, "execute", held)
        memory.set(A)
        memory.set(B)
        await started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(agent.resync)
            await anyio.lowlevel.checkpoint()
            go.set()
        assert looks


async def test_drift_during_a_round_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedKernel()
    async with Agent.open(kernel=kernel) as agent:
        await agent.resync([A, B])
        execute = kernel.execute

        async def interfering(operations: object) -> object:
            monkeypatch.setattr(kernel, "execute", execute)
            kernel.external.set_link("", "a", mtu=1234)
            return await execute(operations)  # type: ignore[arg-type]

        monkeypatch.setattr(kernel, "execute", interfering)
        await agent.resync([A, B, veth("c", "d"), veth("d", "c")])
        state = state_of(agent, "a")
        assert (state.mtu, state.repairs, state.last_drift) == (1500, 1, "mtu is 1234, wanted 1500")


async def test_one_family_does_not_hold_up_the_other() -> None:
    kernel = SimulatedKernel()
    kernel.external.disable_ipv6("")

    def with_addresses(*listed: str) -> Interface:
        return veth("a", "b", enabled=True, ip_addresses=tuple(map(ip_interface, listed)))

    async with Agent.open(kernel=kernel) as agent:
        await agent.configure(B)
        state = await agent.configure(with_addresses("10.0.0.1/24", "2001:db8::1/64"))
        assert state.config_state is ConfigState.FAILED
        assert "2001:db8::1/64" in state.reason
        state = await agent.configure(with_addresses("10.0.1.1/24", "2001:db8::1/64"))
        assert [str(address) for address in state.ip_addresses] == ["10.0.1.1/24"]


async def test_deleted_by_another_task_before_it_was_acted_on() -> None:
    async with Agent.open(kernel=SimulatedKernel()) as agent, anyio.create_task_group() as group:

        async def configure() -> None:
            with pytest.raises(UnknownInterface):
                await agent.configure(A)

        group.start_soon(configure)
        group.start_soon(agent.delete, "a")


async def test_nothing_waits_in_the_loop() -> None:
    from blockbuster import blockbuster_ctx

    agent = Agent(kernel=SimulatedKernel(), sources=[Memory([A, B])])
    with blockbuster_ctx():
        async with anyio.create_task_group() as group:
            await group.start(agent.run)
            await agent.wait_for("a", timeout=5)
            group.cancel_scope.cancel()


async def test_wait_for_a_revision() -> None:
    source = Scripted(
        Declaration.of(A, revision=3),
        Declaration.of(B, revision=4),
    )
    async with Agent.open(sources=[source], kernel=SimulatedKernel()) as agent:
        await agent.wait_for_revision(4, timeout=5)
        await agent.wait_for_revision(1, timeout=5)

        # Not heard of yet, then heard of though nothing of ours is different.
        with pytest.raises(RevisionNotApplied, match="revision 6 is not applied: the agent has only seen revision 4"):
            await agent.wait_for_revision(6, timeout=0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(agent.wait_for_revision, 6)
            await anyio.wait_all_tasks_blocked()
            source.reach(6)

        # What cannot be applied is named with its reason; what changed later is not waited for.
        source.say("c", Declaration.of(veth("c", "d"), revision=7))
        source.say("a", Declaration(key=interface_key("a"), errors=BROKEN, revision=8))
        with pytest.raises(RevisionNotApplied) as caught:
            await agent.wait_for_revision(7, timeout=0.1)
        assert set(caught.value.states) == {"c"}
        assert "'c' PENDING: peer d is not declared" in str(caught.value)
        with pytest.raises(RevisionNotApplied, match="'a' INVALID: not JSON") as caught:
            await agent.wait_for_revision(8, timeout=0.1)
        assert (caught.value.revision, caught.value.seen) == (8, 8)

        # What is taken back has to be gone.
        source.say("c", None)
        source.say("a", Declaration.of(A, revision=9))
        source.reach(10)
        await agent.wait_for_revision(10, timeout=5)
        assert agent.state("c") is None
        assert state_of(agent, "a").applied_revision == 9

        with pytest.raises(InvalidSettings, match="no source is called 'etcd'"):
            await agent.wait_for_revision(1, source="etcd")
    with pytest.raises(AgentEnded):
        await agent.wait_for_revision(99)


async def test_a_revision_of_a_store_does_not_concern_what_others_declare() -> None:
    source = Scripted(Declaration.of(A, revision=3))
    async with Agent.open(sources=[source], kernel=SimulatedKernel()) as agent:
        await agent.configure(B)
        await agent.configure(veth("alone", "nobody"))
        await agent.configure(A)
        await agent.wait_for_revision(3, timeout=5)
    async with Agent.open(kernel=SimulatedKernel()) as agent:
        with pytest.raises(InvalidSettings, match="no source has a store"):
            await agent.wait_for_revision(1)


async def test_drift_that_is_only_reported() -> None:
    kernel = SimulatedKernel()
    settings = Settings(drift="report")
    async with Agent.open(settings, kernel=kernel, sources=[Memory([veth("a", "b"), veth("b", "a")])]) as agent:
        assert (await agent.wait_for("a", timeout=5)).config_state is ConfigState.APPLIED
        kernel.external.set_link("", "a", mtu=1300)
        state = await agent.wait_for("a", applied=False, timeout=5)
        assert state.config_state is ConfigState.FAILED
        assert "drift repair is disabled (--drift report): mtu is 1300, wanted 1500" in state.reason
        assert (state.last_drift, state.repairs) == ("mtu is 1300, wanted 1500", 0)
        kernel.external.set_link("", "a", mtu=1500)
        await agent.wait_for("a", timeout=5)
        kernel.external.set_link("", "a", mtu=1200)
        await agent.wait_for("a", applied=False, timeout=5)
        assert (await agent.resync())["a"].config_state is ConfigState.APPLIED
        assert kernel.snapshot().link("", "a").mtu == 1500


async def test_a_new_value_ends_drift_that_is_only_reported() -> None:
    kernel = SimulatedKernel()
    async with Agent.open(Settings(drift="report"), kernel=kernel) as agent:
        await agent.configure(veth("b", "a"))
        await agent.configure(veth("a", "b"))
        kernel.external.delete_link("", "a")
        await agent.wait_for("a", applied=False, timeout=5)
        assert "a" not in kernel.snapshot().links_in("")
        assert (await agent.modify("a", mtu=1400)).config_state is ConfigState.APPLIED
        assert kernel.snapshot().link("", "a").mtu == 1400


async def test_a_pattern_does_not_reach_what_connects_the_host() -> None:
    kernel = SimulatedKernel()
    kernel.external.add_link("", "eth0")
    kernel.external.add_link("", "eth1")
    kernel.external.uplinks = frozenset({kernel.snapshot().link("", "eth0").id})
    wanted = [Interface(name=f"eth{n}", kind=Existing(), ip_addresses=(ip_interface("10.0.0.1/8"),)) for n in (0, 1)]
    async with Agent.open(Settings(allow_existing=("eth*",)), kernel=kernel, sources=[Memory(wanted)]) as agent:
        assert (await agent.wait_for("eth1", timeout=5)).config_state is ConfigState.APPLIED
        state = agent.state("eth0")
        assert state is not None
        assert state.config_state is ConfigState.INVALID
        assert not kernel.snapshot().link("", "eth0").addresses


# What ends an agent, and what an agent ends


class Oops(Exception):
    """What a test raises."""


async def test_what_the_block_raises_is_handed_on_as_it_is() -> None:
    cause = KeyError("why")

    async def body() -> None:
        async with Agent.open(kernel=SimulatedKernel()):
            raise Oops("mine") from cause

    with pytest.raises(Oops, match="mine") as raised:
        await body()
    assert raised.value.__cause__ is cause
    group = ExceptionGroup("mine as well", [ValueError()])

    async def grouped() -> None:
        async with Agent.open(kernel=SimulatedKernel()):
            raise group

    with pytest.raises(ExceptionGroup) as whole:
        await grouped()
    assert whole.value is group


async def test_a_block_that_is_cancelled_is_cancelled() -> None:
    with anyio.CancelScope() as scope:
        async with Agent.open(kernel=SimulatedKernel()):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


class Ending:
    """A source that ends when it is told to."""

    name = "ending"

    def __init__(self, error: Exception | None = None) -> None:
        self.end = anyio.Event()
        self._error = error

    async def run(self, emit: Callable[[Event], None]) -> None:
        emit(SourceSnapshot(self.name, {}))
        await self.end.wait()
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, RuntimeError("a bug")])
async def test_a_source_that_ends_or_fails_ends_the_agent_and_the_block(error: Exception | None) -> None:
    source = Ending(error)

    async def body() -> None:
        async with Agent.open(kernel=SimulatedKernel(), sources=[source]):
            source.end.set()
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await body()
    errors = raised.value.subgroup(lambda each: isinstance(each, AgentBug if error is None else RuntimeError))
    assert errors is not None
    if error is None:
        assert "source ending ended unexpectedly" in str(errors.exceptions[0].args) + repr(errors)


async def test_what_the_block_and_the_agent_raise_at_once_is_both_told() -> None:
    source = Ending(RuntimeError("a bug"))

    async def body() -> None:
        async with Agent.open(kernel=SimulatedKernel(), sources=[source]):
            source.end.set()
            try:
                await anyio.sleep_forever()
            finally:
                raise Oops("mine")

    with pytest.raises(ExceptionGroup) as raised:
        await body()
    assert raised.value.subgroup(Oops) is not None
    assert raised.value.subgroup(RuntimeError) is not None


class Where:
    """A watcher that finds out by and by where processes are."""

    types = frozenset({NamespaceType.PID})

    def __init__(self, namespace: NsId, path: str) -> None:
        self._place = namespace, path
        self._wanted: frozenset[NamespaceRef] = frozenset()
        self._due: set[NamespaceRef] = set()
        self._news = anyio.Event()

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        self._due |= refs - self._wanted
        self._wanted = refs
        self._news.set()

    async def run(self, emit: Callable[[Event], None]) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await anyio.wait_all_tasks_blocked()
            while self._due:
                emit(NamespaceSeen(self._due.pop(), *self._place))


async def test_an_interface_of_a_process_that_is_changed_is_not_pending_in_between() -> None:
    kernel = SimulatedKernel()
    kernel.external.add_namespace("its")
    watcher = Where(kernel.snapshot().namespaces["its"], "/run/netns/its")
    there = NamespaceRef(type=NamespaceType.PID, reference="4711")
    agent = Agent(kernel=kernel, watchers=[watcher])
    async with anyio.create_task_group() as group:
        await group.start(agent.run)
        await agent.configure(replace(A, namespace=there))
        await agent.configure(B)
        with anyio.fail_after(5):
            await agent.wait_for("a")
        states = agent.states(name="a")
        for mtu in (1400, 1300):
            assert (await agent.modify("a", mtu=mtu)).config_state is ConfigState.APPLIED
        told: list[InterfaceState] = []
        while not told or told[-1].mtu != 1300:
            event = await anext(states)
            if event.state is not None:
                told.append(event.state)
        assert {state.config_state for state in told} == {ConfigState.APPLIED}
        group.cancel_scope.cancel()


async def test_routes_that_cannot_be_listed_are_asked_for_again() -> None:
    kernel = SimulatedKernel()
    kernel.external.routes_problem = "its routes cannot be listed: no buffer space"
    async with Agent.open(
        kernel=kernel, sources=[Memory([replace(A, ip_addresses=(ip_interface("10.1.0.1/24"),)), B])]
    ) as agent:
        state = state_of(agent, "a")
        assert state.config_state is ConfigState.PENDING
        assert "no buffer space" in state.reason
        kernel.external.routes_problem = ""
        await agent.wait_for("a", applied=True, timeout=5)


async def test_what_is_gone_before_it_is_taken_away_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    kernel = SimulatedKernel()
    caplog.set_level("DEBUG", "ifagent")
    there = replace(B, namespace=NamespaceRef(type=NamespaceType.NAMED, reference="ns1"))
    async with Agent.open(kernel=kernel, sources=[Memory()]) as agent:
        await agent.configure(A)
        await agent.configure(there)
        for kind, number in ((RemoveNamespace, errno.ENOENT), (DeleteLink, errno.ENODEV)):
            kernel.fail_next(kind, number)
        await agent.delete("a")
        await agent.delete("b")
        with anyio.fail_after(5):
            while "ns1" in kernel.snapshot().namespaces:
                await anyio.sleep(0.001)
    told = [record.ifagent for record in caplog.records if hasattr(record, "ifagent")]
    assert not [event for event in told if event["event"] == "kernel rejected operation"]
    assert len([event for event in told if event["event"] == "target already gone"]) == 2
