"""Which namespaces the agent follows, opens and listens to, kept in step with what is declared.

Namespaces are opened and listed beside the rounds, which never wait for it: what depends on a namespace that is being
opened is planned once it is listed. Those that interfaces refer to come first. The others are looked at for what a
former life of the agent may have left in them, a few at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import anyio

from ifagent.core.events import NamespaceSeen, NamespaceUnreachable
from ifagent.core.index import Index
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.watchers.contract import NamespaceWatcher

REOPEN_DELAY = 1.0
"""Seconds until a namespace that could not be entered is tried again."""

AT_A_TIME = 16
"""Most namespaces that are opened and listed in one go."""

IN_PASSING = 4
"""Most namespaces that are looked at in one go though nobody refers to them."""


class NamespaceTracker:
    """Tells watchers which references matter, and the kernel which namespaces do.

    :meth:`run` opens and lists namespaces; everything else is used by rounds, and does not wait.
    """

    def __init__(self, kernel: Kernel, index: Index, inbox: Inbox, watchers: Sequence[NamespaceWatcher]) -> None:
        self._kernel = kernel
        self._index = index
        self._inbox = inbox
        self._watchers = watchers
        self._wanted: dict[NamespaceWatcher, frozenset[NamespaceRef]] = dict.fromkeys(watchers, frozenset())
        self._complained: set[NsId] = set()
        self._references = -1
        # What is to be done, in this order; namespaces with a path to open them.
        self._to_close: dict[NsId, str] = {}
        self._to_open: dict[NsId, str] = {}
        self._to_list: dict[NsId, str] = {}
        self._to_look_at: dict[NsId, str] = {}
        self._open_again: dict[NsId, tuple[float, str]] = {}
        self._relists = False
        self._listed = anyio.Event()
        self._work = anyio.Event()
        self._busy = False

    # What rounds say

    def update_watchers(self, anew: Iterable[NamespaceRef] = ()) -> None:
        """Have the watchers follow what declared interfaces refer to.

        Of ``anew``, what leads nowhere begins anew, as if never heard of: it may mean another process by now than the
        one that has ended. A reference that leads somewhere means what it meant.
        """
        index, namespaces = self._index, self._index.namespaces
        ended = {ref for ref in anew if index.namespace(ref) is None}
        if namespaces.generation == self._references and not any(
            ref.type in w.types for ref in ended for w in self._watchers
        ):
            return
        self._references = namespaces.generation
        references = namespaces.referenced()
        for watcher in self._watchers:
            wanted = frozenset(ref for ref in references if ref.type in watcher.types)
            again = wanted & ended & self._wanted[watcher]
            if wanted == self._wanted[watcher] and not again:
                continue
            for ref in self._wanted[watcher] - wanted:
                index.release(ref)
            for ref in again:
                index.fold(NamespaceSeen(ref, None))
            if again:
                watcher.want(wanted - again)
            watcher.want(wanted)
            self._wanted[watcher] = wanted

    def attach_needed(self) -> None:
        """Have opened what has come to deserve attention, and let go of what no longer does."""
        doubtful = self._index.namespaces.take_doubtful()
        for namespace in doubtful:
            for waiting in (self._to_close, self._to_open, self._to_look_at):
                waiting.pop(namespace, None)
            path, wanted = self._index.namespaces.to_follow(namespace)
            attached = self._index.is_attached(namespace)
            if not path:
                self._open_again.pop(namespace, None)
                self._complained.discard(namespace)
                self._to_list.pop(namespace, None)
                if attached:
                    self._to_close[namespace] = ""
            elif not attached and namespace not in self._open_again:
                (self._to_open if wanted else self._to_look_at)[namespace] = path
        if doubtful:
            self._work.set()

    def relist_all(self) -> anyio.Event:
        """Look anew at which namespaces there are, and at all that are listened to; the event says when that is done.

        What was found has been said by then.
        """
        self._relists = True
        self.relist(self._index.attached())
        return self._listed

    def relist(self, namespaces: Iterable[NsId]) -> None:
        """Look at namespaces anew, as far as they are listened to."""
        self._to_list.update(dict.fromkeys(namespaces, ""))
        self._work.set()

    @property
    def idle(self) -> bool:
        """True while nothing is to be opened, closed or listed, but for what is tried again later."""
        return not (self._busy or self._to_close or self._to_open or self._relists or self._to_list or self._to_look_at)

    # Beside the rounds

    async def run(self) -> None:
        """Open, list and close namespaces until cancelled."""
        while True:
            with anyio.CancelScope(deadline=min((time for time, _ in self._open_again.values()), default=math.inf)):
                await self._work.wait()
            self._work = anyio.Event()
            self._busy = True
            now = anyio.current_time()
            for namespace in [each for each, (time, _) in self._open_again.items() if time <= now]:
                self._to_open[namespace] = self._open_again.pop(namespace)[1]
            while await self._step():
                if not (self._relists or self._to_list):
                    self._listed.set()
                    self._listed = anyio.Event()
            self._busy = False

    async def _step(self) -> bool:
        """Do some of what is most urgent; return whether there was anything."""
        if self._to_close:
            for namespace in _some(self._to_close, 1):
                await self._kernel.detach(namespace)
        elif self._to_open:
            await self.open(_some(self._to_open, AT_A_TIME))
        elif self._relists:
            self._relists = False
            await self._kernel.relist()
        elif self._to_list:
            await self.open(_some(self._to_list, AT_A_TIME))
        elif self._to_look_at:
            await self.open(_some(self._to_look_at, IN_PASSING))
        else:
            return False
        return True

    async def open(self, paths: Mapping[NsId, str]) -> None:
        """Open and list these; what is found, and what could not be opened, is said."""
        problems = await self._kernel.attach(paths)
        self._complained -= paths.keys() - problems.keys()
        for namespace, problem in problems.items():
            self._inbox.put(NamespaceUnreachable(namespace, str(problem)))
            if not (path := paths[namespace]):
                continue
            self._open_again[namespace] = anyio.current_time() + REOPEN_DELAY, path
            if namespace not in self._complained:
                self._complained.add(namespace)
                log.warning("cannot enter namespace", path=path, problem=str(problem))


def _some(waiting: dict[NsId, str], most: int) -> dict[NsId, str]:
    """Take some out."""
    return {namespace: waiting.pop(namespace) for namespace in list(waiting)[:most]}
