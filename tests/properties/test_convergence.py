"""Whatever is declared, refused, lost or done by others: once that ends, the kernel becomes what was declared."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from typing import Any

import anyio
from anyio.abc import TaskStatus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keyed import keyed

from ifagent.core.address_lists import in_kernel_order
from ifagent.core.addresses import managed
from ifagent.core.desired import Desired
from ifagent.core.events import Declaration, Declared, SourceSnapshot
from ifagent.core.index import Index
from ifagent.core.interface import Interface
from ifagent.core.kinds import (
    AutoTap,
    Bond,
    Bridge,
    Dummy,
    Existing,
    Loopback,
    Macvlan,
    TapDevice,
    Tunnel,
    Veth,
    Vlan,
    VrfDevice,
    Vxlan,
)
from ifagent.core.kinds.contract import Need
from ifagent.core.link import Link, LinkId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.core.observed import Observed
from ifagent.core.operation import LinkOperation, Operation, Outcome, Place
from ifagent.core.operations import (
    AddAddress,
    CreateLink,
    CreateNamespace,
    DeleteAddress,
    DeleteLink,
    MoveLink,
    PromoteSecondaries,
    SetChecksums,
    SetLink,
)
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.resources import by_name, interface_key
from ifagent.core.state import ConfigState
from ifagent.errors import FieldError, KernelRefused
from ifagent.inbox import Inbox
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.reconciler import Reconciler
from ifagent.runtime_file import RuntimeFile
from ifagent.stream import StateHub

OWNER = Owner("test", b"seed")
NAMES = st.sampled_from("abcdef")
SPACES = st.sampled_from(["", "n1", "n2", "n3"])
MACS = st.sampled_from(["", "02:00:00:00:00:0a"])
HOST_NAMES = st.sampled_from(["", "", "x", "y", "z"])
ADDRESSES = (
    "10.0.0.1/24",
    "10.0.0.2/24",
    "10.0.0.3/16",
    "2001:db8::1/64",
    "2001:db8::1/48",
    "2001:db8::2/64",
    "fe80::9/64",
)
FOREIGN_GROUP = 0
POLICY = Policy(existing=("*",))


@st.composite
def interfaces(draw: st.DrawFn) -> Interface:
    name = draw(NAMES)
    space = draw(SPACES)
    addresses = {ip_interface(a).ip: ip_interface(a) for a in draw(st.lists(st.sampled_from(ADDRESSES), max_size=4))}
    veths = st.builds(
        Veth,
        peer_if_name=NAMES.filter(lambda peer: peer != name),
        tx_checksum_offloading=st.sampled_from(["default", "default", "enabled", "disabled"]),
    )
    taps = st.builds(AutoTap, temp_if_name=st.sampled_from(["", "tap0"]))
    lowers = NAMES.filter(lambda lower: lower != name)
    stacked = st.one_of(
        st.builds(Dummy),
        st.builds(Bridge, stp=st.booleans()),
        st.builds(VrfDevice, routing_table=st.integers(10, 12)),
        st.builds(Bond, mode=st.sampled_from(["active_backup", "balance_rr"])),
        st.builds(Vlan, lower_if_name=lowers, id=st.integers(1, 2), loose_binding=st.booleans()),
        st.builds(Macvlan, lower_if_name=lowers, mode=st.sampled_from(["bridge", "private", "passthru"])),
        st.builds(
            Tunnel,
            mode=st.sampled_from(["gre", "gretap"]),
            remote=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
            lower_if_name=st.just("") | lowers,
            ttl=st.integers(0, 1),
        ),
        st.builds(TapDevice, owner=st.sampled_from([-1, 0, 7]), multi_queue=st.booleans()),
        st.builds(Vxlan, lower_if_name=st.just("") | lowers, vni=st.integers(1, 2)),
    )
    kind = draw(veths | veths | taps | st.builds(Existing) | st.builds(Loopback) | stacked | stacked)
    if isinstance(kind, Existing | Loopback):
        return Interface(
            name=name,
            kind=kind,
            enabled=draw(st.booleans()),
            link_only=draw(st.booleans()),
            host_if_name="" if isinstance(kind, Loopback) else draw(HOST_NAMES),
            namespace=named(space) if space else NamespaceRef(),
            ip_addresses=tuple(addresses.values()),
        )
    is_vrf = isinstance(kind, VrfDevice)
    no_mac = is_vrf or not kind.ethernet or getattr(kind, "mode", "") == "passthru"
    return Interface(
        name=name,
        kind=kind,
        master_if_name="" if is_vrf else draw(st.just("") | lowers),
        link_only=draw(st.integers(0, 4)) == 0,
        enabled=draw(st.booleans()),
        mtu=draw(st.sampled_from([0, 1280, 1400, 9000])),
        phys_address="" if no_mac else draw(MACS),
        host_if_name=draw(HOST_NAMES),
        namespace=named(space) if space else NamespaceRef(),
        ip_addresses=tuple(addresses.values()),
    )


@dataclass
class World:
    """A simulated kernel, an agent's inside on it, and what was declared."""

    kernel: SimulatedKernel = field(default_factory=SimulatedKernel)
    declared: dict[str, Interface] = field(default_factory=dict)
    invalid: set[str] = field(default_factory=set)
    now: float = 0.0
    asked: set[str] = field(default_factory=set)
    made: set[tuple[Place, HostName]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.runtime_file = RuntimeFile(None, "test", self.kernel.own)
        self.really_execute = self.kernel.execute

    def start(self) -> None:
        """Start an agent that knows nothing but what the source says, as after a kill."""
        self.inbox, self.hub = Inbox(), StateHub()
        self.index = Index(self.kernel.own, ["test"], OWNER)
        self.index.remember(self.runtime_file.load())
        self.kernel.execute = self.execute  # type: ignore[method-assign]  # watched
        self.reconciler = Reconciler(
            self.kernel,
            self.index,
            self.inbox,
            self.hub,
            OWNER,
            runtime_file=self.runtime_file,
            policy=POLICY,
            plan=self.plan,
            clock=lambda: self.now,
        )

    def plan(self, desired: Desired, observed: Observed, owner: Owner, policy: Policy) -> Plan:
        """Plan what hangs together as the agent does, and check that it would be planned so with everything too."""
        part = plan(desired, observed, owner, policy)
        whole = plan(self.index.desired(), self.index.observed(), owner, policy)
        assert part.verdicts == {key: whole.verdicts[key] for key in part.verdicts}
        assert part.steps.keys() <= whole.steps.keys()
        return part

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out what the agent asks for, but never let it touch what is not its own."""
        links = self.kernel.snapshot().links
        for operation in operations:
            if isinstance(operation, CreateLink):
                self.made |= {(end.namespace, end.host_name) for end in operation.ends}
            if isinstance(operation, DeleteLink | SetLink | MoveLink | AddAddress | DeleteAddress):
                assert operation.target.ifindex is not None
                assert not isinstance(operation.target.namespace, NamespaceRef)
                link = links.get(LinkId(operation.target.namespace, operation.target.ifindex))
                if link is not None:
                    self.check_may_do(operation, link)
        return await self.really_execute(operations)

    def check_may_do(self, operation: LinkOperation, link: Link) -> None:
        """Check that what is not of the agent's making is at most adopted, or configured where that is asked for.

        And that no end of a pair is moved out of a namespace where somebody else may have put a link on it.
        """
        if isinstance(operation, MoveLink) and link.kind == "veth":
            assert link.id.namespace == self.kernel.own, f"{operation} of {link}"
        # Somebody may have taken the marks off a link between its creation and what was planned with that.
        if OWNER.owns(link) or (operation.target.namespace, operation.target.host_name) in self.made:
            return
        assert not isinstance(operation, DeleteLink), f"{operation} on {link}"
        if link.kind == "tun":
            return
        # What was planned is carried out beside the rounds: it may have been taken back, or the link renamed.
        assert OWNER.configured_mark(link) or operation.target.host_name in self.asked, f"{operation} on {link}"
        assert not isinstance(operation, MoveLink), f"{operation} on {link}"
        if isinstance(operation, SetLink):
            given = (operation.host_name, operation.mac, operation.group)
            assert given == (None,) * 3, f"{operation} on {link}"

    def check(self) -> None:
        """Compare the kernel with what was declared."""
        check(self)

    async def listen(self, *, task_status: TaskStatus[None]) -> None:
        await self.kernel.run(self.inbox.put, task_status=task_status)

    def sync(self) -> None:
        declarations = {name: Declaration.of(i) for name, i in self.declared.items()}
        for name in self.invalid:
            declarations[name] = Declaration(key=interface_key(name), errors=(FieldError("", "broken"),))
        self.inbox.put(SourceSnapshot("test", keyed(declarations)))

    def declare(self, interface: Interface) -> None:
        if isinstance(interface.kind, Existing | Loopback):
            self.asked.add(interface.host_name)
        self.declared[interface.name] = interface
        self.invalid.discard(interface.name)
        self.inbox.put(
            Declared(
                "test",
                interface_key(interface.name),
                Declaration.of(interface),
            )
        )

    def declare_pair(self, near: Interface, far: Interface) -> None:
        """Declare two interfaces as the ends of a pair: by chance alone two rarely name each other."""
        if near.name != far.name:
            for one, other in ((near, far), (far, near)):
                self.declare(replace(one, kind=Veth(peer_if_name=other.name), mtu=one.mtu if one.mtu < 65536 else 0))

    def take_back(self, name: str) -> None:
        self.declared.pop(name, None)
        self.invalid.discard(name)
        self.inbox.put(Declared("test", interface_key(name), None))

    def spoil(self, name: str) -> None:
        self.invalid.add(name)
        self.inbox.put(
            Declared(
                "test", interface_key(name), Declaration(key=interface_key(name), errors=(FieldError("", "broken"),))
            )
        )

    def links(self) -> list[Link]:
        return [link for link in self.kernel.snapshot().links.values() if link.id.ifindex != 1]


Action = Callable[[World], None]


def restart(_: World) -> None:
    """Mark where the agent is killed and another one started."""
    raise AssertionError("a marker, never called")


def act(function: Callable[..., None], *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Action]:
    return st.tuples(*arguments).map(lambda values: lambda world: function(world, *values))


def _interfere(world: World, number: int, change: Callable[[World, Link], None]) -> None:
    links = world.links()
    if links:
        with suppress(KernelRefused):
            change(world, links[number % len(links)])


def _add_foreign(world: World, space: str, host_name: str) -> None:
    with suppress(KernelRefused):
        world.kernel.external.add_link(space or world.kernel.own, host_name)


def _add_tap(world: World, host_name: str) -> None:
    with suppress(KernelRefused):
        world.kernel.external.add_link(world.kernel.own, host_name, kind="tun")


def _namespace(world: World, name: str, there: bool) -> None:
    try:
        if there:
            world.kernel.external.add_namespace(name)
        else:
            world.kernel.external.remove_namespace(name)
    except KernelRefused:
        pass


def _set(**values: Any) -> Callable[[World, Link], None]:
    return lambda world, link: world.kernel.external.set_link(link.id.namespace, link.host_name, **values)


def _delete(world: World, link: Link) -> None:
    world.kernel.external.delete_link(link.id.namespace, link.host_name)


def _move(world: World, link: Link) -> None:
    world.kernel.external.move_link(link.id.namespace, link.host_name, "n1")


def _add_address(world: World, link: Link) -> None:
    world.kernel.external.add_address(link.id.namespace, link.host_name, ip_interface("10.9.9.9/8"))


def _delete_address(world: World, link: Link) -> None:
    for address in link.addresses[:1]:
        world.kernel.external.delete_address(link.id.namespace, link.host_name, address.interface)


def _checksums(world: World, link: Link) -> None:
    world.kernel.external.set_checksums(link.id.namespace, link.host_name, rx=False, tx=True)


CHANGES = st.sampled_from(
    [
        _delete,
        _move,
        _add_address,
        _delete_address,
        _set(mtu=1300),
        _set(mac="02:99:99:99:99:99"),
        _set(up=False),
        _set(up=True),
        _set(alias=""),
        _set(group=FOREIGN_GROUP),
        _checksums,
        _set(new_host_name="q"),
        _set(new_host_name="x"),
    ]
)
FAILURES = st.sampled_from([errno.EBUSY, errno.EEXIST, errno.ENODEV, errno.ENOBUFS, errno.EINVAL])
OPERATIONS = st.sampled_from(
    [
        CreateLink,
        SetLink,
        SetChecksums,
        AddAddress,
        DeleteAddress,
        PromoteSecondaries,
        DeleteLink,
        MoveLink,
        CreateNamespace,
    ]
)

ACTIONS = st.one_of(
    act(World.declare, interfaces()),
    act(World.declare, interfaces()),
    act(World.take_back, NAMES),
    act(World.spoil, NAMES),
    st.just(restart),
    act(lambda world: world.kernel.lose_notifications()),
    act(lambda world, kind, code: world.kernel.fail_next(kind, code), OPERATIONS, FAILURES),
    act(_interfere, st.integers(0, 30), CHANGES),
    act(_interfere, st.integers(0, 30), CHANGES),
    act(_add_foreign, SPACES, st.sampled_from(["a", "x", "y"])),
    act(_add_tap, st.sampled_from(["tap0", "a", "x"])),
    act(_namespace, st.sampled_from(["n1", "n2", "other"]), st.booleans()),
)
PAIRS = act(World.declare_pair, interfaces(), interfaces())


async def run(script: list[tuple[Action, bool]], world: World) -> None:
    lives: list[list[tuple[Action, bool]]] = [[]]
    for action, settle in script:
        if action is restart:
            lives.append([])
        else:
            lives[-1].append((action, settle))
    for number, life in enumerate(lives):
        async with anyio.create_task_group() as group:
            world.start()
            await group.start(world.listen)
            await group.start(world.reconciler.run)
            # Some lives end before their source was ever heard; the last one hears it.
            if number % 2 == 0 or life is lives[-1]:
                world.sync()
            for action, settle in life:
                action(world)
                if settle:
                    await world.reconciler.round()
            if life is lives[-1]:
                await converge(world)
                world.check()
            group.cancel_scope.cancel()


async def converge(world: World) -> None:
    for _ in range(300):
        await world.reconciler.round()
        await anyio.lowlevel.checkpoint()
        if world.inbox or not world.reconciler.idle:
            continue
        if world.reconciler.next_time is None:
            return
        world.now = world.reconciler.next_time
    raise AssertionError(f"no rest after 300 rounds: {world.hub.states}")


def peer_of(interface: Interface) -> str | None:
    return interface.kind.peer_if_name if isinstance(interface.kind, Veth) else None


def check(world: World) -> None:
    """Compare the kernel with what was declared, by other means than the planner's."""
    snapshot = world.kernel.snapshot()
    states = by_name(world.hub.states)
    places = Counter((i.namespace, i.host_name) for i in world.index.desired().interfaces.values())
    taken = {
        (link.id.namespace, link.host_name)
        for link in world.links()
        if not OWNER.owns(link) or OWNER.name_of(link) not in by_name(world.index.declared)
    }
    wanted: set[str] = set()
    for name, interface in world.index.desired().interfaces.items():
        if isinstance(interface.kind, AutoTap):
            check_tap(world, interface)
            continue
        if isinstance(interface.kind, Existing | Loopback):
            check_existing(world, interface)
            continue
        if not isinstance(interface.kind, Veth):
            check_stacked(world, interface)
            continue
        peer = world.index.desired().interfaces.get(peer_of(interface) or "")
        if peer is None or peer_of(peer) != name:
            assert states[name].config_state is not ConfigState.APPLIED
            continue
        for end in (interface, peer):
            space = snapshot.namespaces.get(end.namespace.reference) if end.namespace.reference else snapshot.own
            if places[end.namespace, end.host_name] > 1 or (space, end.host_name) in taken:
                break
        else:
            wanted.add(name)
    failed = {name for name, state in states.items() if state.config_state is ConfigState.FAILED}
    for name in wanted - failed - {peer_of(i) for n, i in world.declared.items() if n in failed}:
        check_realised(world, name)
    held = world.invalid
    for link in world.links():
        if OWNER.owns(link):
            ends = {OWNER.name_of(end) for end in (link, link.peer and snapshot.links.get(link.peer)) if end}
            told = {state.link_id for state in states.values()}  # one whose mark the kernel refused
            assert link.id in told or ends & (by_name(world.index.declared).keys() | held), f"left over: {link!r}"
    check_given_back(world)
    before = world.kernel.operations_executed
    planned = plan(world.index.desired(), world.index.observed(), OWNER, POLICY)
    now = world.now
    first = next(iter(planned.waves()), ())
    retry, records = world.reconciler.retry, world.reconciler.records
    assert not [op for op in first if retry.may_try(op, now) and records.may_repair(planned.steps[op].keys, now)]
    assert before == world.kernel.operations_executed


def check_given_back(world: World) -> None:
    """Check that links of others are let go of when nobody asks for them any more."""
    held = world.invalid
    for link in world.links():
        adoption = OWNER.adoption(link)
        if adoption is not None and adoption.name not in held:
            declared = world.index.desired().interfaces.get(adoption.name)
            assert declared is not None, f"not given back: {link}"
            assert isinstance(declared.kind, AutoTap), f"not given back: {link}"
    for link in world.links():
        configured_mark = OWNER.configured_mark(link)
        if configured_mark is not None and configured_mark.name not in held:
            user = world.index.desired().interfaces.get(configured_mark.name)
            assert user is not None, f"not let go of: {link}"
            assert isinstance(user.kind, Existing | Loopback), f"not let go of: {link}"


def check_tap(world: World, interface: Interface) -> None:
    """An applied TAP is as declared; what is not declared has been given back."""
    snapshot, state = world.kernel.snapshot(), world.hub.states[interface_key(interface.name)]
    if state.config_state is not ConfigState.APPLIED:
        return
    link = snapshot.link(interface.namespace.reference or snapshot.own, interface.host_name)
    adoption = OWNER.adoption(link)
    assert adoption is not None
    assert adoption.name == interface.name
    # What is left open is as the TAP's creator has it, or whoever has set it since.
    assert (link.up, link.mtu) == (interface.enabled, interface.mtu or link.mtu)
    if not interface.link_only:
        assert link.mac == (interface.phys_address or link.mac)
        assert managed(link.addresses, interface.ip_addresses) == in_kernel_order(interface.ip_addresses)


def check_existing(world: World, interface: Interface) -> None:
    """A link of somebody else's that is applied has what is asked for, and was not made by the agent."""
    snapshot, state = world.kernel.snapshot(), world.hub.states[interface_key(interface.name)]
    if state.config_state is not ConfigState.APPLIED:
        return
    link = snapshot.link(interface.namespace.reference or snapshot.own, interface.host_name)
    assert not OWNER.owns(link)
    if isinstance(interface.kind, Loopback):
        assert (link.up, link.mtu) == (interface.enabled, 65536)
    if not interface.link_only:
        assert managed(link.addresses, interface.ip_addresses) == in_kernel_order(interface.ip_addresses)
    elif isinstance(interface.kind, Existing):
        assert set(interface.ip_addresses) <= {address.interface for address in link.addresses}


def check_stacked(world: World, interface: Interface) -> None:
    """A link that is applied has its settings, sits on its lower interface's link, and is its master's port."""
    snapshot, states = world.kernel.snapshot(), by_name(world.hub.states)
    state = states[interface.name]
    if state.config_state is not ConfigState.APPLIED:
        return
    link = snapshot.link(interface.namespace.reference or snapshot.own, interface.host_name)
    assert (link.kind, link.group, link.up) == (interface.kind.kernel_kind, OWNER.group, interface.enabled)
    assert set(interface.kind.data(link)) <= set(link.data)
    for reference in interface.references:
        other = states[reference.to].link_id
        if reference.need is Need.LOWER:
            assert link.lower == other is not None
        elif reference.need is Need.MASTER:
            assert other == LinkId(link.id.namespace, link.master)


def check_realised(world: World, name: str) -> None:
    interface = world.index.desired().interfaces[name]
    snapshot = world.kernel.snapshot()
    link = snapshot.link(interface.namespace.reference or snapshot.own, interface.host_name)
    assert link.up == interface.enabled
    assert isinstance(interface.kind, Veth)
    master = world.hub.states.get(interface_key(interface.master)) if link.master else None
    in_bond = master is not None and master.type == "bond"
    assert in_bond or link.mtu == (interface.mtu or 1500)
    offloads = interface.kind.tx_checksum_offloading != "disabled"
    assert (link.group, link.alias) == (OWNER.group, OWNER.alias(name, checksums=offloads))
    if not offloads:
        assert world.kernel.checksums(link.id) == (True, False)
    if not interface.link_only:
        assert in_bond or link.mac == (interface.phys_address or OWNER.default_mac(name))
        assert managed(link.addresses, interface.ip_addresses) == in_kernel_order(interface.ip_addresses)
    assert link.peer is not None
    assert OWNER.name_of(snapshot.links[link.peer]) == peer_of(interface)
    state = world.hub.states[interface_key(name)]
    if not interface.master or name in world.invalid:
        expected = ConfigState.INVALID if name in world.invalid else ConfigState.APPLIED
        assert state.config_state is expected, state
    assert (state.mtu, state.if_index, state.internal_name) == (link.mtu, link.id.ifindex, interface.host_name)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(ACTIONS, st.booleans()), max_size=30))
def test_the_kernel_becomes_what_was_declared(script: list[tuple[Action, bool]]) -> None:
    anyio.run(run, script, World())


class Unwatched(World):
    """One of which only the plans are checked."""

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        return await self.really_execute(operations)

    def check(self) -> None:
        pass


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.one_of(PAIRS, PAIRS, ACTIONS), st.booleans()), max_size=20))
def test_what_hangs_together_is_all_that_counts(script: list[tuple[Action, bool]]) -> None:
    anyio.run(run, script, Unwatched())
