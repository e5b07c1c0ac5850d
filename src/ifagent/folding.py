"""Taking into the index what was said since the last time."""

from __future__ import annotations

import anyio

from ifagent.core.index import Index
from ifagent.core.link import LinkId
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.pauses import Pauses


class Folding:
    """Folds events of the kernel and of ``inbox`` into ``index``.

    ``folded`` is the inbox's sequence number up to which everything is taken in. Very many events are taken in with
    pauses, in which others have their turns.
    """

    def __init__(self, kernel: Kernel, index: Index, inbox: Inbox) -> None:
        self.folded: int = 0
        self._kernel = kernel
        self._index = index
        self._inbox = inbox
        self._one_at_a_time = anyio.Lock()
        self._inspected: frozenset[LinkId] = frozenset()

    async def fold(self) -> None:
        """Take in everything that has been said until now."""
        self._kernel.drain()
        async with self._one_at_a_time:  # what was said later counts
            events, sequence = self._inbox.drain(), self._inbox.sequence
            pauses = Pauses()
            for event in events:
                self._index.take(event)
                await pauses.now_and_then()
            while self._index.unsettled:
                self._index.settle()
                await pauses.now_and_then()
            self.folded = sequence

    async def inspect(self) -> None:
        """Find out what a plan has to know of some links and the kernel does not tell by itself."""
        wanted = self._index.marks.without_checksums
        if wanted != self._inspected:
            self._inspected = frozenset(wanted)
            await self._kernel.inspect(wanted)
            await self.fold()
