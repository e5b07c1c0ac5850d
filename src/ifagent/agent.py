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

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import anyio
from anyio.abc import TaskStatus

from ifagent.core.address_values import interned
from ifagent.core.events import Declaration
from ifagent.core.index import Index
from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.resources import by_name, interface_key
from ifagent.core.revisions import RevisionProgress
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.errors import AgentEnded, InvalidSettings, NotApplied, RevisionNotApplied, UnknownInterface
from ifagent.host import Host
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.loop import Loop
from ifagent.overview import Overview
from ifagent.reconciler import Reconciler
from ifagent.runtime_file import RuntimeFile
from ifagent.settings import Settings
from ifagent.state_streams import StateStreams
from ifagent.statistics import Health, Statistics
from ifagent.stores.contract import RemoteSource, Source
from ifagent.stores.memory import Memory
from ifagent.stream import StateHub, Subscription, Wanted
from ifagent.watchers.contract import NamespaceWatcher


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
        host = Host(kernel, tuple(watchers or ())) if kernel else Host.real(self.settings, watchers)
        self._host: Host = host
        self._declared_here = Memory(name="api")
        self._sources: tuple[Source, ...] = (self._declared_here, *sources)
        self._inbox = Inbox()
        self._hub = StateHub()
        owner = host.owner(self.settings.label)
        self._index = Index(host.kernel.own, _names_of(self._sources), owner, self.settings.policy)
        host.tell(self._index)
        self._streams = StateStreams(self._hub, self._index, host.kernel)
        # Where states are published for whoever does not ask for anything else.
        self._published = self._streams.hub(counters=self.settings.counters, permanent=True)
        runtime_file = RuntimeFile(self.settings.runtime_dir, self.settings.label, host.kernel.own)
        self._index.remember(runtime_file.load())
        self._reconciler = Reconciler(
            host.kernel,
            self._index,
            self._inbox,
            self._hub,
            owner,
            host.watchers,
            runtime_file=runtime_file,
            policy=self.settings.policy,
            hosts=[host for source in sources if isinstance(source, RemoteSource) for host in source.hosts],
            repairs_drift=self.settings.drift == "repair",
        )
        self._loop = Loop(self.settings, host, self._sources, self._inbox, self._reconciler, self._streams)
        counts_links = self.settings.counters is not None
        self._overview = Overview(self._loop, self._streams, self._published, counts_links=counts_links)

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
        async with _beside(agent.run):
            yield agent

    def take_label(self) -> None:
        """Lock the label on this host, unless it is locked already; :meth:`run` does so too.

        For programs that do something in the label's name before they run the agent. An agent with a kernel of the
        caller's locks nothing. Raises :class:`LabelTaken`, which names the process, if another agent of this label
        runs in the same network namespace; nothing has been changed then.
        """
        self._host.take_label()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; ``task_status.started()`` is called when the agent is ready.

        Raises :class:`LabelTaken` as :meth:`take_label` does, and whatever goes wrong inside: a bug ends the agent
        rather than let it guess.
        """
        await self._loop.run(task_status=task_status)

    # Declaring

    async def configure(self, interface: Interface) -> InterfaceState:
        """Declare an interface, or replace its declaration; return its state once that has been processed.

        Any state is an answer, not an error, such as ``PENDING`` while something is missing. Raises
        :class:`AgentEnded` if the agent is not running, and :class:`UnknownInterface` if another task deletes the
        interface before it was processed.
        """
        self._loop.check_running()
        self._declared_here.set(interface)
        await self._settle(interface.name)
        state = self._hub.states.get(interface_key(interface.name))
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
        self._loop.check_running()
        self._declared_here.remove(name)
        await self._settle(name)

    async def resync(self, interfaces: Iterable[Interface] | None = None) -> dict[Name, InterfaceState]:
        """Read everything from the kernel again and repair what is not as declared, drift too; return all states.

        With ``interfaces``, exactly these are declared here from now on. What is as declared is not touched.
        """
        self._loop.check_running()
        if interfaces is not None:
            self._declared_here.replace(interfaces)
        await self._loop.relist()
        await self._settle()
        return by_name(self._hub.states)

    async def _settle(self, name: Name | None = None) -> None:
        """Wait until every event until now about an interface, or about all, has been processed."""
        await self._reconciler.settling.wait(None if name is None else interface_key(name))
        self._loop.check_running()

    def tidy(self) -> None:
        """Free memory that is otherwise freed only once there is enough of it to be worth the work."""
        self._index.agenda.tidy(anyio.current_time())
        self._streams.tidy()
        interned.cache_clear()
        interface_key.cache_clear()

    # Watching

    def state(self, name: Name) -> InterfaceState | None:
        """Return the newest state of an interface, ``None`` if it is not known."""
        return self._published.states.get(interface_key(name))

    def current_states(self, *, foreign: bool = False) -> dict[Name, InterfaceState]:
        """Return the newest state of every interface, by name; with ``foreign`` those of other links too."""
        hub = self._streams.hub(foreign=True, counters=self.settings.counters) if foreign else self._published
        return by_name(hub.states)

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
        hub = self._streams.hub(foreign=foreign, counters=self.settings.counters if counters is None else counters)
        return hub.subscribe(Wanted.of(name=name, names=names, namespace=namespace, kind=kind))

    def declarations(self) -> dict[Name, Declaration]:
        """Return everything that is declared, by name."""
        return by_name(self._index.declared)

    def health(self) -> Health:
        """Return whether the agent is alive and ready now; it costs nothing however many interfaces there are."""
        return self._overview.health()

    def statistics(self) -> Statistics:
        """Return what has been counted and how the agent is now; later changes are not seen in it."""
        return self._overview.statistics()

    async def wait_ready(self) -> None:
        """Wait until every source has synced and the first round is done; raises :class:`AgentEnded`."""
        await self._loop.ready.wait()
        self._loop.check_running()

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
        key = interface_key(name)
        with anyio.move_on_after(timeout):
            while True:
                state = self._hub.states.get(key)
                if state is not None and (state.config_state is ConfigState.APPLIED) is applied:
                    return state
                if self._loop.ended:
                    raise AgentEnded("the agent has ended")
                await self._hub.wait_changed()
        raise NotApplied(name, self._hub.states.get(key))

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
        progress = RevisionProgress(declarations, self._hub.states, name, revision)
        with anyio.move_on_after(timeout):
            while not progress.done:
                self._loop.check_running()
                await self._loop.wait_for_round()
            return
        raise RevisionNotApplied(revision, seen=progress.seen, states=by_name(progress.missing()))


def _names_of(sources: Iterable[Source]) -> list[str]:
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InvalidSettings(f"source names must be unique, not {', '.join(names)}")
    return names


@asynccontextmanager
async def _beside(run: Callable[..., Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Have something run while the block lasts; what the block raises comes out as it was raised."""
    raised: list[BaseException] = []
    try:
        async with anyio.create_task_group() as group:
            await group.start(run)
            try:
                yield
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
