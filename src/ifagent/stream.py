"""The state stream: one publisher, any number of readers, none of which can slow the others.

Publishing appends to a log that all readers with the same wishes share; each reader goes through it at its own
pace. Of every interface the log has only the newest state in force: a reader that is slow finds that one, and
is told by a ``gap`` how many before it were left out. Publishing costs the same however many readers there are,
and memory is bounded by the number of interfaces (and a little for each reader).
"""

from __future__ import annotations

import asyncio
import weakref
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.resources import Key, interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent

WAKE_AT_ONCE = 16
"""Readers woken in one turn of the event loop, so that the agent has its turns while thousands are woken."""

_SPARE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which states a reader wants: those that match everything that is not ``None``.

    ``kind`` is an :attr:`InterfaceState.type` such as ``veth``; ``namespace`` is compared as it was declared.
    """

    names: frozenset[Name] | None = None
    namespace: NamespaceRef | None = None
    kind: str | None = None

    @classmethod
    def of(
        cls,
        *,
        name: Name | None = None,
        names: Iterable[Name] | None = None,
        namespace: NamespaceRef | None = None,
        kind: str | None = None,
    ) -> Self:
        """Make one; with both ``name`` and ``names``, all of them are wanted."""
        chosen = (
            None if name is None and names is None else frozenset([*(names or ()), *([] if name is None else [name])])
        )
        return cls(names=chosen, namespace=namespace, kind=kind)

    def matches(self, state: InterfaceState) -> bool:
        """Tell whether a state is wanted."""
        return (
            (self.names is None or state.name in self.names)
            and (self.namespace is None or state.namespace == self.namespace)
            and (self.kind is None or state.type == self.kind)
        )

    def registered_under(self) -> tuple[Hashable, ...]:
        """Return where to register: every state that matches has one of these among :func:`_keys_of`."""
        if self.names is not None:
            return tuple(("name", name) for name in self.names)
        return (("kind", self.kind),) if self.namespace is None else (self.namespace,)


EVERYTHING = Wanted()


def _keys_of(state: InterfaceState) -> tuple[Hashable, ...]:
    return ("name", state.name), ("kind", state.type), state.namespace


@dataclass(slots=True, eq=False)
class _Record:
    """One publication. ``since`` is the position from which on readers may know of the interface.

    One that is no longer in force has no ``state``: that is freed at once, and not with thousands of others when the
    records are compacted.
    """

    position: int
    key: Key
    state: InterfaceState | None
    deleted: bool
    since: int


class _Log:
    """What is published for one :class:`Wanted`, oldest first. Positions count publications, from 1."""

    def __init__(self, wanted: Wanted, waker: _Waker, states: Mapping[Key, InterfaceState] | None = None) -> None:
        self.wanted = wanted
        self.position: int = 0
        self.closed = False
        self.readers: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._records: list[_Record] = []
        self._newest: dict[Key, _Record] = {}  # oldest first
        self._deleted: list[_Record] = []
        self._compact_at = _SPARE
        self._forget_at = _SPARE
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._waker = waker
        for key, state in (states or {}).items():
            self.append(key, state)

    def append(self, key: Key, state: InterfaceState, *, deleted: bool = False) -> None:
        """Publish a state, or the last state of what is gone."""
        self.position += 1
        before = self._newest.pop(key, None)
        record = _Record(self.position, key, state, deleted, before.since if before else self.position)
        self._newest[key] = record
        self._records.append(record)
        if before is not None:
            before.state = None
        if deleted:
            self._deleted.append(record)
            if len(self._deleted) >= self._forget_at:
                self._forget()
        if len(self._records) >= self._compact_at:
            self.compact()

    def after(self, position: int) -> Iterator[_Record]:
        """Yield what was published after ``position`` and is still in force, oldest first."""
        start = bisect_right(self._records, position, key=_position)
        for index in range(start, len(self._records)):
            record = self._records[index]
            if self._newest.get(record.key) is record:
                yield record

    def wake(self) -> None:
        """Have the readers that wait go on."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._waker.wake(waiting)

    async def news(self) -> None:
        """Wait for the next :meth:`wake`."""
        waiting = self._waiting
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[future] = None
        try:
            await future
        finally:
            waiting.pop(future, None)

    def compact(self) -> None:
        """Drop what is no longer in force, and deletions that nobody who knew the interface has still to hear."""
        self._forget()
        self._records = list(self._newest.values())
        # As much work as there is now is spread over as many publications to come.
        self._compact_at = 2 * len(self._records) + len(self.readers) // 8 + _SPARE

    def _forget(self) -> None:
        """Drop deletions that nobody who knew the interface has still to hear.

        Often, and before the records are compacted, so that the states of very many interfaces that are deleted at once
        are freed in pieces.
        """
        cursors = sorted({reader.cursor for reader in self.readers})
        unheard: list[_Record] = []
        for record in self._deleted:
            if self._newest.get(record.key) is not record:
                continue
            first = bisect_left(cursors, record.since)
            if first == len(cursors) or cursors[first] >= record.position:
                del self._newest[record.key]
                record.state = None
            else:
                unheard.append(record)
        self._deleted = unheard
        self._forget_at = 2 * len(unheard) + len(self.readers) // 8 + _SPARE


def _position(record: _Record) -> int:
    return record.position


class Subscription:
    """An asynchronous iterator of :class:`StateEvent`: a snapshot first, then every change, without end.

    ``seq`` starts at 1 and grows by one with every event given out. Every state published since the beginning is
    either given out or counted in a ``gap``. A reader may be cancelled at any moment without a loss.
    """

    def __init__(self, log: _Log) -> None:
        self.cursor: int = 0
        self._log = log
        self._start = log.position
        self._published: set[Key] = set()
        self._seq = 0
        log.readers.add(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StateEvent:
        """Wait for the next event; raises ``StopAsyncIteration`` when the agent has ended."""
        while (event := self._next()) is None:
            if self._log.closed:
                raise StopAsyncIteration
            await self._log.news()
        return event

    def listing(self) -> Iterator[StateEvent]:
        """Take the snapshot as it is now, to be called before anything else is asked of it.

        The events are made when they are asked for, so that it may be gone through in pieces, and it is as long as it
        is however much is published meanwhile.
        """
        found = [(record.key, record.state) for record in self._log.after(0) if not record.deleted]
        self._published = {key for key, _ in found}
        self._seq, self.cursor = len(found), self._log.position
        return (
            StateEvent(seq=seq, event=Change.SNAPSHOT, name=key.name, state=state)
            for seq, (key, state) in enumerate(found, 1)
        )

    def close(self) -> None:
        """Be no reader any more, even while somebody still holds it; to be called when nothing more is asked of it."""
        self._log.readers.discard(self)

    def _next(self) -> StateEvent | None:
        for record in self._log.after(self.cursor):
            if not record.deleted or record.key in self._published:
                return self._gap(before=record.position) or self._tell(record)
        return self._gap(before=self._log.position + 1)

    def _gap(self, *, before: int) -> StateEvent | None:
        """Go to just before a position; return an event if that leaves out states newer than the snapshot."""
        missed = before - 1 - max(self.cursor, self._start)
        self.cursor = before - 1
        if missed <= 0:
            return None
        return self._event(Change.GAP, "", missed=missed)

    def _tell(self, record: _Record) -> StateEvent:
        self.cursor = record.position
        if record.deleted:
            self._published.discard(record.key)
            return self._event(Change.DELETED, record.key.name, record.state)
        if record.position <= self._start:
            change = Change.SNAPSHOT
        else:
            change = Change.CHANGED if record.key in self._published else Change.CREATED
        self._published.add(record.key)
        return self._event(change, record.key.name, record.state)

    def _event(self, change: Change, name: Name, state: InterfaceState | None = None, *, missed: int = 0) -> StateEvent:
        self._seq += 1
        return StateEvent(seq=self._seq, event=change, name=name, state=state, missed=missed)


class _Waker:
    """Wakes those who wait, some in every turn of the event loop."""

    def __init__(self) -> None:
        self._groups: deque[dict[asyncio.Future[None], None]] = deque()
        self._scheduled = False

    def wake(self, waiting: dict[asyncio.Future[None], None]) -> None:
        self._groups.append(waiting)
        if not self._scheduled:
            self._wake_some()

    def _wake_some(self) -> None:
        self._scheduled = False
        loop = None
        for _ in range(WAKE_AT_ONCE):
            while self._groups and not self._groups[0]:
                self._groups.popleft()
            if not self._groups:
                return
            future, _nothing = self._groups[0].popitem()
            loop = future.get_loop()
            if not future.done():
                future.set_result(None)
        if loop is not None and self._groups:
            self._scheduled = True
            loop.call_soon(self._wake_some)


class Listener(Protocol):
    """Publishes the same states as a hub, with something added to them."""

    def on_published(self, changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
        """Handle what the hub has just published."""


class StateHub:
    """Holds the newest state of every interface and publishes changes to subscriptions.

    ``counts`` is how many states there are by config state. ``listeners`` are called with everything that is
    published, before the publishing call returns.
    """

    def __init__(self) -> None:
        self.states: dict[Key, InterfaceState] = {}
        self.counts: Counter[ConfigState] = Counter()
        self.listeners: list[Listener] = []
        self._closed = False
        self._waker = _Waker()
        self._everything = _Log(EVERYTHING, self._waker)
        self._logs: weakref.WeakValueDictionary[Wanted, _Log] = weakref.WeakValueDictionary()
        self._by_key: dict[Hashable, weakref.WeakSet[_Log]] = {}
        self._tidy_at = _SPARE

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return len(self._everything.readers) + sum(len(log.readers) for log in list(self._logs.values()))

    def subscribe(self, wanted: Wanted = EVERYTHING) -> Subscription:
        """Return a new subscription; it lives as long as somebody holds it.

        What stops matching ``wanted`` is reported as deleted, what starts matching as created.
        """
        return Subscription(self._everything if wanted == EVERYTHING else self._log_for(wanted))

    def publish(self, changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
        """Take in states that are new or different, and the last states of interfaces that are no more."""
        woken = {self._everything}
        for key, state in deleted.items():
            before = self._keep(key, None)
            self._everything.append(key, state, deleted=True)
            for log in self._logs_about(before or state):
                if log.wanted.matches(before or state):
                    log.append(key, state, deleted=True)
                    woken.add(log)
        for key, state in changed.items():
            before = self._keep(key, state)
            self._everything.append(key, state)
            for log in self._logs_about(before or state, state):
                if log.wanted.matches(state):
                    log.append(key, state)
                elif before is not None and log.wanted.matches(before):
                    log.append(key, before.as_deleted(), deleted=True)
                else:
                    continue
                woken.add(log)
        if changed or deleted:
            for log in woken:
                log.wake()
        for listener in self.listeners:
            listener.on_published(changed, deleted)

    async def wait_changed(self) -> None:
        """Wait until something is published."""
        await self._everything.news()

    def tidy(self) -> None:
        """Drop at once what no reader has to hear any more."""
        for log in (self._everything, *self._logs.values()):
            log.compact()

    def close(self) -> None:
        """End every subscription after what is there already, and those to come after their snapshot."""
        self._closed = True
        for log in (self._everything, *self._logs.values()):
            log.closed = True
            log.wake()

    def _keep(self, key: Key, state: InterfaceState | None) -> InterfaceState | None:
        """Take note of a newest state; return the one before it."""
        before = self.states.pop(key, None) if state is None else self.states.get(key)
        if before is not None:
            self.counts[before.config_state] -= 1
        if state is not None:
            self.states[key] = state
            self.counts[state.config_state] += 1
        return before

    def _log_for(self, wanted: Wanted) -> _Log:
        log = self._logs.get(wanted)
        if log is None:
            log = _Log(wanted, self._waker, self._matching(wanted))
            log.closed = self._closed
            self._logs[wanted] = log
            for key in wanted.registered_under():
                self._by_key.setdefault(key, weakref.WeakSet()).add(log)
            if len(self._by_key) >= self._tidy_at:
                self._by_key = {key: logs for key, logs in self._by_key.items() if logs}
                self._tidy_at = 2 * len(self._by_key) + _SPARE
        return log

    def _matching(self, wanted: Wanted) -> dict[Key, InterfaceState]:
        keys = self.states.keys() if wanted.names is None else map(interface_key, wanted.names)
        return {key: state for key in keys if (state := self.states.get(key)) and wanted.matches(state)}

    def _logs_about(self, *states: InterfaceState) -> set[_Log]:
        """Return the logs that any of these states may be for, each once."""
        if not self._logs:
            return set()
        return {log for state in states for key in _keys_of(state) for log in self._by_key.get(key, ())}
