"""The real kernel: lanes that work, a monitor that hears, and the names of namespaces, as one contract.

The loop only listens. Whatever makes the kernel work, or touches the file system, runs in worker threads::

    execute --> jobs (threads) --> lanes --> kernel --> monitor --> mirror --> LinkSeen
    attach  --> lane, id, listing (thread) + what was heard meanwhile       --> LinksListed
    too much is said --> not heard, listed now and then (thread)            --> NamespaceBehind, LinksListed
    mount table, directory --> list names (thread)                          --> NamespacesListed
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import LinksListed, NamespaceBehind, NamespaceSeen, NamespacesListed
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.interface import OWN_NAMESPACE
from ifagent.core.link import LinkId, NsId
from ifagent.core.operations import (
    CreateLink,
    NamespaceOperation,
    Operation,
    Outcome,
    RemoveNamespace,
    SetChecksums,
    SetLink,
)
from ifagent.errors import AgentBug, NamespaceUnavailable
from ifagent.kernel.contract import Emit
from ifagent.kernel.deferred_close import DeferredClose
from ifagent.kernel.features import probe
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.jobs import namespaces_of, plan_jobs, require_named, unattached
from ifagent.kernel.lane import Lane, ask_lanes, by_lane, close_lanes, open_lanes, read_counters, read_host_routes
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.names import INTERVAL, NameWatch
from ifagent.kernel.namespaces import list_namespaces, remove_left_overs
from ifagent.kernel.relisting import Relister
from ifagent.kernel.requests import encode_all
from ifagent.kernel.session import GATHER, PAUSE, THREADS, Session, change_netns, do, find_sweeps, send
from ifagent.kernel.threads import run_in_thread
from ifagent.limits import in_words
from ifagent.log import log
from ifagent.nsfs import OWN_NAMESPACE_PATH, own_namespace

T = TypeVar("T")

NETNS_DIRECTORY: Final = "/run/netns"
"""Where ``ip netns`` keeps named namespaces."""


class LinuxKernel:
    """The kernel that the process runs on, see :class:`ifagent.kernel.contract.Kernel`.

    Needs ``CAP_NET_ADMIN`` and ``CAP_SYS_ADMIN``.
    """

    def __init__(
        self, netns_dir: str = NETNS_DIRECTORY, *, mark: str | None = None, receive_buffer: int | None = None
    ) -> None:
        """Open nothing yet.

        ``netns_dir`` is where named namespaces are. Plain files there that an agent with ``mark`` left behind
        when it was killed are removed by :meth:`run`. ``receive_buffer`` is in bytes, for the notifications of each
        namespace; unless given, the more namespaces there are, the less each has.
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
        """Listen until cancelled. Raises ``OSError`` if the kernel does not let it."""
        if self._session:
            raise AgentBug("the kernel runs already")
        home = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
        try:
            features = await run_in_thread(partial(probe, home=home))
            self.ipv6_newest_first = features.newest_first
            monitor = Monitor(self.own, home, buffer=self._receive_buffer, features=features)
            try:
                session = Session(emit, self.own, home, monitor, has_ifa_proto=features.has_ifa_proto)
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
        """Open namespaces and list them, or list them again; a path matters only to open one."""
        session = self._require_session()
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
                problems[namespace] = NamespaceUnavailable(
                    f"{paths[namespace]}: the kernel is not listened to any more"
                )
            elif namespace in self._lanes:  # opened by two at once
                self._closing.close(lane.close)
            elif problem := self._listen_to(session, lane, paths[namespace]):
                problems[namespace] = problem
        if self._session is session:
            problems |= await self._list(session, paths)
            for namespace in problems.keys() & self._lanes.keys():
                if namespace not in session.monitor.links:
                    self._let_go(session, namespace)
        return problems

    async def relist(self) -> None:
        """List the names anew."""
        await self._list_names(self._require_session())
        self.drain()

    async def detach(self, namespace: NsId) -> None:
        """Close a namespace."""
        session = self._require_session()
        await anyio.lowlevel.checkpoint()
        self._let_go(session, namespace)

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations; one in a namespace that is not attached gets ``ENODEV`` or ``ENOENT``."""
        session = self._require_session()
        outcomes: dict[int, Outcome] = {}
        names: list[int] = []
        requests: list[tuple[int, Operation]] = []
        for place, operation in enumerate(operations):
            if isinstance(operation, NamespaceOperation):
                require_named(operation)
                names.append(place)
            elif refused := unattached(operation, self._lanes):
                outcomes[place] = refused
            else:
                requests.append((place, operation))
                for namespace in namespaces_of(operation):
                    session.monitor.expect(namespace)
        fds = {namespace: lane.fd for namespace, lane in self._lanes.items()}
        encoded = {
            place: encode_all(operation, fds=fds, ifindexes=_ifindexes_for(operation, session.ifindexes))
            for place, operation in requests
            if not isinstance(operation, SetChecksums)
        }
        jobs: list[Callable[[], dict[int, Outcome]]] = [
            partial(send, operations, encoded, steps, self._lanes.copy())
            for steps in plan_jobs(requests, width=THREADS, sweeps=find_sweeps(session.monitor, requests))
        ]
        jobs += [partial(change_netns, self._directory, session.home, place, operations[place]) for place in names]
        with self._closing.using():
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(do, job, session.threads, outcomes)
        if names:
            await self._list_names(session)
        await self._follow_up(session, outcomes.values())
        return [outcomes[place] for place in range(len(operations))]

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Ask for the checksum offloading of links that it was not asked of yet."""
        session = self._require_session()
        await self._ask_checksums(session, session.monitor.links.inspect(links))
        self.drain()

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Ask for the routes."""
        self._require_session()
        lanes = {namespace: self._lanes.get(namespace) for namespace in namespaces}
        with self._closing.using():
            return await run_in_thread(partial(read_host_routes, self.own, lanes, hosts, ours))

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        """Read what links have counted, all in one thread: the kernel reads one namespace after the other anyway."""
        self._require_session()
        lanes = [lane for namespace in namespaces if (lane := self._lanes.get(namespace)) is not None]
        with self._closing.using():
            found = await run_in_thread(partial(read_counters, lanes))
        self.drain()
        return found

    def drain(self) -> None:
        """Emit everything that the kernel has said so far."""
        session = self._require_session()
        if session.names_changed:
            session.names_changed = False
            session.emit(NamespacesListed(dict(session.named)))
        for seen in session.monitor.read():
            session.ifindexes.seen(*seen.id)
            session.emit(seen)
        relister = self._require_relister()
        for namespace, behind in session.monitor.take_behind_changes().items():
            session.emit(NamespaceBehind(namespace, behind))
            relister.set_behind(namespace, behind=behind)
        relister.request(session.monitor.links.take_to_relist())
        session.offloads_to_read |= session.monitor.links.take_offloads_to_read()
        session.speeds_to_read |= session.monitor.links.take_speeds_to_read()
        if session.offloads_to_read or session.speeds_to_read:
            session.requery.set()

    # Listening

    async def _listen(self, session: Session, task_status: TaskStatus[None]) -> None:
        watch = await run_in_thread(partial(NameWatch, self._directory), undo=NameWatch.close)
        try:
            if self._mark is not None:
                await run_in_thread(partial(remove_left_overs, self._directory, self._mark))
            await self._list_names(session)
            session.names_changed = True
            self.drain()
            session.emit(NamespaceSeen(OWN_NAMESPACE, self.own, OWN_NAMESPACE_PATH))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow_notifications, session)
                tasks.start_soon(self._follow_names, session, watch)
                tasks.start_soon(self._requery, session)
                tasks.start_soon(self._require_relister().run)
                task_status.started()
        finally:
            watch.close()

    async def _follow_notifications(self, session: Session) -> None:
        while True:
            await anyio.wait_readable(session.monitor)
            began = time.monotonic()
            if self._closing.in_use:  # whoever waits for the threads drains when they are done
                session.monitor.process_deferred()
            else:
                self.drain()
            # What takes longer to read than it takes to gather is left to gather: of a link only the last word counts.
            await anyio.sleep(max(GATHER, time.monotonic() - began))

    async def _follow_names(self, session: Session, watch: NameWatch) -> None:
        watch.start(lambda: session.renamed.set())  # noqa: PLW0108 the event is another one after each wake
        while True:
            session.renamed = anyio.Event()
            watch.listen()
            await run_in_thread(watch.follow)
            listed = await self._list_names(session)
            self.drain()
            await anyio.sleep(PAUSE)
            with anyio.move_on_after(watch.interval if listed else INTERVAL):
                await session.renamed.wait()

    async def _requery(self, session: Session) -> None:
        """Ask what notifications do not tell."""
        while True:
            await session.requery.wait()
            session.requery = anyio.Event()
            offloads_to_read, session.offloads_to_read = session.offloads_to_read, set()
            speeds_to_read, session.speeds_to_read = session.speeds_to_read, set()
            session.monitor.links.set_speeds(await self._ask(speeds_to_read, Lane.speeds))
            await self._ask_checksums(session, offloads_to_read)
            await anyio.sleep(PAUSE)

    async def _ask_checksums(self, session: Session, links: Iterable[LinkId]) -> None:
        session.monitor.links.set_checksums(await self._ask(links, Lane.checksums))
        self.drain()

    async def _ask(
        self, links: Iterable[LinkId], question: Callable[[Lane, list[int]], dict[LinkId, T]]
    ) -> dict[LinkId, T]:
        """Put a question to the lanes of links, as far as they are open."""
        if not (asked := by_lane(links, self._lanes)):
            return {}
        with self._closing.using():
            return await run_in_thread(partial(ask_lanes, question, asked))

    async def _list_names(self, session: Session) -> bool:
        async with session.naming:  # an older listing must not come after a newer one
            try:
                named = await run_in_thread(partial(list_namespaces, self._directory))
            except OSError as error:
                # What was there is there, as far as one can tell; the next look may tell more.
                log.warning("named namespaces cannot be listed", directory=self._directory, problem=in_words(error))
                return False
            session.names_changed |= named != session.named
            session.named = named
            return True

    # Attached namespaces

    def _listen_to(self, session: Session, lane: Lane, path: str) -> NamespaceUnavailable | None:
        try:
            session.monitor.listen(lane.namespace, lane.fd, lane.listening)
        except OSError as error:
            self._closing.close(lane.close)
            return NamespaceUnavailable(f"{path}: cannot listen to this namespace: {error.strerror}")
        self._lanes[lane.namespace] = lane
        return None

    async def _list(self, session: Session, namespaces: Iterable[NsId]) -> dict[NsId, NamespaceUnavailable]:
        """List namespaces that are attached; return which cannot be."""
        lanes = [self._lanes[namespace] for namespace in namespaces if namespace in self._lanes]
        problems = await self._require_relister().list_now(lanes)
        return problems if self._session is session else {}

    def _let_go(self, session: Session, namespace: NsId) -> None:
        session.ifindexes.forget(namespace)
        self._require_relister().forget(namespace)
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

    async def _follow_up(self, session: Session, outcomes: Iterable[Outcome]) -> None:
        """Learn what operations have changed without the kernel's saying so."""
        self.drain()
        half_done: set[NsId] = set()
        switched: list[LinkId] = []
        for outcome in outcomes:
            match outcome:
                case Outcome(operation=RemoveNamespace(id=id), errno=0):
                    self._let_go(session, id)
                case Outcome(operation=SetChecksums(target=target) as operation):
                    switched.append(LinkId(namespaces_of(operation)[0], target.ifindex or 0))
                case Outcome(operation=SetLink(target=target) as operation, errno=refused):
                    here = namespaces_of(operation)[0]
                    if refused:
                        half_done.add(here)
                    elif operation.alias is not None or operation.group is not None:
                        id_ = LinkId(here, target.ifindex or 0)
                        session.monitor.apply_silent_change(id_, alias=operation.alias, group=operation.group)
        await self._ask_checksums(session, switched)
        if half_done:
            await self._list(session, half_done)

    def _require_relister(self) -> Relister:
        if self._relister is None:
            raise AgentBug("the kernel does not run")
        return self._relister

    def _require_session(self) -> Session:
        if self._session is None:
            raise AgentBug("the kernel does not run")
        return self._session


def _ifindexes_for(operation: Operation, ifindexes: Ifindexes) -> Sequence[int]:
    if isinstance(operation, CreateLink) and len(operation.ends) == 2:
        return ifindexes.choose(*namespaces_of(operation))
    return ()
