"""Which namespaces the agent follows, opens and listens to, kept in step with what is declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ifagent.core.events import NamespaceSeen
from ifagent.core.index import Index
from ifagent.core.interface import NamespaceRef
from ifagent.core.link import NsId
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.sources.contract import NamespaceWatcher

OPEN_AGAIN = 1.0
"""Seconds until a namespace that could not be entered is tried again."""

AT_A_TIME = 64
"""Most namespaces that are opened before those that turn out not to matter are closed."""


class Attention:
    """Tells watchers which references matter, and the kernel which namespaces do. Used by rounds only."""

    def __init__(self, kernel: Kernel, index: Index, inbox: Inbox, watchers: Sequence[NamespaceWatcher]) -> None:
        self._kernel = kernel
        self._index = index
        self._inbox = inbox
        self._watchers = watchers
        self._wanted: dict[NamespaceWatcher, frozenset[NamespaceRef]] = dict.fromkeys(watchers, frozenset())
        self._complained: set[NsId] = set()
        self._ways: tuple[int, int, int] | None = None
        self._references = -1

    def fold(self) -> None:
        """Take in everything that has been said until now."""
        self._kernel.drain()
        for event in self._inbox.drain():
            self._index.fold(event)

    def follow(self, anew: Iterable[NamespaceRef] = ()) -> None:
        """Have the watchers follow what declared interfaces refer to; ``anew`` as if never heard of before."""
        relations, anew = self._index.relations, frozenset(anew)
        if relations.references == self._references and not any(
            ref.type in w.types for ref in anew for w in self._watchers
        ):
            return
        self._references = relations.references
        references = relations.made_references()
        for watcher in self._watchers:
            wanted = frozenset(ref for ref in references if ref.type in watcher.types)
            again = wanted & anew & self._wanted[watcher]
            if wanted == self._wanted[watcher] and not again:
                continue
            for ref in self._wanted[watcher] - wanted:
                self._index.release(ref)
            for ref in again:
                self._index.fold(NamespaceSeen(ref, None))
            if again:
                watcher.want(wanted - again)
            watcher.want(wanted)
            self._wanted[watcher] = wanted

    async def attend(self) -> None:
        """Open the namespaces that matter, let go of those that do not, until that settles."""
        while self._ways != self._index.ways:
            self._ways = self._index.ways
            wanted = self._index.to_listen()
            for namespace in self._index.attached() - wanted.keys():
                await self._kernel.detach(namespace)
            new = sorted(wanted.keys() - self._index.attached() - self._index.unreachable.keys())
            # Some at a time: those that are only looked at once are let go of before the next are opened.
            await self._attach({namespace: wanted[namespace] for namespace in new[:AT_A_TIME]})
            for namespace in self._index.unreachable.keys() - wanted.keys():
                self._index.set_unreachable(namespace, "")
            self.fold()

    async def look_at_everything(self) -> None:
        """Look anew at which namespaces there are, and at all that are listened to."""
        await self._kernel.relist()
        await self.look(self._index.attached())

    async def look(self, namespaces: Iterable[NsId]) -> None:
        """Look at namespaces anew, as far as they are listened to."""
        paths = self._index.to_listen()
        await self._attach({namespace: paths[namespace] for namespace in namespaces if namespace in paths})
        self.fold()

    async def _attach(self, paths: Mapping[NsId, str]) -> None:
        if not paths:
            return
        problems = await self._kernel.attach(paths)
        for namespace, problem in problems.items():
            self._index.set_unreachable(namespace, str(problem))
            if namespace not in self._complained:
                log.warning("cannot enter a namespace", path=paths[namespace], problem=str(problem))
        self._complained = (self._complained - paths.keys()) | problems.keys()

    def next_time(self, now: float) -> float | None:
        """Return when namespaces that could not be entered are to be tried again."""
        if not self._index.unreachable:
            return None
        for namespace in list(self._index.unreachable):
            self._index.set_unreachable(namespace, "")
        return now + OPEN_AGAIN
