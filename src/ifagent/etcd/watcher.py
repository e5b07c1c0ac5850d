"""Follow everything under some prefixes: what is there, then every change, through whatever happens to the store.

The rules:

* A :class:`Snapshot` is a listing at one revision; the watch starts at the next one, so there is no gap.
* A change is handed on as a *complete revision*: everything one transaction did comes in one
  :class:`Changes`. Answers that etcd cut into fragments are joined first.
* After a lost connection the watch resumes after the last revision handed on. What the store no longer
  remembers (compaction), or cannot know (it was replaced, or rolled back), is answered by a new snapshot.
* Silence is checked: after three quiet seconds the server is asked for a sign of life on the same stream, and
  given three more to show one. A connection that swallows everything is so noticed within 10 s.
* One stream carries one watch, so ending a watch is ending its stream. Of several prefixes it watches the range from
  the first to the end of the last, because only within one watch a transaction is one change; what lies between
  them is left out here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from types import TracebackType
from typing import Any, Self

import anyio
import grpc.aio
from aetcd import rpc

from ifagent.errors import SourceLost
from ifagent.etcd.backoff import Backoff
from ifagent.etcd.client import EtcdClient, Position, Value, prefix_end
from ifagent.etcd.cluster import Route, guarded
from ifagent.etcd.words import EtcdError, in_words

QUIET = 3.0
"""Seconds of silence after which the server is asked for a sign of life, and within which it must give one."""

STABLE = 5.0
"""Seconds that a stream must have lived for the next loss to count as a new one (short waits again)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything under the prefixes at ``revision``: replaces whatever was known."""

    revision: int
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that ``revision`` did under the prefixes; ``None`` for a key that it deleted."""

    revision: int
    changes: tuple[tuple[bytes, Value | None], ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The store cannot be heard from now on; ``problem`` is one short sentence. Said once, not per attempt."""

    problem: str


@dataclass(frozen=True, slots=True)
class Back:
    """The store can be heard again; what was missed has been, or is about to be, handed on."""


WatchEvent = Snapshot | Changes | Lost | Back


class Compacted(Exception):
    """The store no longer knows the revision that the watch was to start at."""


async def watch_prefix(client: EtcdClient, *prefixes: bytes) -> AsyncGenerator[WatchEvent, None]:
    """Yield the state of everything under ``prefixes`` and then its changes, without end.

    The right to read is needed for the whole range from the first prefix to the end of the last. The first
    :class:`Snapshot` comes as soon as the store is there. Never raises for trouble with the store. Close it
    (``contextlib.aclosing``) when it is left early.
    """
    backoff, lost, position = Backoff(), False, None
    while True:
        opened = time.monotonic()
        try:
            if position is None or await _forgot(client, prefixes[0], position):
                listing = await client.range(*prefixes)
                position = listing.position
                yield Snapshot(position.revision, listing.values)
                del listing  # it may be large, and the watch may last for months
            async with WatchStream(client, *prefixes, after=position.revision) as stream:
                opened = time.monotonic()
                if lost:
                    lost = False
                    yield Back()
                while True:
                    for changes in await stream.changes():
                        position = replace(position, revision=changes.revision)
                        if ours := tuple(change for change in changes.changes if change[0].startswith(prefixes)):
                            yield Changes(changes.revision, ours)
        except Compacted:
            position = None
        except SourceLost as error:
            if not lost:
                lost = True
                yield Lost(_without_source(error))
            if time.monotonic() - opened > STABLE:
                backoff.reset()
            await anyio.sleep(backoff.next())


async def _forgot(client: EtcdClient, prefix: bytes, known: Position) -> bool:
    """Tell whether the store is no longer the one that we knew, or is an older state of it."""
    now = await client.position(prefix)
    return now.cluster_id != known.cluster_id or now.revision < known.revision or now.raft_term < known.raft_term


class WatchStream:
    """One watch on one stream, as an asynchronous context manager; inside, the server has accepted it.

    It covers everything from the first of the prefixes to the end of the last.

    Entering and :meth:`changes` raise :class:`EtcdError` when the stream is over or silent, and
    :class:`Compacted` when the store no longer knows the revision.
    """

    def __init__(self, client: EtcdClient, *prefixes: bytes, after: int) -> None:
        self._cluster = client.cluster
        self._create = rpc.WatchCreateRequest(
            key=min(prefixes), range_end=prefix_end(max(prefixes)), start_revision=after + 1, fragment=True
        )
        self._route: Route
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._joiner = FragmentJoiner()

    async def __aenter__(self) -> Self:
        """Create the watch and wait until the server has accepted it; with a new token if it refuses the old one."""
        route = await self._cluster.route()
        try:
            await self._open(route)
        except EtcdError as error:
            if not self._cluster.renew(route, error):
                raise
            await self._open(await self._cluster.route())
        return self

    async def _open(self, route: Route) -> None:
        self._route = route
        self._call = route.member.watch.Watch(metadata=route.metadata)
        try:
            await self._write(rpc.WatchRequest(create_request=self._create))
            while not (await self._receive()).created:
                pass
        except BaseException:
            await self._close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream, and with it the watch on the server."""
        await self._close()

    async def changes(self) -> list[Changes]:
        """Wait for the next complete revisions, one entry each, oldest first."""
        while True:
            events = self._joiner.add(await self._receive())
            if events:
                return by_revision(events)

    async def _receive(self) -> Any:
        """Return the server's next answer to the watch; ask for a sign of life when it is silent."""
        asked = False
        while True:
            # Reading has a task of its own: a cancelled read would end the stream.
            reading = self._reading = self._reading or asyncio.ensure_future(self._call.read())
            done, _ = await asyncio.wait({reading}, timeout=QUIET)
            if done:
                self._reading = None
                answer = self._result(reading)
                if answer.canceled:
                    raise self._refused(answer)
                if answer.created or answer.events or answer.fragment:
                    return answer
                asked = False
            elif asked:
                self._cluster.avoid(self._route.member)
                raise EtcdError(f"{self._route.member.endpoint}: no sign of life for {2 * QUIET:g} s")
            else:
                asked = True
                await self._write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def _result(self, reading: asyncio.Task[Any]) -> Any:
        """Return what the finished read brought; raise :class:`EtcdError` if that is the stream's end."""
        try:
            answer = reading.result()
        except (asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.UsageError):
            answer = grpc.aio.EOF
        except grpc.RpcError as error:
            raise self._cluster.failed(self._route.member, error) from error
        if answer is grpc.aio.EOF:
            self._cluster.avoid(self._route.member)
            raise EtcdError(f"{self._route.member.endpoint}: the server ended the watch")
        return answer

    def _refused(self, answer: Any) -> Exception:
        """Say why the server ended the watch. A refused creation has ``created`` set as well."""
        if answer.compact_revision:
            return Compacted()
        self._cluster.avoid(self._route.member)
        return EtcdError(
            f"{self._route.member.endpoint}: {in_words(answer.cancel_reason) or 'the server ended the watch'}"
        )

    async def _write(self, request: Any) -> None:
        """Send a request; a connection that takes nothing any more is an error."""
        try:
            async with asyncio.timeout(QUIET):
                await guarded(self._call.write(request))
        except grpc.RpcError as error:
            raise self._cluster.failed(self._route.member, error) from error
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            self._cluster.avoid(self._route.member)
            raise EtcdError(f"{self._route.member.endpoint}: the connection takes no requests") from error

    async def _close(self) -> None:
        self._cluster.end(self._call)
        if self._reading is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._reading}, timeout=1)
            if not (self._reading.cancel() or self._reading.cancelled()):
                self._reading.exception()  # asked for, or asyncio complains that nobody did
            self._reading = None


class FragmentJoiner:
    """Puts together the answers that etcd cut into fragments (``fragment`` is set on all but the last)."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def add(self, answer: Any) -> list[Any]:
        """Take one answer; return the events of the whole, or nothing while fragments are missing."""
        self._events.extend(answer.events)
        if answer.fragment:
            return []
        events, self._events = self._events, []
        return events


def by_revision(events: Iterable[Any]) -> list[Changes]:
    """Group a watch's events, which are in order, into one :class:`Changes` per revision."""
    return [
        Changes(int(revision), tuple(map(_change, group)))
        for revision, group in groupby(events, key=lambda event: event.kv.mod_revision)
    ]


def _change(event: Any) -> tuple[bytes, Value | None]:
    kv = event.kv
    if event.type == rpc.Event.DELETE:
        return bytes(kv.key), None
    return bytes(kv.key), Value(bytes(kv.value), int(kv.mod_revision), int(kv.lease))


def _without_source(error: SourceLost) -> str:
    return str(error).removeprefix(f"{error.source}: ")
