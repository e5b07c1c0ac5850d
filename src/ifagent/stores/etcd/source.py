"""Intent from etcd: all interfaces under the keys of ligato v1.4.1 and of ligato v3, see :mod:`ifagent.formats.keys`.

Values are decoded in portions, so that a client that writes very many of them does not block the agent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final, assert_never

import anyio
from anyio.lowlevel import checkpoint

from ifagent.core.events import Declared, Event, SourceHealth, SourceRevision, SourceSnapshot
from ifagent.core.names import Name
from ifagent.core.resources import Key
from ifagent.formats.families import Families
from ifagent.log import log
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import AT_ONCE, Changes, StoreRevision, Value
from ifagent.stores.etcd.backlog import Backlog
from ifagent.stores.etcd.client import EtcdClient, Page
from ifagent.stores.etcd.watcher import Disconnected, Listed, PagedEvent, Reconnected, watch_pages

HOLD: Final = 0.005
"""Seconds after which others have a turn while values are read: a large one may take some milliseconds."""

TURNS: Final = 8
"""Turns of the loop without news of the store after which the next are read: an answer takes several to be heard."""

MOST_TURNS: Final = 64
"""Most turns of the loop that the store is heard before the next values are read."""

_NAMED: Final = 5
"""Most names in a sentence."""


async def until_silent(heard: Callable[[], int]) -> None:
    """Let the store say what it has: what is urgent may be behind very much that is not.

    ``heard`` returns the revision that was heard last.
    """
    silent = 0
    for _ in range(MOST_TURNS):
        before = heard()
        await checkpoint()
        silent = silent + 1 if heard() == before else 0
        if silent == TURNS:
            break


class EtcdSource:
    """What the store at ``address`` declares for the agent called ``label``; it calls itself ``name``.

    Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, address: EtcdAddress, label: str, *, name: str = "etcd") -> None:
        self.name = name
        self._address = address
        self._families = Families(label)
        self._emit: Callable[[Event], None]
        self._position: StoreRevision | None = None
        self._backlog = Backlog(self._families.is_valid)
        self._moved = anyio.Event()
        self._turn = anyio.Lock()
        self._heard = 0
        self._since = 0.0
        self._lost = ""
        self._emptied = ""
        self._told_left_out = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """The cluster's members."""
        return tuple(endpoint.host for endpoint in self._address.endpoints)

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Emit declarations until cancelled.

        A :class:`SourceSnapshot` comes first; then one :class:`Declared` for every name whose keys changed, up to
        :data:`AT_ONCE` of one transaction without an ``await`` between them, and after a loss of the store for every
        name whose declaration differs. :class:`SourceHealth` reports once that the store is lost, and once that it is
        back; the last declarations stay in force meanwhile. It also reports a store that has come back empty, until
        something is declared again, and a store with too many names. Never returns, and never raises for trouble with
        the store.
        """
        self._emit = emit
        async with EtcdClient(self._address) as client, anyio.create_task_group() as group:
            group.start_soon(self._work_off)
            while True:
                async with aclosing(watch_pages(client, *self._families.prefixes)) as events:
                    async for event in events:
                        await self._take(event)
                        del event  # a page may be large, and the next event a long time away
                        if self._told_left_out and self._families.has_room:
                            break  # what was left out has to be listed

    async def _work_off(self) -> None:
        """Decode and emit changes, the most urgent first, until cancelled."""
        while True:
            while not len(self._backlog):
                await self._moved.wait()
            async with self._turn:
                if len(self._backlog):
                    changes = self._backlog.take()
                    await self._tell(await self._understand(changes.changes))
                    if not len(self._backlog):
                        self._tell_revision(self._heard)
            self._moved.set()
            self._moved = anyio.Event()

    async def _take(self, event: PagedEvent) -> None:
        match event:
            case Page(_, values, is_first):
                async with self._turn:
                    if is_first:
                        self._backlog.clear()
                        self._families.begin_listing()
                    await self._understand(values)
            case Listed(position):
                async with self._turn:
                    await self._compare(position)
            case Changes(revision):
                self._heard = self._heard if event.more else revision
                self._backlog.add(event)
                self._moved.set()
                self._moved = anyio.Event()
                while self._backlog.is_full:
                    await self._moved.wait()
            case Disconnected(problem):
                self._lost = problem
                log.warning("lost connection to the store", source=self.name, problem=problem)
                self._tell_health()
            case Reconnected():
                self._lost = ""
                log.info("reconnected to the store", source=self.name)
                self._tell_health()
            case _:
                assert_never(event)

    async def _understand(self, changes: Sequence[tuple[bytes, Value | None]]) -> dict[Key, None]:
        """Read values, and let others have a turn now and then; return the resources that they are about."""
        keys: dict[Key, None] = {}
        for change in changes:
            if time.monotonic() - self._since > HOLD:
                await until_silent(lambda: self._heard)
                self._since = time.monotonic()
            keys |= self._families.change([change])
        return keys

    async def _compare(self, position: StoreRevision) -> None:
        """Emit the differences between a listing and what was emitted before."""
        before = self._position
        if before is None:
            self._families.end_listing()
            declarations = self._families.declarations()
            self._emit(SourceSnapshot(self.name, declarations, complete=not self._families.left_out))
            self._position = position
            self._tell_revision(position.revision)
            self._tell_left_out()
            return
        self._position = position
        different = self._families.end_listing()
        gone = [key.name for key, declaration in different.items() if declaration is None]
        if gone and not len(self._families):
            self._say_empty(gone, before, position)
        await self._tell(different)
        self._tell_revision(position.revision)

    async def _tell(self, keys: Iterable[Key]) -> None:
        left = iter(keys)
        while some := list(islice(left, AT_ONCE)):
            for key in some:
                self._emit(Declared(self.name, key, self._families.effective(key)))
            if len(some) == AT_ONCE:
                await checkpoint()
        if self._emptied and len(self._families):
            self._emptied = ""
            log.info("the store declares interfaces again", source=self.name)
            self._tell_health()
        self._tell_left_out()

    def _tell_revision(self, revision: int) -> None:
        if self._position is not None:
            self._position = StoreRevision(self._position.cluster_id, revision)
        self._emit(SourceRevision(self.name, revision))

    # What people have to know

    def _say_empty(self, gone: Sequence[Name], before: StoreRevision, now: StoreRevision) -> None:
        """Warn of a store in which nothing is declared any more; it stays a problem if it is not the store it was."""
        names = ", ".join(sorted(gone)[:_NAMED]) + (", ..." if len(gone) > _NAMED else "")
        if now.cluster_id != before.cluster_id:
            what = "is another cluster"
        elif now.revision < before.revision:
            what = "has an older state than before"
        else:
            log.warning("nothing is declared any more", source=self.name, interfaces=len(gone), names=names)
            return
        self._emptied = f"the store {what}, and has nothing declared; before it had {len(gone)}: {names}"
        log.warning("the store has come back empty", source=self.name, problem=what, interfaces=len(gone), names=names)
        self._tell_health()

    def _tell_left_out(self) -> None:
        if self._families.left_out != self._told_left_out:
            self._told_left_out = self._families.left_out
            if self._told_left_out:
                log.warning("the store declares too many interfaces", source=self.name, interfaces=len(self._families))
            self._tell_health()

    def _tell_health(self) -> None:
        known = len(self._families)
        too_many = f"more is declared than is looked at, which are {known} interfaces" if self._told_left_out else ""
        problems = (self._lost, self._emptied, too_many)
        self._emit(SourceHealth(self.name, "; ".join(filter(None, problems))))
