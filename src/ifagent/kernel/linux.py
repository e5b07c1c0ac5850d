"""The Linux kernel that the agent runs on.

The event loop only reads notifications. Requests and file system access run in worker threads::

    execute --> jobs (threads) --> lanes --> kernel --> monitor --> link cache --> LinkSeen
    attach  --> lane, nsid, dump (thread) + notifications meanwhile            --> LinksListed
    too many notifications --> not followed, listed at intervals (thread)      --> NamespaceBehind, LinksListed
    mount table, directory --> list named namespaces (thread)                  --> NamespacesListed
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import LinksListed, NamespaceBehind, NamespaceSeen, NamespacesListed
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.link import LinkId, NsId
from ifagent.core.namespace_ref import OWN_NAMESPACE
from ifagent.core.operation import NamespaceOperation, Operation, Outcome
from ifagent.core.operations import CreateLink, RemoveNamespace, SetChecksums
from ifagent.errors import AgentBug, NamespaceUnavailable
from ifagent.kernel.contract import Emit
from ifagent.kernel.deferred_close import DeferredClose
from ifagent.kernel.ethtool_queries import EthtoolQueries
from ifagent.kernel.features import probe
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.jobs import choose_ends, find_group_deletions, namespaces_of, plan_jobs, require_named, unattached
from ifagent.kernel.lane import Lane, close_lanes, open_lanes, read_counters, read_host_routes
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.netns import remove_left_overs
from ifagent.kernel.netns_watch import NetnsWatch
from ifagent.kernel.relisting import Relister
from ifagent.kernel.requests import encode_all
from ifagent.kernel.session import GATHER, Session
from ifagent.kernel.silent_changes import find_silent_changes
from ifagent.kernel.threads import run_in_thread
from ifagent.kernel.workers import THREADS, change_netns, is_by_file, run_job, send_requests
from ifagent.log import log
from ifagent.nsfs import OWN_NAMESPACE_PATH, own_namespace

T = TypeVar("T")

NETNS_DIRECTORY: Final = "/run/netns"
"""Where ``ip netns`` keeps named namespaces."""


class LinuxKernel:
    """The kernel that the process runs on; see :class:`ifagent.kernel.contract.Kernel`.

    Needs ``CAP_NET_ADMIN`` and ``CAP_SYS_ADMIN``.
    """

    def __init__(
        self, netns_dir: str = NETNS_DIRECTORY, *, mark: str | None = None, receive_buffer: int | None = None
    ) -> None:
        """Open nothing yet.

        ``netns_dir`` has the named namespaces. Plain files that a killed agent with ``mark`` left there are removed by
        :meth:`run`. ``receive_buffer`` is the size in bytes of each namespace's buffer for notifications; unless given,
        all namespaces share a fixed total.
        """
        self.own: NsId = own_namespace()
        self.ipv6_newest_first: bool = True
        self._directory = netns_dir
        self._mark = mark
        self._receive_buffer = receive_buffer
        self._session: Session | None = None
        self._lanes: dict[NsId, Lane] = {}
        self._relister: Relister | None = None
        self._closing = DeferredClose()

    # The contract

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled. Raises ``OSError`` if the kernel does not permit it."""
        if self._session:
            raise AgentBug("the kernel is already running")
        home = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
        try:
            features = await run_in_thread(partial(probe, home=home))
            self.ipv6_newest_first = features.newest_first
            monitor = Monitor(self.own, home, buffer=self._receive_buffer, features=features)
            try:
                queries = EthtoolQueries(monitor.links, self._lanes, self._closing, self.drain)
                session = Session(emit, self.own, home, monitor, queries, self._directory, features)
                self._session, self._relister = session, Relister(session, self._lanes, self._closing, self.drain)
                await self._listen(session, task_status)
            finally:
                self._session = None
                monitor.close()
                for lane in self._lanes.values():
                    self._closing.close(lane.close)
                self._lanes.clear()
        finally:
            self._closing.close(partial(os.close, home))

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Open namespaces and list them, or list open ones again; paths matter only for opening."""
        session = _running(self._session)
        problems: dict[NsId, NamespaceUnavailable] = {}
        new = {namespace: path for namespace, path in paths.items() if namespace not in self._lanes}
        sizes = {namespace: session.monitor.buffer_for(namespace) for namespace in new}
        with self._closing.using():
            opened = await run_in_thread(partial(open_lanes, new, home=session.home, buffers=sizes), undo=close_lanes)
        for namespace, lane in opened.items():
            if isinstance(lane, NamespaceUnavailable):
                problems[namespace] = lane
            elif self._session is not session:
                self._closing.close(lane.close)
                problems[namespace] = NamespaceUnavailable(f"{paths[namespace]}: the kernel has been stopped")
            elif namespace in self._lanes:  # opened by two at once
                self._closing.close(lane.close)
            elif problem := self._listen_to(session, lane, paths[namespace]):
                problems[namespace] = problem
        if self._session is session:
            problems |= await self._list(session, paths)
            for namespace in problems.keys() & self._lanes.keys():
                if namespace not in session.monitor.links:
                    self._close(session, namespace)
        return problems

    async def relist(self) -> None:
        """List the named namespaces again."""
        await _running(self._session).names.list()
        self.drain()

    async def detach(self, namespace: NsId) -> None:
        """Close a namespace."""
        session = _running(self._session)
        await anyio.lowlevel.checkpoint()
        self._close(session, namespace)

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Execute operations; one in a namespace that is not attached gets ``ENODEV`` or ``ENOENT``."""
        session = _running(self._session)
        outcomes: dict[int, Outcome] = {}
        namespace_operations: list[int] = []
        requests: list[tuple[int, Operation]] = []
        asked, operations = operations, choose_ends(operations, self._lanes)
        for position, operation in enumerate(operations):
            if isinstance(operation, NamespaceOperation):
                require_named(operation)
                namespace_operations.append(position)
            elif refused := unattached(operation, self._lanes):
                outcomes[position] = refused
            else:
                requests.append((position, operation))
                for namespace in namespaces_of(operation):
                    session.monitor.expect(namespace)
        fds = {namespace: lane.fd for namespace, lane in self._lanes.items()}
        encoded = _encoded(requests, fds, session.ifindexes)
        by_group = find_group_deletions(requests, session.monitor.links.in_group)
        jobs: list[Callable[[], dict[int, Outcome]]] = [
            partial(send_requests, operations, encoded, batches, self._lanes.copy())
            for batches in plan_jobs(requests, width=THREADS, by_group=by_group)
        ]
        jobs += [
            partial(change_netns, self._directory, session.home, position, operations[position])
            for position in namespace_operations
        ]
        with self._closing.using():
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(run_job, job, session.threads, outcomes)
        if namespace_operations:
            await session.names.list()
        await self._follow_up(session, tuple(outcomes.values()))
        return [replace(outcomes[position], operation=operation) for position, operation in enumerate(asked)]

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Query the checksum offloading of links that it is not known of yet."""
        session = _running(self._session)
        await session.queries.query_checksums(session.monitor.links.inspect(links))
        self.drain()

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """List the routes."""
        _running(self._session)
        lanes = {namespace: self._lanes.get(namespace) for namespace in namespaces}
        with self._closing.using():
            return await run_in_thread(partial(read_host_routes, self.own, lanes, hosts, ours))

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        """Read the counters, all in one thread: the kernel serves one namespace after the other anyway."""
        _running(self._session)
        lanes = [lane for namespace in namespaces if (lane := self._lanes.get(namespace)) is not None]
        with self._closing.using():
            found = await run_in_thread(partial(read_counters, lanes))
        self.drain()
        return found

    def drain(self) -> None:
        """Emit all changes notified so far."""
        session = _running(self._session)
        if session.names.changed:
            session.emit(NamespacesListed(session.names.take()))
        for seen in session.monitor.read():
            session.ifindexes.seen(*seen.id)
            session.emit(seen)
        relister = _running(self._relister)
        for namespace, behind in session.monitor.take_behind_changes().items():
            session.emit(NamespaceBehind(namespace, behind))
            relister.set_behind(namespace, behind=behind)
        relister.request(session.monitor.links.take_to_relist())
        session.queries.schedule()

    # Listening

    async def _listen(self, session: Session, task_status: TaskStatus[None]) -> None:
        watch = await run_in_thread(partial(NetnsWatch, self._directory), undo=NetnsWatch.close)
        try:
            if self._mark is not None:
                await run_in_thread(partial(remove_left_overs, self._directory, self._mark))
            await session.names.list()
            session.names.changed = True
            self.drain()
            session.emit(NamespaceSeen(OWN_NAMESPACE, self.own, OWN_NAMESPACE_PATH))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow_notifications, session)
                tasks.start_soon(session.names.follow, watch, self.drain)
                tasks.start_soon(session.queries.run)
                tasks.start_soon(_running(self._relister).run)
                task_status.started()
        finally:
            watch.close()

    async def _follow_notifications(self, session: Session) -> None:
        while True:
            await anyio.wait_readable(session.monitor)
            began = time.monotonic()
            if self._closing.in_use:  # whoever waits for the threads drains afterwards
                session.monitor.process_deferred()
            else:
                self.drain()
            # What takes longer to read accumulates for longer: only the latest message of each link counts.
            await anyio.sleep(max(GATHER, time.monotonic() - began))

    # Attached namespaces

    def _listen_to(self, session: Session, lane: Lane, path: str) -> NamespaceUnavailable | None:
        try:
            session.monitor.listen(lane.namespace, lane.fd, lane.listening)
        except OSError as error:
            self._closing.close(lane.close)
            return NamespaceUnavailable(f"{path}: cannot subscribe to its notifications: {error.strerror}")
        self._lanes[lane.namespace] = lane
        return None

    async def _list(self, session: Session, namespaces: Iterable[NsId]) -> dict[NsId, NamespaceUnavailable]:
        """List attached namespaces; return those that cannot be listed."""
        lanes = [self._lanes[namespace] for namespace in namespaces if namespace in self._lanes]
        problems = await _running(self._relister).list_now(lanes)
        return problems if self._session is session else {}

    def _close(self, session: Session, namespace: NsId) -> None:
        session.ifindexes.forget(namespace)
        _running(self._relister).forget(namespace)
        lane = self._lanes.pop(namespace, None)
        if lane is None:
            return
        self.drain()
        if session.monitor.is_behind(namespace):
            session.emit(NamespaceBehind(namespace, behind=False))
        seen = session.monitor.forget(namespace)
        self._closing.close(lane.close)
        session.emit(LinksListed(namespace, None))
        for each in seen:
            session.emit(each)

    async def _follow_up(self, session: Session, outcomes: Collection[Outcome]) -> None:
        """Take in what operations have changed without a notification."""
        self.drain()
        for outcome in outcomes:
            match outcome:
                case Outcome(operation=RemoveNamespace(id=id), errno=0):
                    self._close(session, id)
                case Outcome(operation=CreateLink() as operation, errno=0, text=str(problem)) if problem:
                    log.warning("created a link with a warning", operation=str(operation), problem=problem)
        silent = find_silent_changes(outcomes)
        for id_, set_link in silent.set_on:
            session.monitor.apply_silent_change(id_, alias=set_link.alias, group=set_link.group)
        made = session.monitor.links.called(silent.made, {namespace for namespace, _ in silent.made})
        await session.queries.read_links((*silent.changed, *made), session.monitor.apply_read)
        await session.queries.query_checksums(silent.switched)
        if silent.partly_done:
            await self._list(session, silent.partly_done)


def _running(part: T | None) -> T:
    """Return what there is only while the kernel runs."""
    if part is None:
        raise AgentBug("the kernel is not running")
    return part


def _encoded(
    requests: Iterable[tuple[int, Operation]], fds: Mapping[NsId, int], ifindexes: Ifindexes
) -> dict[int, tuple[bytes, ...]]:
    """Return the messages of each operation by position, as far as they can be told now."""
    return {
        position: encode_all(operation, fds=fds, ifindexes=_ifindexes_for(operation, ifindexes))
        for position, operation in requests
        if not isinstance(operation, SetChecksums) and not _is_across(operation) and not is_by_file(operation)
    }


def _is_across(operation: Operation) -> bool:
    """Tell whether a link is to be created on one in another namespace."""
    return isinstance(operation, CreateLink) and len(namespaces_of(operation)) > len(operation.ends)


def _ifindexes_for(operation: Operation, ifindexes: Ifindexes) -> Sequence[int]:
    if isinstance(operation, CreateLink) and len(operation.ends) == 2:
        return ifindexes.choose(*namespaces_of(operation))
    return ()
