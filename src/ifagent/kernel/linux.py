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
from ifagent.kernel.facts import find_facts
from ifagent.kernel.files import Files
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.jobs import namespaces_of, plan_jobs, require_named, unattached
from ifagent.kernel.lane import Lane, ask_lanes, by_lane, close_lanes, open_lanes, read_counters, read_host_routes
from ifagent.kernel.looks import Looks
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.names import INTERVAL, NameWatch
from ifagent.kernel.namespaces import list_namespaces, remove_left_overs
from ifagent.kernel.requests import encode_all
from ifagent.kernel.running import GATHER, PAUSE, THREADS, Running, change_name, do, find_sweeps, send
from ifagent.kernel.threads import off_loop
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
        self._running: Running | None = None
        self._lanes: dict[NsId, Lane] = {}
        self._looks: Looks | None = None
        self._files = Files()

    # The contract

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled. Raises ``OSError`` if the kernel does not let it."""
        if self._running:
            raise AgentBug("the kernel runs already")
        home = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
        try:
            facts = await off_loop(partial(find_facts, home=home))
            self.ipv6_newest_first = facts.newest_first
            monitor = Monitor(self.own, home, buffer=self._receive_buffer, facts=facts)
            try:
                running = Running(emit, self.own, home, monitor, tells_maker=facts.tells_maker)
                self._running, self._looks = running, Looks(running, self._lanes, self._files, self.drain)
                await self._listen(running, task_status)
            finally:
                self._running = None
                monitor.close()
                for lane in self._lanes.values():
                    self._files.close(lane.close)
                self._lanes.clear()
        finally:
            self._files.close(partial(os.close, home))

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Open namespaces and list them, or list them again; a path matters only to open one."""
        running = self._require_running()
        problems: dict[NsId, NamespaceUnavailable] = {}
        new = {namespace: path for namespace, path in paths.items() if namespace not in self._lanes}
        sizes = {namespace: running.monitor.buffer_for(namespace) for namespace in new}
        with self._files.using():
            opened = await off_loop(partial(open_lanes, new, home=running.home, buffers=sizes), undo=close_lanes)
        for namespace, lane in opened.items():
            if isinstance(lane, NamespaceUnavailable):
                problems[namespace] = lane
            elif self._running is not running:
                self._files.close(lane.close)
                problems[namespace] = NamespaceUnavailable(
                    f"{paths[namespace]}: the kernel is not listened to any more"
                )
            elif namespace in self._lanes:  # opened by two at once
                self._files.close(lane.close)
            elif problem := self._listen_to(running, lane, paths[namespace]):
                problems[namespace] = problem
        if self._running is running:
            problems |= await self._look(running, paths)
            for namespace in problems.keys() & self._lanes.keys():
                if not running.monitor.knows(namespace):
                    self._let_go(running, namespace)
        return problems

    async def relist(self) -> None:
        """List the names anew."""
        await self._list_names(self._require_running())
        self.drain()

    async def detach(self, namespace: NsId) -> None:
        """Close a namespace."""
        running = self._require_running()
        await anyio.lowlevel.checkpoint()
        self._let_go(running, namespace)

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations; one in a namespace that is not attached gets ``ENODEV`` or ``ENOENT``."""
        running = self._require_running()
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
                    running.monitor.expect(namespace)
        fds = {namespace: lane.fd for namespace, lane in self._lanes.items()}
        encoded = {
            place: encode_all(operation, fds=fds, ifindexes=_ifindexes_for(operation, running.ifindexes))
            for place, operation in requests
            if not isinstance(operation, SetChecksums)
        }
        jobs: list[Callable[[], dict[int, Outcome]]] = [
            partial(send, operations, encoded, steps, self._lanes.copy())
            for steps in plan_jobs(requests, width=THREADS, sweeps=find_sweeps(running.monitor, requests))
        ]
        jobs += [partial(change_name, self._directory, running.home, place, operations[place]) for place in names]
        with self._files.using():
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(do, job, running.threads, outcomes)
        if names:
            await self._list_names(running)
        await self._follow_up(running, outcomes.values())
        return [outcomes[place] for place in range(len(operations))]

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Ask for the checksum offloading of links that it was not asked of yet."""
        running = self._require_running()
        await self._ask_checksums(running, running.monitor.inspect(links))
        self.drain()

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Ask for the routes."""
        self._require_running()
        lanes = {namespace: self._lanes.get(namespace) for namespace in namespaces}
        with self._files.using():
            return await off_loop(partial(read_host_routes, self.own, lanes, hosts, ours))

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        """Read what links have counted, all in one thread: the kernel reads one namespace after the other anyway."""
        self._require_running()
        lanes = [lane for namespace in namespaces if (lane := self._lanes.get(namespace)) is not None]
        with self._files.using():
            found = await off_loop(partial(read_counters, lanes))
        self.drain()
        return found

    def drain(self) -> None:
        """Emit everything that the kernel has said so far."""
        running = self._require_running()
        if running.names_changed:
            running.names_changed = False
            running.emit(NamespacesListed(dict(running.named)))
        for seen in running.monitor.read():
            running.ifindexes.seen(*seen.id)
            running.emit(seen)
        looks = self._require_looks()
        for namespace, behind in running.monitor.take_fallen().items():
            running.emit(NamespaceBehind(namespace, behind))
            looks.note(namespace, behind=behind)
        looks.ask(running.monitor.take_doubtful())
        running.stirred |= running.monitor.take_stirred()
        running.speed_doubtful |= running.monitor.take_speed_doubtful()
        if running.stirred or running.speed_doubtful:
            running.doubt.set()

    # Listening

    async def _listen(self, running: Running, task_status: TaskStatus[None]) -> None:
        watch = await off_loop(partial(NameWatch, self._directory), undo=NameWatch.close)
        try:
            if self._mark is not None:
                await off_loop(partial(remove_left_overs, self._directory, self._mark))
            await self._list_names(running)
            running.names_changed = True
            self.drain()
            running.emit(NamespaceSeen(OWN_NAMESPACE, self.own, OWN_NAMESPACE_PATH))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow_notifications, running)
                tasks.start_soon(self._follow_names, running, watch)
                tasks.start_soon(self._dispel_doubt, running)
                tasks.start_soon(self._require_looks().run)
                task_status.started()
        finally:
            watch.close()

    async def _follow_notifications(self, running: Running) -> None:
        while True:
            await anyio.wait_readable(running.monitor)
            began = time.monotonic()
            if self._files.in_use:  # whoever waits for the threads drains when they are done
                running.monitor.digest()
            else:
                self.drain()
            # What takes longer to read than it takes to gather is left to gather: of a link only the last word counts.
            await anyio.sleep(max(GATHER, time.monotonic() - began))

    async def _follow_names(self, running: Running, watch: NameWatch) -> None:
        watch.start(lambda: running.renamed.set())  # noqa: PLW0108 the event is another one after each wake
        while True:
            running.renamed = anyio.Event()
            watch.listen()
            await off_loop(watch.follow)
            listed = await self._list_names(running)
            self.drain()
            await anyio.sleep(PAUSE)
            with anyio.move_on_after(watch.interval if listed else INTERVAL):
                await running.renamed.wait()

    async def _dispel_doubt(self, running: Running) -> None:
        """Ask what notifications do not tell."""
        while True:
            await running.doubt.wait()
            running.doubt = anyio.Event()
            stirred, running.stirred = running.stirred, set()
            speed_doubtful, running.speed_doubtful = running.speed_doubtful, set()
            running.monitor.know_speeds(await self._ask(speed_doubtful, Lane.speeds))
            await self._ask_checksums(running, stirred)
            await anyio.sleep(PAUSE)

    async def _ask_checksums(self, running: Running, links: Iterable[LinkId]) -> None:
        running.monitor.know_checksums(await self._ask(links, Lane.checksums))
        self.drain()

    async def _ask(
        self, links: Iterable[LinkId], question: Callable[[Lane, list[int]], dict[LinkId, T]]
    ) -> dict[LinkId, T]:
        """Put a question to the lanes of links, as far as they are open."""
        if not (asked := by_lane(links, self._lanes)):
            return {}
        with self._files.using():
            return await off_loop(partial(ask_lanes, question, asked))

    async def _list_names(self, running: Running) -> bool:
        async with running.naming:  # an older listing must not come after a newer one
            try:
                named = await off_loop(partial(list_namespaces, self._directory))
            except OSError as error:
                # What was there is there, as far as one can tell; the next look may tell more.
                log.warning("named namespaces cannot be listed", directory=self._directory, problem=in_words(error))
                return False
            running.names_changed |= named != running.named
            running.named = named
            return True

    # Attached namespaces

    def _listen_to(self, running: Running, lane: Lane, path: str) -> NamespaceUnavailable | None:
        try:
            running.monitor.listen(lane.namespace, lane.fd, lane.listening)
        except OSError as error:
            self._files.close(lane.close)
            return NamespaceUnavailable(f"{path}: cannot listen to this namespace: {error.strerror}")
        self._lanes[lane.namespace] = lane
        return None

    async def _look(self, running: Running, namespaces: Iterable[NsId]) -> dict[NsId, NamespaceUnavailable]:
        """List namespaces that are attached; return which cannot be."""
        lanes = [self._lanes[namespace] for namespace in namespaces if namespace in self._lanes]
        problems = await self._require_looks().look(lanes)
        return problems if self._running is running else {}

    def _let_go(self, running: Running, namespace: NsId) -> None:
        running.ifindexes.forget(namespace)
        self._require_looks().forget(namespace)
        lane = self._lanes.pop(namespace, None)
        if lane is None:
            return
        self.drain()
        if running.monitor.is_behind(namespace):
            running.emit(NamespaceBehind(namespace, behind=False))
        seen = running.monitor.forget(namespace)
        self._files.close(lane.close)
        running.emit(LinksListed(namespace, None))
        for each in seen:
            running.emit(each)

    async def _follow_up(self, running: Running, outcomes: Iterable[Outcome]) -> None:
        """Learn what operations have changed without the kernel's saying so."""
        self.drain()
        half_done: set[NsId] = set()
        switched: list[LinkId] = []
        for outcome in outcomes:
            match outcome:
                case Outcome(operation=RemoveNamespace(id=id), errno=0):
                    self._let_go(running, id)
                case Outcome(operation=SetChecksums(target=target) as operation):
                    switched.append(LinkId(namespaces_of(operation)[0], target.ifindex or 0))
                case Outcome(operation=SetLink(target=target) as operation, errno=refused):
                    here = namespaces_of(operation)[0]
                    if refused:
                        half_done.add(here)
                    elif operation.alias is not None or operation.group is not None:
                        id_ = LinkId(here, target.ifindex or 0)
                        running.monitor.amend(id_, alias=operation.alias, group=operation.group)
        await self._ask_checksums(running, switched)
        if half_done:
            await self._look(running, half_done)

    def _require_looks(self) -> Looks:
        if self._looks is None:
            raise AgentBug("the kernel does not run")
        return self._looks

    def _require_running(self) -> Running:
        if self._running is None:
            raise AgentBug("the kernel does not run")
        return self._running


def _ifindexes_for(operation: Operation, ifindexes: Ifindexes) -> Sequence[int]:
    if isinstance(operation, CreateLink) and len(operation.ends) == 2:
        return ifindexes.choose(*namespaces_of(operation))
    return ()
