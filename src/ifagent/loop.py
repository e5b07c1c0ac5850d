"""The agent's loop: everything that runs while it does, and one round after the other."""

from __future__ import annotations

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ifagent.errors import AgentBug, AgentEnded
from ifagent.host import Host
from ifagent.inbox import Inbox
from ifagent.log import log
from ifagent.mounts import WHY_SECLUDED
from ifagent.reconciler import Reconciler
from ifagent.settings import Settings
from ifagent.state_streams import StateStreams
from ifagent.stores.contract import Source
from ifagent.watchers.contract import NamespaceWatcher


class Loop:
    """Runs ``sources``, the watchers and the kernel's listening as tasks of their own, and rounds of ``reconciler``.

    ``ready`` is set once the first snapshot of every source has been processed, and when the loop has ended.
    """

    def __init__(
        self,
        settings: Settings,
        host: Host,
        sources: tuple[Source, ...],
        inbox: Inbox,
        reconciler: Reconciler,
        streams: StateStreams,
    ) -> None:
        self.running: bool = False
        self.ended: bool = False
        self.ready: anyio.Event = anyio.Event()
        self.inbox = inbox
        self.reconciler = reconciler
        self._settings = settings
        self._host = host
        self._sources = sources
        self._index = reconciler.index
        self._streams = streams
        self._round_done = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; ``task_status.started()`` is called when the agent is ready."""
        if self.running:
            raise RuntimeError("an agent can only run once; create another one")
        self._host.take_label()
        self.running = True
        self.reconciler.counters.moves()
        if self._host.secluded:
            problem = f"{self._host.secluded}: {WHY_SECLUDED}"
            log.warning("named namespaces are visible to this agent only", problem=problem)
        try:
            async with anyio.create_task_group() as group:
                await self._start(group)
                await self._rounds(group, task_status)
        finally:
            self.ended = True
            self._streams.close()
            self.reconciler.settling.close()
            self._round_done.set()
            self.ready.set()
            self._host.release_label()

    def check_running(self) -> None:
        """Raise :class:`AgentEnded` unless the loop runs."""
        if self.ended or not self.running:
            raise AgentEnded("the agent has ended" if self.ended else "the agent is not running yet")

    async def wait_for_round(self) -> None:
        """Wait until the next round is done, or the loop has ended."""
        await self._round_done.wait()

    async def relist(self) -> None:
        """List every namespace anew, and have all drift repaired; return once that is found, or the loop has ended."""
        listed = self.reconciler.request_full_resync(repair=True)
        while not (listed.is_set() or self.ended):
            await self.wait_for_round()

    async def _start(self, group: TaskGroup) -> None:
        kernel = self._host.kernel
        await group.start(lambda *, task_status: kernel.run(self.inbox.put, task_status=task_status))
        self._index.ipv6_newest_first = kernel.ipv6_newest_first
        await group.start(self.reconciler.run)
        for source in self._sources:
            group.start_soon(self._hear, f"source {source.name}", source)
        for watcher in self._host.watchers:
            group.start_soon(self._hear, type(watcher).__name__, watcher)
        group.start_soon(self._resync_regularly)
        if self._host.lock is not None:
            group.start_soon(self._host.lock.run)
        group.start_soon(self._streams.run)

    async def _hear(self, what: str, speaker: Source | NamespaceWatcher) -> None:
        await speaker.run(self.inbox.put)
        raise AgentBug(f"{what} ended unexpectedly; it must run until it is cancelled")

    async def _rounds(self, group: TaskGroup, task_status: TaskStatus[None]) -> None:
        heard = False
        while True:
            self.reconciler.counters.rests()
            await self.inbox.wait(self.reconciler.next_time)
            self.reconciler.counters.moves()
            await self.reconciler.round()
            self._streams.refresh_foreign()
            if not heard and not self._index.declarations.unheard:
                heard = True
                group.start_soon(self._become_ready, task_status)
            self._round_done.set()
            self._round_done = anyio.Event()

    async def _become_ready(self, task_status: TaskStatus[None]) -> None:
        """Be ready once the first snapshot of every source has been processed."""
        await self.reconciler.settling.wait()
        if not self.ended:
            log.info("agent ready", interfaces=len(self._index.declared), label=self._settings.label)
            self.ready.set()
            task_status.started()

    async def _resync_regularly(self) -> None:
        while True:
            await anyio.sleep(self._settings.resync_interval)
            self.reconciler.request_full_resync()
