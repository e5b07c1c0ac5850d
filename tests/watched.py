"""A watcher of namespaces as a test has it: running, with what it said last of each reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from patience import PATIENCE

from ifagent.core.events import Event, NamespaceSeen
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.watchers.contract import NamespaceWatcher

AT_ONCE = 5.0
"""How long a test waits for what is to happen; far beyond what it takes."""


class Watched:
    """Wants things of a watcher, and keeps what it says."""

    def __init__(self, watcher: NamespaceWatcher, kind: NamespaceType) -> None:
        self.watcher = watcher
        self.said: list[NamespaceSeen] = []
        self._by_ref: defaultdict[NamespaceRef, list[NamespaceSeen]] = defaultdict(list)
        self._kind = kind
        self._news = anyio.Event()

    def __call__(self, event: Event) -> None:
        assert isinstance(event, NamespaceSeen)
        self.said.append(event)
        self._by_ref[event.ref].append(event)
        self._news.set()

    def ref(self, reference: object) -> NamespaceRef:
        return NamespaceRef(self._kind, str(reference))

    def want(self, *references: object) -> None:
        self.watcher.want(frozenset(map(self.ref, references)))

    def of(self, reference: object) -> list[NamespaceSeen]:
        """Return all that was said of a reference."""
        return list(self._by_ref[self.ref(reference)])

    def last(self, reference: object) -> NamespaceSeen | None:
        return next(reversed(self.of(reference)), None)

    def where(self, reference: object) -> int | None:
        """Return the namespace that a reference leads to."""
        last = self.last(reference)
        return last.id if last else None

    def problem(self, reference: object) -> str:
        last = self.last(reference)
        return last.problem if last else ""

    async def until(self, condition: Callable[[], object], *, within: float = AT_ONCE) -> None:
        """Wait for something that only what the watcher says can make true."""
        with anyio.move_on_after(within * PATIENCE):
            while not condition():
                self._news = anyio.Event()
                await self._news.wait()
        assert condition(), f"not so; what was said: {self.said[-5:]}"

    async def until_count(self, count: int) -> None:
        await self.until(lambda: len(self.said) >= count)
        assert len(self.said) == count

    async def until_said(self, reference: object, problem: str) -> None:
        await self.until(lambda: self.problem(reference) == problem)

    async def until_at(self, reference: object, namespace: int) -> None:
        await self.until(lambda: self.where(reference) == namespace)


@asynccontextmanager
async def watching(watcher: NamespaceWatcher, kind: NamespaceType) -> AsyncIterator[Watched]:
    """Run a watcher."""
    watched = Watched(watcher, kind)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run, watched)
        yield watched
        group.cancel_scope.cancel()


async def until_true(condition: Callable[[], object], *, within: float = AT_ONCE) -> None:
    """Wait for something that nobody tells of."""
    with anyio.move_on_after(within * PATIENCE):
        while not condition():
            await anyio.sleep(0.002)
    assert condition()
