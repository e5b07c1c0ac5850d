"""The simulated kernel as the agent sees it, and what tests may do to it.

It is strict: an operation that the agent must never ask for (in another namespace than the attached ones, on a
link without ifindex, with a value of the wrong type) raises :class:`AgentBug` instead of being refused.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import LinkSeen, LinksListed, NamespaceSeen, NamespacesListed
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.interface import OWN_NAMESPACE, named
from ifagent.core.link import LOOPBACK_IFINDEX, Address, Checksums, Link, LinkId, NsId
from ifagent.core.operations import (
    AddAddress,
    CreateLink,
    CreateNamespace,
    DeleteAddress,
    DeleteLink,
    LinkEnd,
    MoveLink,
    Operation,
    Outcome,
    Place,
    PromoteSecondaries,
    RemoveAltname,
    RemoveNamespace,
    RenewAddress,
    ReplaceAddress,
    SetChecksums,
    SetLink,
    Target,
)
from ifagent.errors import AgentBug, NamespaceUnavailable
from ifagent.kernel.contract import Emit
from ifagent.kernel.simulated.checks import OperationCheck
from ifagent.kernel.simulated.outside import Outside
from ifagent.kernel.simulated.records import Refused, WorldLink, WorldNamespace
from ifagent.kernel.simulated.world import End, Where, World, netns_path

T = TypeVar("T")

OWN_PATH = "/proc/self/ns/net"
"""The path of the own namespace."""

Match = type[Operation] | Callable[[Operation], bool]
"""Which operations are meant: those of one type, or those a predicate picks."""


@dataclass(slots=True)
class _Failure:
    """An injected failure, and how often it is still to happen."""

    match: Match
    errno: int
    text: str
    left: int

    def hits(self, operation: Operation) -> bool:
        return isinstance(operation, self.match) if isinstance(self.match, type) else self.match(operation)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole world at one moment; equal snapshots mean that nothing is different.

    ``namespaces`` are the named ones; ``links`` are the links of every namespace, named or not, attached or not,
    with their peers.
    """

    own: NsId
    namespaces: Mapping[str, NsId]
    links: Mapping[LinkId, Link]

    def links_in(self, where: Where) -> dict[str, Link]:
        """Return the links of one namespace by host name; none if there is no such namespace."""
        namespace = self.namespaces.get(where) if isinstance(where, str) and where else where or self.own
        return {str(link.host_name): link for link in self.links.values() if link.id.namespace == namespace}

    def link(self, where: Where, host_name: str) -> Link:
        """Return one link; raises ``KeyError`` if it is not there."""
        return self.links_in(where)[host_name]


class SimulatedKernel:
    """A kernel in memory, see :class:`ifagent.kernel.contract.Kernel`.

    The world outlives :meth:`run`: running again is what a restarted agent meets. ``outside`` is what others do
    to the world, ``operations_executed`` counts what the agent asked for, refused or not, and ``counter_readings``
    how often it read counters.
    """

    def __init__(self) -> None:
        self._changed_links: dict[LinkId, None] = {}
        self._names_changed = False
        self._to_list: dict[NsId, None] = {}
        self._wake: anyio.Event | None = None
        self._emit: Emit | None = None
        self._failures: list[_Failure] = []
        self._removed: set[NsId] = set()
        self._inspected: frozenset[LinkId] = frozenset()
        self._world = World(OWN_PATH, self._note)
        self.own: NsId = self._world.own.id
        self.outside: Outside = Outside(self._world)
        self.operations_executed: int = 0
        self.counter_readings: int = 0
        self.ipv6_newest_first: bool = True

    # The contract

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled."""
        if self._emit is not None:
            raise AgentBug("the simulated kernel is already running")
        self._emit = emit
        self._wake = anyio.Event()
        try:
            emit(self._listed_names())
            emit(NamespaceSeen(OWN_NAMESPACE, self.own, OWN_PATH))
            task_status.started()
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                self.drain()
        finally:
            self._emit = self._wake = None
            self._names_changed = False
            for namespace in list(self._world.namespaces.values()):
                namespace.held = False
                self._world.bury(namespace)
            self._changed_links.clear()
            self._to_list.clear()
            self._inspected = frozenset()

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Listen to namespaces, or look at them again."""
        problems: dict[NsId, NamespaceUnavailable] = {}
        for namespace, path in paths.items():
            await anyio.lowlevel.checkpoint()
            found = self._world.namespaces.get(namespace)
            if found is None or (path != found.path and not found.held):
                problems[namespace] = NamespaceUnavailable(f"{path} does not lead to namespace {namespace}")
                continue
            found.held = True
            self._to_list[namespace] = None
            for link in found.links.values():
                if link.peer is not None:
                    self._changed_links[link.peer.id] = None  # its other end can be told now
        self.drain()
        return problems

    async def relist(self) -> None:
        """Nothing can have been missed here."""
        await anyio.lowlevel.checkpoint()
        self.drain()

    async def detach(self, namespace: NsId) -> None:
        """Stop listening to a namespace."""
        await anyio.lowlevel.checkpoint()
        self._let_go(namespace)
        self.drain()

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations one after the other."""
        if self._emit is None:
            raise AgentBug("the simulated kernel is not running")
        for operation in operations:
            OperationCheck(operation, self._is_attached)
        outcomes, removed = [], set[NsId]()
        for operation in operations:
            await anyio.lowlevel.checkpoint()
            self._removed = removed  # by this batch: others are carried out at the same time
            outcomes.append(self._answer(operation))
        return outcomes

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Tell of the checksum offloading of these links."""
        await anyio.lowlevel.checkpoint()
        self._changed_links.update(dict.fromkeys(self._inspected.symmetric_difference(links)))
        self._inspected = frozenset(links)
        self.drain()

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Return what ``outside`` says, whatever is asked for; with a problem, of every namespace."""
        del ours
        await anyio.lowlevel.checkpoint()
        if problem := self.outside.routes_problem:
            return HostRoutes(hosts=frozenset(hosts), problems=dict.fromkeys(namespaces, problem))
        return HostRoutes(self.outside.uplinks, frozenset(hosts), self.outside.routes)

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        """Return what the links have counted."""
        await anyio.lowlevel.checkpoint()
        self.counter_readings += 1
        links = [
            link
            for namespace in namespaces
            if self._is_attached(namespace)
            for link in self._world.namespaces[namespace].links.values()
        ]
        return {link.id: link.counters for link in links}

    def drain(self) -> None:
        """Emit what has changed."""
        if self._emit is None:
            raise AgentBug("the simulated kernel is not running")
        if self._names_changed:
            self._names_changed = False
            self._emit(self._listed_names())
        for id in _taken(self._to_list):
            namespace = self._world.namespaces.get(id)
            if namespace is None or not namespace.held:
                self._emit(LinksListed(id, None))
            else:
                links = {ifindex: self._seen(link) for ifindex, link in namespace.links.items()}
                self._emit(LinksListed(id, links))
        for link_id in _taken(self._changed_links):
            if self._is_attached(link_id.namespace):
                link = self._world.namespaces[link_id.namespace].links.get(link_id.ifindex)
                self._emit(LinkSeen(link_id, self._seen(link) if link else None))

    # For tests

    def fail_next(self, match: Match, errno_: int, *, times: int = 1, text: str = "injected failure") -> None:
        """Refuse the next ``times`` operations that match with ``errno_`` and ``text``, and do not carry them out.

        Of several injected failures that match, the one injected first comes first.
        """
        self._failures.append(_Failure(match, errno_, text, times))

    def lose_notifications(self) -> None:
        """Drop what waits to be emitted, as a full socket does (``ENOBUFS``); then list attached namespaces anew."""
        self._changed_links.clear()
        for namespace in self._world.namespaces.values():
            if namespace.held:
                self._to_list[namespace.id] = None
        self._wake_up()

    def snapshot(self) -> Snapshot:
        """Return the whole world as it is now."""
        world = self._world.namespaces.values()
        return Snapshot(
            own=self.own,
            namespaces={namespace.name: namespace.id for namespace in world if namespace.name},
            links={
                link.id: link.seen(link.peer.id if link.peer else None)
                for namespace in world
                for link in namespace.links.values()
            },
        )

    def checksums(self, id: LinkId) -> Checksums:
        """Return a link's checksum offloading; raises ``KeyError`` if it is not there."""
        return self._world.namespaces[id.namespace].links[id.ifindex].checksums

    # Behind both

    def _answer(self, operation: Operation) -> Outcome:
        self.operations_executed += 1
        for failure in self._failures:
            if failure.left and failure.hits(operation):
                failure.left -= 1
                return Outcome(operation, failure.errno, failure.text)
        try:
            self._carry_out(operation)
        except Refused as refusal:
            return Outcome(operation, refusal.errno, refusal.text)
        return Outcome(operation)

    def _carry_out(self, operation: Operation) -> None:
        world = self._world
        match operation:
            case CreateNamespace(ref, mark):
                namespace = world.add_namespace(netns_path(ref.reference), name=ref.reference)
                world.set_attributes(namespace.links[LOOPBACK_IFINDEX], alias=mark)
            case RemoveNamespace(ref, id):
                self._remove_namespace(ref.reference, id)
            case CreateLink(kind, ends, group):
                world.create(kind, [self._end(end) for end in ends], group)
            case SetLink(target=target):
                link = self._find(target)
                self._note(link.id)  # the agent hears of its own changes, told by the world or not
                world.set_attributes(
                    link,
                    mac=operation.mac,
                    mtu=operation.mtu,
                    group=operation.group,
                    host_name=operation.host_name,
                    alias=operation.alias,
                    up=operation.up,
                    master=operation.master,
                )
            case MoveLink(target, to, host_name, altnames):
                for altname in () if altnames else tuple(self._find(target).altnames):
                    world.remove_altname(self._find(target), altname)
                world.move(self._find(target), self._place(to), host_name)
            case AddAddress() | ReplaceAddress() | RenewAddress() | DeleteAddress():
                self._change_address(operation)
            case RemoveAltname(target, altname):
                world.remove_altname(self._find(target), altname)
            case SetChecksums(target, checksums):
                world.set_checksums(self._find(target), checksums)
            case PromoteSecondaries(target):
                world.promote_secondaries(self._find(target))
            case DeleteLink(target):
                world.delete(self._find(target))
            case _:
                raise AgentBug(f"the simulated kernel does not know {operation!r}")

    def _change_address(self, operation: AddAddress | ReplaceAddress | RenewAddress | DeleteAddress) -> None:
        world, link, interface = self._world, self._find(operation.target), operation.address
        match operation:
            case AddAddress(peer=peer):
                world.add_address(link, Address(interface, peer=peer))
            case ReplaceAddress():
                world.replace_address(link, interface)
            case RenewAddress():
                world.delete_address(link, Address(interface))
                world.add_address(link, Address(interface))
            case DeleteAddress(peer=peer):
                world.delete_address(link, Address(interface, peer=peer))
            case _:
                raise AgentBug(f"the simulated kernel does not know {operation!r}")

    def _remove_namespace(self, name: str, id: NsId) -> None:
        namespace = self._world.find_namespace(name)
        if namespace.id != id:
            raise Refused(errno.ENOENT)
        self._removed.add(id)
        self._let_go(id)
        self._world.remove_namespace(namespace)

    def _let_go(self, id: NsId) -> None:
        namespace = self._world.namespaces.get(id)
        if namespace is None or not namespace.held:
            return
        namespace.held = False
        self._to_list[id] = None
        self._world.bury(namespace)

    def _place(self, place: Place) -> WorldNamespace:
        """Return an attached namespace; it may have been let go of since the batch began."""
        namespace = self._world.namespaces.get(place) if isinstance(place, int) else None
        if namespace is not None and namespace.held:
            return namespace
        if place in self._removed:
            raise AgentBug(f"operations of one batch depend on each other: {place} was removed by another one")
        raise Refused(errno.ENODEV, f"namespace {place} is not attached")

    def _end(self, end: LinkEnd) -> End:
        return self._place(end.namespace), end.host_name, end.mac, end.mtu

    def _find(self, target: Target) -> WorldLink:
        link = self._place(target.namespace).links.get(target.ifindex or 0)
        if link is None:
            raise Refused(errno.ENODEV)
        return link

    def _is_attached(self, id: NsId) -> bool:
        namespace = self._world.namespaces.get(id)
        return namespace is not None and namespace.held

    def _seen(self, link: WorldLink) -> Link:
        peer = link.peer
        return link.seen(
            peer.id if peer is not None and peer.namespace.held else None,
            link.checksums if link.id in self._inspected else None,
        )

    def _listed_names(self) -> NamespacesListed:
        return NamespacesListed({named(n.name): (n.id, n.path) for n in self._world.namespaces.values() if n.name})

    def _note(self, changed: LinkId | None) -> None:
        """Take note of what the world says has changed."""
        if changed is None:
            self._names_changed = True
        else:
            self._changed_links[changed] = None
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()


def _taken(waiting: dict[T, None]) -> list[T]:
    """Empty the waiting line and return what stood in it, in order."""
    taken = list(waiting)
    waiting.clear()
    return taken
