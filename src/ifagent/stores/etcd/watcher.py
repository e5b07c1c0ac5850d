"""Watching etcd: what is there, then every change, through whatever happens to the connection.

How it works:

* A listing, all of it as of one revision, then a watch from the revision after it.
* Whatever ends the watch, the next one begins with a listing too. A store may have been restored from a backup and
  written again meanwhile, and then nothing that an agent could ask for tells the new history from the old one: neither
  the cluster's id nor the revision has to differ.
* The server is asked for a sign of life when it is silent, so that a stream that hangs is noticed.
* Answers are not cut into fragments: etcd 3.4 takes seconds to cut the deletion of many keys. One that is larger than
  :data:`ifagent.stores.etcd.cluster.MAX_ANSWER_BYTES` ends the watch, and the listing after it has the outcome.
* One stream carries one watch, so ending a watch is ending its stream. Of several prefixes it watches the range from
  the first to the end of the last, because only within one watch a transaction is one change; what lies between
  them is left out here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import anyio
import grpc.aio
from aetcd import rpc

from ifagent.errors import SourceLost
from ifagent.pauses import Pauses
from ifagent.stores.etcd.answers import BrokenAnswer, Changes, Position, Value, read_changes
from ifagent.stores.etcd.backoff import Presence
from ifagent.stores.etcd.client import EtcdClient, Page, prefix_end
from ifagent.stores.etcd.cluster import Route, decoded, guarded
from ifagent.stores.etcd.errors import EtcdError, explain

QUIET = 3.0
"""Seconds of silence after which the server is asked for a sign of life, and within which it must give one."""

MAX_IDLE: Final = 16
"""Most answers in a row that say nothing, since the last silence: whoever sends more sends them without end."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything under the prefixes: replaces whatever was known."""

    position: Position
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class Listed:
    """The pages since the last first one have everything that is under the prefixes."""

    position: Position


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The store cannot be heard from now on; ``problem`` is one short sentence. Said once, not per attempt."""

    problem: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The store can be heard again; what was missed has been handed on."""


WatchEvent = Snapshot | Changes | Disconnected | Reconnected
PagedEvent = Page | Listed | Changes | Disconnected | Reconnected


class _Listed(Protocol):
    @property
    def position(self) -> Position: ...


T = TypeVar("T", bound=_Listed)


def watch_prefix(client: EtcdClient, *prefixes: bytes) -> AsyncGenerator[WatchEvent, None]:
    """Yield the state of everything under ``prefixes`` and then its changes, without end.

    The right to read is needed for the whole range from the first prefix to the end of the last. The first
    :class:`Snapshot` comes as soon as the store is there, another one whenever it was lost. Never raises for trouble
    with the store. Close it (``contextlib.aclosing``) when it is left early.
    """

    async def listing() -> AsyncGenerator[Snapshot, None]:
        found = await client.range(*prefixes)
        yield Snapshot(found.position, found.values)

    return _watch(client, prefixes, listing)


def watch_pages(client: EtcdClient, *prefixes: bytes) -> AsyncGenerator[PagedEvent, None]:
    """Do the same as :func:`watch_prefix` with listings as they come: pages, the first of which says so, and the end.

    A listing may break off, and then begins anew. What is not asked for stays in the store: whoever takes long for a
    page, or for changes, holds up the store and not the memory.
    """

    async def listing() -> AsyncGenerator[Page | Listed, None]:
        position = Position(0, 0)
        async with aclosing(client.pages(*prefixes)) as pages:
            async for page in pages:
                position = page.position
                yield page
        yield Listed(position)

    return _watch(client, prefixes, listing)


async def _watch(
    client: EtcdClient, prefixes: tuple[bytes, ...], listing: Callable[[], AsyncGenerator[T, None]]
) -> AsyncGenerator[T | Changes | Disconnected | Reconnected, None]:
    presence = Presence()
    while True:
        try:
            revision = 0
            async with aclosing(listing()) as told:
                async for listed in told:
                    revision = listed.position.revision
                    yield listed
                    del listed  # it may be large, and the watch may last for months
            async with WatchStream(client, *prefixes, after=revision) as stream:
                presence.reached()
                while True:
                    if presence.return_due == 0:
                        presence.returned()
                        yield Reconnected()
                    pauses = Pauses()
                    for changes in await stream.changes(within=presence.return_due):
                        ours = tuple(change for change in changes.changes if change[0].startswith(prefixes))
                        if ours or changes.is_part:
                            yield replace(changes, changes=ours)
                        await pauses.now_and_then()
        except SourceLost as error:
            if presence.lost():
                yield Disconnected(_without_source(error))
            await anyio.sleep(presence.wait())


class WatchStream:
    """One watch on one stream, as an asynchronous context manager; inside, the server has accepted it.

    It covers everything from the first of the prefixes to the end of the last. Entering and :meth:`changes` raise
    :class:`EtcdError` when the stream is over or silent, and for an answer that cannot be.
    """

    def __init__(self, client: EtcdClient, *prefixes: bytes, after: int) -> None:
        self._cluster = client.cluster
        self._start, self._end = min(prefixes), prefix_end(max(prefixes))
        self._revision = after
        self._create = rpc.WatchCreateRequest(key=self._start, range_end=self._end, start_revision=after + 1)
        self._route: Route
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._idle = 0

    async def __aenter__(self) -> Self:
        """Create the watch and wait until the server has accepted it; with a new token if it refuses the old one."""
        route = await self._cluster.route()
        try:
            await self._open(route)
        except EtcdError as error:
            if not self._cluster.forget_token(route, error):
                raise
            await self._open(await self._cluster.route())
        return self

    async def _open(self, route: Route) -> None:
        self._route = route
        self._call = route.member.watch.Watch(metadata=route.metadata)
        try:
            await self._write(rpc.WatchRequest(create_request=self._create))
            await self._accepted()
        except BaseException:
            await self._close()
            raise

    async def _accepted(self) -> None:
        """Wait until the server has accepted the watch, before which it can tell nothing."""
        while not (answer := await self._receive()).created:
            if answer.events:
                raise self._cluster.broken(
                    self._route.member, BrokenAnswer("it is about a watch that did not begin yet")
                )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream, and with it the watch on the server."""
        await self._close()

    async def changes(self, *, within: float | None = None) -> Iterator[Changes]:
        """Wait for the next complete revisions, for ``within`` seconds at most; return them, oldest first.

        They are read as they are asked for, which raises :class:`EtcdError` too, and have to be before the next call.
        """
        with anyio.move_on_after(within):
            while True:
                answer = await self._receive()
                if answer.events:
                    return self._read(answer)
        return iter(())

    def _read(self, answer: Any) -> Iterator[Changes]:
        try:
            for changes in read_changes(answer, self._start, self._end, after=self._revision):
                self._revision = changes.revision
                yield changes
        except BrokenAnswer as error:
            raise self._cluster.broken(self._route.member, error) from error

    async def _receive(self) -> Any:
        """Return the server's next answer; ask for a sign of life when it is silent."""
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
                self._idle = 0 if answer.events else self._idle + 1
                if self._idle > MAX_IDLE:
                    self._cluster.rotate_from(self._route.member)
                    raise EtcdError(f"{self._route.member.endpoint}: sends answers without end that say nothing")
                return answer
            if asked:
                self._cluster.rotate_from(self._route.member)
                raise EtcdError(f"{self._route.member.endpoint}: no sign of life for {2 * QUIET:g} s")
            asked, self._idle = True, 0
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
            self._cluster.rotate_from(self._route.member)
            raise EtcdError(f"{self._route.member.endpoint}: the server ended the watch")
        try:
            return decoded(answer)
        except BrokenAnswer as error:
            raise self._cluster.broken(self._route.member, error) from error

    def _refused(self, answer: Any) -> Exception:
        """Say why the server ended the watch. A refused creation has ``created`` set as well."""
        self._cluster.rotate_from(self._route.member)
        return EtcdError(
            f"{self._route.member.endpoint}: {explain(answer.cancel_reason) or 'the server ended the watch'}"
        )

    async def _write(self, request: Any) -> None:
        """Send a request; a connection that takes nothing any more is an error."""
        try:
            async with asyncio.timeout(QUIET):
                await guarded(self._call.write(request))
        except grpc.RpcError as error:
            raise self._cluster.failed(self._route.member, error) from error
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            self._cluster.rotate_from(self._route.member)
            raise EtcdError(f"{self._route.member.endpoint}: the connection takes no requests") from error

    async def _close(self) -> None:
        self._cluster.end(self._call)
        if self._reading is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._reading}, timeout=1)
            if not (self._reading.cancel() or self._reading.cancelled()):
                self._reading.exception()  # asked for, or asyncio complains that nobody did
            self._reading = None


def _without_source(error: SourceLost) -> str:
    return str(error).removeprefix(f"{error.source}: ")
