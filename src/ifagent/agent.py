"""The agent: how everything works together.

::

    sources ----------> inbox ---> round: fold, plan, carry out, look again ---> states
    kernel's events -->            (reconciler.py)                    |            (stream.py)
       ^                                                              v
       +------------------------- operations, in lanes ------------ kernel

One task reads the inbox and carries out rounds; only it changes the index. Every source and the kernel's
listening run as tasks of their own and do nothing but put events into the inbox. Whatever happened, the next
round looks at the whole picture and does what is missing: a restart, drift, a namespace that comes late and a
lost message are all the same ordinary round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ifagent.core.address_values import interned
from ifagent.core.counters import Counters
from ifagent.core.events import Declaration
from ifagent.core.index import Index
from ifagent.core.interface import Interface, Name, NamespaceRef
from ifagent.core.link import NsId
from ifagent.core.ownership import Owner
from ifagent.core.state import DECLARED_STATES, ConfigState, InterfaceState
from ifagent.errors import AgentBug, AgentEnded, InvalidSettings, NotApplied, RevisionNotApplied, UnknownInterface
from ifagent.feeds import Feeds
from ifagent.host_lock import HostLock
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.mounts import WHY_SECLUDED, seclusion
from ifagent.nsfs import identify
from ifagent.reconciler import Reconciler
from ifagent.runtime_file import RuntimeFile
from ifagent.settings import Settings
from ifagent.statistics import Health, SourceStatistics, Statistics
from ifagent.stores.contract import RemoteSource, Source
from ifagent.stores.memory import Memory
from ifagent.stream import StateHub, Subscription, Wanted
from ifagent.watchers.contract import NamespaceWatcher

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Agent:
    """Keeps the kernel's interfaces as its sources, and its callers, declare them.

    ``sources`` are heard in the order given: where two declare the same name, the first one counts; what is
    declared through :meth:`configure` counts before all of them. ``kernel`` is the real one unless given.
    ``watchers`` find the namespaces of processes, paths and containers; unless given, there are those that the
    settings describe on the real kernel, and none on another. An agent runs once.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        sources: Sequence[Source] = (),
        kernel: Kernel | None = None,
        watchers: Sequence[NamespaceWatcher] | None = None,
    ) -> None:
        self.settings: Settings = settings or Settings()
        first_process: NsId | None = None
        self._host_lock: HostLock | None = None
        secluded = ""
        if kernel is None:
            from ifagent.kernel.linux import LinuxKernel
            from ifagent.watchers.registry import make_watchers

            watchers = make_watchers(self.settings) if watchers is None else watchers
            mark = Owner(self.settings.label).namespace_mark
            kernel = LinuxKernel(netns_dir=str(self.settings.netns_dir), mark=mark)
            self._host_lock = HostLock(self.settings.label)
            first_process = identify(str(self.settings.proc_root / "1/ns/net"))
            if not self.settings.private_mounts:
                secluded = seclusion(str(self.settings.netns_dir), str(self.settings.proc_root))
        self._kernel = kernel
        self._declared_here = Memory(name="api")
        self._sources: tuple[Source, ...] = (self._declared_here, *sources)
        names = [source.name for source in self._sources]
        if len(set(names)) < len(names):
            raise InvalidSettings(f"source names must be unique, not {', '.join(names)}")
        self._inbox = Inbox()
        self._hub = StateHub()
        owner = Owner(self.settings.label, _BOOT_ID.read_bytes() + str(kernel.own).encode())
        self._index = Index(kernel.own, names, owner, self.settings.policy)
        if first_process is not None:
            self._index.host |= {first_process}
        self._index.secluded = secluded
        self._feeds = Feeds(self._hub, self._index, kernel)
        # Where states are told to whoever does not ask for anything else.
        self._told = self._feeds.hub(counters=self.settings.counters, keep=True)
        self._watchers = tuple(watchers or ())
        runtime_file = RuntimeFile(self.settings.runtime_dir, self.settings.label, kernel.own)
        self._index.remember(runtime_file.load())
        hosts = [host for source in sources if isinstance(source, RemoteSource) for host in source.hosts]
        self._reconciler = Reconciler(
            kernel,
            self._index,
            self._inbox,
            self._hub,
            owner,
            self._watchers,
            runtime_file=runtime_file,
            policy=self.settings.policy,
            hosts=hosts,
            repairs_drift=self.settings.drift == "repair",
        )
        self._settled = anyio.Event()
        self._running = False
        self._ended = False
        self._ready = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings | None = None, *, sources: Sequence[Source] = (), kernel: Kernel | None = None
    ) -> AsyncIterator[Self]:
        """Run an agent while the block lasts; entered once every source has synced and the first round is done.

        Leaving the block ends the agent and leaves the kernel as it is. The block's exceptions are not changed.
        Whatever goes wrong inside the agent cancels the block, and is raised as by :meth:`run`; if the block raises
        something else meanwhile, both are in one group.
        """
        agent = cls(settings, sources=sources, kernel=kernel)
        agent.take_label()
        raised: list[BaseException] = []
        try:
            async with anyio.create_task_group() as group:
                await group.start(agent.run)
                try:
                    yield agent
                except BaseException as error:
                    raised.append(error)
                    raise
                finally:
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            if [id(error) for error in errors.exceptions] != [id(error) for error in raised]:
                raise
        if raised:
            raise raised[0]

    def take_label(self) -> None:
        """Lock the label on this host, unless it is locked already; :meth:`run` does so too.

        For programs that do something in the label's name before they run the agent. An agent with a kernel of the
        caller's locks nothing. Raises :class:`LabelTaken`, which names the process, if another agent of this label
        runs in the same network namespace; nothing has been changed then.
        """
        if self._host_lock is not None:
            self._host_lock.take()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; ``task_status.started()`` is called when the agent is ready.

        Raises :class:`LabelTaken` as :meth:`take_label` does, and whatever goes wrong inside: a bug ends the agent
        rather than let it guess.
        """
        if self._running:
            raise RuntimeError("an agent can only run once; create another one")
        self.take_label()
        self._running = True
        self._reconciler.counters.moves()
        if self._index.secluded:
            problem = f"{self._index.secluded}: {WHY_SECLUDED}"
            log.warning("named namespaces are visible to this agent only", problem=problem)
        try:
            async with anyio.create_task_group() as group:
                await group.start(lambda *, task_status: self._kernel.run(self._inbox.put, task_status=task_status))
                self._index.ipv6_newest_first = self._kernel.ipv6_newest_first
                await group.start(self._reconciler.run)
                for source in self._sources:
                    group.start_soon(self._hear, f"source {source.name}", source)
                for watcher in self._watchers:
                    group.start_soon(self._hear, type(watcher).__name__, watcher)
                group.start_soon(self._look_regularly)
                if self._host_lock is not None:
                    group.start_soon(self._host_lock.run)
                group.start_soon(self._feeds.run)
                await self._loop(group, task_status)
        finally:
            self._ended = True
            self._feeds.close()
            self._reconciler.settling.close()
            self._settled.set()
            self._ready.set()
            if self._host_lock is not None:
                self._host_lock.release()

    async def _hear(self, what: str, speaker: Source | NamespaceWatcher) -> None:
        await speaker.run(self._inbox.put)
        raise AgentBug(f"{what} ended unexpectedly; it must run until it is cancelled")

    async def _loop(self, group: TaskGroup, task_status: TaskStatus[None]) -> None:
        heard = False
        while True:
            self._reconciler.counters.rests()
            await self._inbox.wait(self._reconciler.next_time)
            self._reconciler.counters.moves()
            await self._reconciler.round()
            self._feeds.look()
            if not heard and not self._index.declarations.unheard:
                heard = True
                group.start_soon(self._become_ready, task_status)
            self._settled.set()
            self._settled = anyio.Event()

    async def _become_ready(self, task_status: TaskStatus[None]) -> None:
        """Be ready once the first snapshot of every source has been processed."""
        await self._reconciler.settling.wait()
        if not self._ended:
            log.info("agent ready", interfaces=len(self._index.declared), label=self.settings.label)
            self._ready.set()
            task_status.started()

    async def _look_regularly(self) -> None:
        while True:
            await anyio.sleep(self.settings.resync_interval)
            self._reconciler.request_full_resync()

    # Declaring

    async def configure(self, interface: Interface) -> InterfaceState:
        """Declare an interface, or replace its declaration; return its state once that has been processed.

        Any state is an answer, not an error, such as ``PENDING`` while something is missing. Raises
        :class:`AgentEnded` if the agent is not running, and :class:`UnknownInterface` if another task deletes the
        interface before it was processed.
        """
        self._check_running()
        self._declared_here.set(interface)
        await self._settle(interface.name)
        state = self._hub.states.get(interface.name)
        if state is None:  # another task has deleted it meanwhile
            raise UnknownInterface(interface.name)
        return state

    async def modify(self, name: Name, **changes: Any) -> InterfaceState:
        """Change some fields of an interface that was declared with :meth:`configure`; return its new state.

        Raises :class:`UnknownInterface` if it was not, and ``pydantic.ValidationError`` for a bad value.
        """
        interface = self._declared_here.get(name)
        if interface is None:
            raise UnknownInterface(name)
        return await self.configure(replace(interface, **changes))

    async def delete(self, name: Name) -> None:
        """Delete what :meth:`configure` declared; return once that has been processed.

        It is not an error if the interface is not declared here, or already gone.
        """
        self._check_running()
        self._declared_here.remove(name)
        await self._settle(name)

    async def resync(self, interfaces: Iterable[Interface] | None = None) -> dict[Name, InterfaceState]:
        """Read everything from the kernel again and repair what is not as declared, drift too; return all states.

        With ``interfaces``, exactly these are declared here from now on. What is as declared is not touched.
        """
        self._check_running()
        if interfaces is not None:
            self._declared_here.replace(interfaces)
        looked = self._reconciler.request_full_resync(repair=True)
        while not looked.is_set():
            self._check_running()
            await self._settled.wait()
        await self._settle()
        return dict(self._hub.states)

    async def _settle(self, name: Name | None = None) -> None:
        """Wait until every event until now about an interface, or about all, has been processed."""
        await self._reconciler.settling.wait(name)
        self._check_running()

    def _check_running(self) -> None:
        if self._ended or not self._running:
            raise AgentEnded("the agent has ended" if self._ended else "the agent is not running yet")

    def tidy(self) -> None:
        """Free memory that is otherwise freed only once there is enough of it to be worth the work."""
        self._index.agenda.tidy(anyio.current_time())
        self._feeds.tidy()
        interned.cache_clear()

    # Watching

    def state(self, name: Name) -> InterfaceState | None:
        """Return the newest state of an interface, ``None`` if it is not known."""
        return self._told.states.get(name)

    def current_states(self, *, foreign: bool = False) -> dict[Name, InterfaceState]:
        """Return the newest state of every interface, by name; with ``foreign`` those of other links too."""
        return dict(
            self._feeds.hub(foreign=True, counters=self.settings.counters).states if foreign else self._told.states
        )

    def states(
        self,
        *,
        name: Name | None = None,
        names: Iterable[Name] | None = None,
        namespace: NamespaceRef | None = None,
        kind: str | None = None,
        counters: float | None = None,
        foreign: bool = False,
    ) -> Subscription:
        """Return an asynchronous iterator over a snapshot of all states, then every change, without a gap.

        ``name`` and ``names`` restrict it to these interfaces, ``namespace`` to those declared to be there, ``kind``
        to those of one kind, such as ``veth`` (:attr:`InterfaceState.type`); given together, all must be so. A state
        that stops matching is reported as deleted, one that starts matching as created. The iterator ends when the
        agent does. A slow reader misses intermediate states only and is told how many; it does not slow others down.

        With ``counters``, the links' counters are read at that interval, in seconds, as long as a reader asks for it,
        and states have :attr:`InterfaceState.statistics` from the first reading on; those whose counters have changed
        are reported as changed. The default is :attr:`Settings.counters`. With ``foreign``, links without a declared
        interface are included, in every namespace that interfaces or links of the agent's are in, by their names in
        the kernel (``eth0``, ``eth0@named:ns1``) and as ``FOREIGN``. Raises :class:`InvalidSettings` for an interval
        that is too short.
        """
        hub = self._feeds.hub(foreign=foreign, counters=self.settings.counters if counters is None else counters)
        return hub.subscribe(Wanted.of(name=name, names=names, namespace=namespace, kind=kind))

    def declarations(self) -> dict[Name, Declaration]:
        """Return everything that is declared, by name."""
        return dict(self._index.declared)

    def health(self) -> Health:
        """Return whether the agent is alive and ready now; it costs nothing however many interfaces there are."""
        declarations = self._index.declarations
        unheard = set(declarations.unheard)
        return Health(
            ready=self._ready.is_set() and not self._ended,
            ended=self._ended,
            stalled_for=self._reconciler.counters.stalled_for,
            sources=tuple(
                SourceStatistics(name=name, synced=name not in unheard, problem=declarations.problems.get(name, ""))
                for name in declarations.sources
            ),
        )

    def statistics(self) -> Statistics:
        """Return what has been counted and how the agent is now; later changes are not seen in it."""
        counters, health = self._reconciler.counters, self.health()
        return Statistics(
            ready=health.ready,
            ended=health.ended,
            stalled_for=health.stalled_for,
            sources=health.sources,
            rounds=counters.rounds,
            operations=MappingProxyType(dict(counters.operations)),
            reaction=counters.histogram(),
            inbox=len(self._inbox),
            namespaces=self._index.attached_count,
            subscribers=self._feeds.readers,
            interfaces=MappingProxyType({state: self._hub.counts[state] for state in DECLARED_STATES}),
            counters=MappingProxyType(self._counters()),
        )

    def _counters(self) -> dict[Name, Counters]:
        """Return what the links have counted; without an interval none of very many states is looked at for that."""
        if self.settings.counters is None:
            return {}
        return {s.name: s.statistics for s in self._told.states.values() if s.statistics}

    async def wait_ready(self) -> None:
        """Wait until every source has synced and the first round is done; raises :class:`AgentEnded`."""
        await self._ready.wait()
        self._check_running()

    async def wait_for(
        self,
        name: Name,
        *,
        applied: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 part of the promise
    ) -> InterfaceState:
        """Wait until an interface is applied, or with ``applied=False`` until it is not; return its state.

        ``timeout`` is in seconds. Raises :class:`NotApplied`, which says why, when it has passed, and
        :class:`AgentEnded` when the agent has ended.
        """
        with anyio.move_on_after(timeout):
            while True:
                state = self._hub.states.get(name)
                if state is not None and (state.config_state is ConfigState.APPLIED) is applied:
                    return state
                if self._ended:
                    raise AgentEnded("the agent has ended")
                await self._hub.wait_changed()
        raise NotApplied(name, self._hub.states.get(name))

    async def wait_for_revision(
        self,
        revision: int,
        *,
        source: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 part of the promise
    ) -> None:
        """Wait until everything that a store declares up to ``revision`` is applied; return immediately if it is.

        ``source`` is the name of the source whose store counts the revisions, unless given the first of ``sources``;
        ``revision`` is what etcd returned for a transaction, or the time of a file in ns. Applied means: the agent has
        seen that revision, or a later one; every interface of this source whose value was last changed at
        or before it is ``APPLIED`` with that value; and what is no longer declared is gone. A value that was
        changed later, or that another source's takes precedence over, is not waited for. etcd reports only revisions
        that changed this agent's interfaces, so wait for one that did.

        ``timeout`` is in seconds. Raises :class:`RevisionNotApplied`, which names what is missing and why, when it
        has passed, :class:`InvalidSettings` if there is no such source, and :class:`AgentEnded` when the agent has
        ended.
        """
        name = source or (self._sources[1].name if len(self._sources) > 1 else "")
        declarations = self._index.declarations
        if name not in declarations.sources:
            raise InvalidSettings(f"no source is called {name!r}" if name else "no source has a store")
        with anyio.move_on_after(timeout):
            missing: Collection[Name] = ()
            while True:
                if declarations.revision(name) >= revision:
                    # Only what was missing before is looked at again, until nothing of that is.
                    missing = self._missing(name, revision, missing) or self._missing(name, revision)
                    if not missing:
                        return
                self._check_running()
                await self._settled.wait()
        raise RevisionNotApplied(revision, seen=declarations.revision(name), states=self._missing(name, revision))

    def _missing(
        self, source: str, revision: int, names: Collection[Name] | None = None
    ) -> dict[Name, InterfaceState | None]:
        """Return what is not as a source's store said up to a revision, of all or of some, with its newest state."""
        states, declarations = self._hub.states, self._index.declarations
        if names is None:
            names = declarations.names_by(source) | (states.keys() - declarations.declared.keys())
        missing: dict[Name, InterfaceState | None] = {}
        for name in names:
            state, declaration = states.get(name), declarations.by(source, name)
            if declaration is None:
                if state is not None and name not in declarations.declared:
                    missing[name] = state
            elif declaration.revision <= revision:
                if state is None or state.observed_revision != declaration.revision:
                    missing[name] = None
                elif state.config_state is not ConfigState.APPLIED:
                    missing[name] = state
        return missing
