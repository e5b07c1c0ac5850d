"""The state stream: one publisher, any number of readers, none of which can slow the others.

Every reader has a place for one unread event per interface. A reader that is slow finds the newest state
there, and is told by a ``gap`` how many older ones it missed; memory is bounded by the number of interfaces.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Self

import anyio

from ifagent.core.interface import Name
from ifagent.core.state import Change, InterfaceState, StateEvent

Filter = Callable[[InterfaceState], bool]


class Subscription:
    """An asynchronous iterator of :class:`StateEvent`: a snapshot first, then every change, without end.

    ``seq`` starts at 1 and grows by one with every event given out.
    """

    def __init__(self, snapshot: Mapping[Name, InterfaceState], wanted: Filter | None) -> None:
        self._wanted = wanted
        self._unread: dict[Name, tuple[Change, InterfaceState]] = {}
        self._told: set[Name] = set()
        self._missed = 0
        self._seq = 0
        self._closed = False
        self._news = anyio.Event()
        for name, state in snapshot.items():
            self._put(Change.SNAPSHOT, name, state)

    def _put(self, change: Change, name: Name, state: InterfaceState) -> None:
        if self._wanted is not None and not self._wanted(state):
            return
        if name in self._unread:
            self._missed += 1
            del self._unread[name]
            if change is Change.DELETED and name not in self._told:
                return  # the reader never heard of it
        self._unread[name] = (change, state)
        self._news.set()

    def close(self) -> None:
        """End the iteration after the events that are there already."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StateEvent:
        """Wait for the next event; raises ``StopAsyncIteration`` when the agent has ended."""
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        self._seq += 1
        if self._missed:
            missed, self._missed = self._missed, 0
            return StateEvent(seq=self._seq, event=Change.GAP, name="", missed=missed)
        name = next(iter(self._unread))
        change, state = self._unread.pop(name)
        if change is Change.DELETED:
            self._told.discard(name)
        elif change is not Change.SNAPSHOT:
            change = Change.CHANGED if name in self._told else Change.CREATED
            self._told.add(name)
        else:
            self._told.add(name)
        return StateEvent(seq=self._seq, event=change, name=name, state=state)


class StateHub:
    """Holds the newest state of every interface and hands changes to subscriptions."""

    def __init__(self) -> None:
        self.states: dict[Name, InterfaceState] = {}
        self._readers: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._changed = anyio.Event()
        self._closed = False

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return len(self._readers)

    def subscribe(self, wanted: Filter | None = None) -> Subscription:
        """Return a new subscription; it lives as long as somebody holds it."""
        subscription = Subscription(self.states, wanted)
        self._readers.add(subscription)
        if self._closed:
            subscription.close()
        return subscription

    def publish(self, changed: Mapping[Name, InterfaceState], deleted: Mapping[Name, InterfaceState]) -> None:
        """Take in states that are new or different, and the last states of interfaces that are no more."""
        for name, state in deleted.items():
            self.states.pop(name, None)
            for reader in self._readers:
                reader._put(Change.DELETED, name, state)  # noqa: SLF001 the two classes are one concept
        for name, state in changed.items():
            self.states[name] = state
            for reader in self._readers:
                reader._put(Change.CHANGED, name, state)  # noqa: SLF001 likewise
        if changed or deleted:
            self._changed.set()
            self._changed = anyio.Event()

    async def wait_changed(self) -> None:
        """Wait until something is published."""
        await self._changed.wait()

    def close(self) -> None:
        """End every subscription, and those to come after their snapshot."""
        self._closed = True
        self._changed.set()
        for reader in self._readers:
            reader.close()
