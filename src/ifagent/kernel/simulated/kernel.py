"""The simulated kernel as the agent sees it, and as tests control it.

It is strict: an operation that the agent must never request (in another namespace than the attached ones, on a
link without ifindex, with a value of the wrong type) raises :class:`AgentBug` instead of being refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import LinkSeen, LinksListed, NamespaceSeen, NamespacesListed
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.link import Checksums, Link, LinkId, NsId
from ifagent.core.namespace_ref import OWN_NAMESPACE, named
from ifagent.core.operation import Operation, Outcome
from ifagent.errors import AgentBug, NamespaceUnavailable
from ifagent.kernel.contract import Emit
from ifagent.kernel.simulated.checks import OperationCheck
from ifagent.kernel.simulated.executor import BatchExecutor
from ifagent.kernel.simulated.external import ExternalChanges
from ifagent.kernel.simulated.records import Refused, WorldLink
from ifagent.kernel.simulated.snapshot import KernelSnapshot
from ifagent.kernel.simulated.world import World

T = TypeVar("T")

OWN_PATH = "/proc/self/ns/net"
"""The path of the own namespace."""

Match = type[Operation] | Callable[[Operation], bool]
"""Which operations are meant: those of one type, or those that a predicate picks."""


@dataclass(slots=True)
class _Failure:
    """An injected failure, and how many times are left."""

    match: Match
    errno: int
    text: str
    left: int

    def hits(self, operation: Operation) -> bool:
        return isinstance(operation, self.match) if isinstance(self.match, type) else self.match(operation)


class SimulatedKernel:
    """A kernel in memory, see :class:`ifagent.kernel.contract.Kernel`.

    The world outlives :meth:`run`: another run is what a restarted agent finds. ``external`` changes the world as other
    programs do, ``operations_executed`` counts the agent's operations, refused ones too, and ``counter_readings``
    how often it read counters.
    """

    def __init__(self) -> None:
        self._changed_links: dict[LinkId, None] = {}
        self._names_changed = False
        self._to_list: dict[NsId, None] = {}
        self._wake: anyio.Event | None = None
        self._emit: Emit | None = None
        self._failures: list[_Failure] = []
        self._inspected: frozenset[LinkId] = frozenset()
        self._world = World(OWN_PATH, self._note)
        self.own: NsId = self._world.own.id
        self.external: ExternalChanges = ExternalChanges(self._world)
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
                namespace.attached = False
                self._world.release_if_unused(namespace)
            self._changed_links.clear()
            self._to_list.clear()
            self._inspected = frozenset()

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Attach namespaces, or list them again."""
        problems: dict[NsId, NamespaceUnavailable] = {}
        for namespace, path in paths.items():
            await anyio.lowlevel.checkpoint()
            found = self._world.namespaces.get(namespace)
            if found is None or (path != found.path and not found.attached):
                problems[namespace] = NamespaceUnavailable(f"{path} does not lead to namespace {namespace}")
                continue
            found.attached = True
            self._to_list[namespace] = None
            for link in found.links.values():
                if link.peer is not None:
                    self._changed_links[link.peer.id] = None  # its peer is known now
        self.drain()
        return problems

    async def relist(self) -> None:
        """Emit what has changed; nothing can have been missed here."""
        await anyio.lowlevel.checkpoint()
        self.drain()

    async def detach(self, namespace: NsId) -> None:
        """Detach a namespace."""
        await anyio.lowlevel.checkpoint()
        self._close(namespace)
        self.drain()

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Execute operations one after the other."""
        if self._emit is None:
            raise AgentBug("the simulated kernel is not running")
        for operation in operations:
            OperationCheck(operation, self._is_attached)
        executor = BatchExecutor(self._world, changed=self._note, detach=self._close)
        outcomes = []
        for operation in operations:
            await anyio.lowlevel.checkpoint()
            outcomes.append(self._execute(executor, operation))
        return outcomes

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Report the checksum offloading of these links."""
        await anyio.lowlevel.checkpoint()
        self._changed_links.update(dict.fromkeys(self._inspected.symmetric_difference(links)))
        self._inspected = frozenset(links)
        self.drain()

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Return what ``external`` has, whatever is asked for; a problem concerns every namespace."""
        del ours
        await anyio.lowlevel.checkpoint()
        if problem := self.external.routes_problem:
            return HostRoutes(hosts=frozenset(hosts), problems=dict.fromkeys(namespaces, problem))
        return HostRoutes(self.external.uplinks, frozenset(hosts), self.external.routes)

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        """Return the counters of the links."""
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
        for id in _drained(self._to_list):
            namespace = self._world.namespaces.get(id)
            if namespace is None or not namespace.attached:
                self._emit(LinksListed(id, None))
            else:
                links = {ifindex: self._seen(link) for ifindex, link in namespace.links.items()}
                self._emit(LinksListed(id, links))
        for link_id in _drained(self._changed_links):
            if self._is_attached(link_id.namespace):
                link = self._world.namespaces[link_id.namespace].links.get(link_id.ifindex)
                self._emit(LinkSeen(link_id, self._seen(link) if link else None))

    # For tests

    def fail_next(self, match: Match, errno_: int, *, times: int = 1, text: str = "injected failure") -> None:
        """Refuse the next ``times`` operations that match with ``errno_`` and ``text``, without executing them.

        Of several injected failures that match, the one injected first is used first.
        """
        self._failures.append(_Failure(match, errno_, text, times))

    def lose_notifications(self) -> None:
        """Drop pending notifications, as a full socket does (``ENOBUFS``), and list attached namespaces again."""
        self._changed_links.clear()
        for namespace in self._world.namespaces.values():
            if namespace.attached:
                self._to_list[namespace.id] = None
        self._wake_up()

    def snapshot(self) -> KernelSnapshot:
        """Return the whole world as it is now."""
        world = self._world.namespaces.values()
        return KernelSnapshot(
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

    # Implementation

    def _execute(self, executor: BatchExecutor, operation: Operation) -> Outcome:
        self.operations_executed += 1
        for failure in self._failures:
            if failure.left and failure.hits(operation):
                failure.left -= 1
                return Outcome(operation, failure.errno, failure.text)
        try:
            executor.execute(operation)
        except Refused as refusal:
            return Outcome(operation, refusal.errno, refusal.text)
        return Outcome(operation)

    def _close(self, id: NsId) -> None:
        namespace = self._world.namespaces.get(id)
        if namespace is None or not namespace.attached:
            return
        namespace.attached = False
        self._to_list[id] = None
        self._world.release_if_unused(namespace)

    def _is_attached(self, id: NsId) -> bool:
        namespace = self._world.namespaces.get(id)
        return namespace is not None and namespace.attached

    def _seen(self, link: WorldLink) -> Link:
        peer = link.peer
        return link.seen(
            peer.id if peer is not None and peer.namespace.attached else None,
            link.checksums if link.id in self._inspected else None,
        )

    def _listed_names(self) -> NamespacesListed:
        return NamespacesListed({named(n.name): (n.id, n.path) for n in self._world.namespaces.values() if n.name})

    def _note(self, changed: LinkId | None) -> None:
        """Record what the world says has changed: a link, or the named namespaces."""
        if changed is None:
            self._names_changed = True
        else:
            self._changed_links[changed] = None
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()


def _drained(queue: dict[T, None]) -> list[T]:
    """Empty a queue and return what was in it, in order."""
    taken = list(queue)
    queue.clear()
    return taken
