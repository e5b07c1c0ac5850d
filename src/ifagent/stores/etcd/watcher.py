"""Watching etcd: a listing, then every change, across all failures of the connection.

The rules:

* List everything as of one revision, then watch from the revision after it.
* Whatever ends the watch, list again before the next one. A store may have been restored from a backup and written
  since, and then nothing distinguishes the new history from the old one: the cluster's id and the revision may be
  the same.
* Request progress from a silent server, so that a stream that hangs is noticed.
* Do not have answers fragmented: etcd 3.4 takes seconds to fragment the deletion of many keys. One that is larger than
  the address's limits allow ends the watch, and the next listing has the outcome.
* Use one stream per watch, so that ending the stream ends the watch. For several prefixes, watch the range from the
  first to the end of the last and drop the keys between them, because a transaction is one change only within one
  watch.
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
from ifagent.stores.etcd.answers import BrokenAnswer, Changes, StoreRevision, Value, read_changes
from ifagent.stores.etcd.backoff import Presence
from ifagent.stores.etcd.client import EtcdClient, Page, prefix_end
from ifagent.stores.etcd.cluster import Route, await_call, decoded
from ifagent.stores.etcd.errors import EtcdError, explain

MAX_IDLE: Final = 16
"""Most answers without events in a row: a server that sends more is broken."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything under the prefixes; replaces all earlier events."""

    position: StoreRevision
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class Listed:
    """End of a listing: its pages, from the first one on, have everything under the prefixes."""

    position: StoreRevision


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The store was lost; ``problem`` is one short sentence. Yielded once, not per attempt to reconnect."""

    problem: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The store is back, and what was missed has been yielded."""


WatchEvent = Snapshot | Changes | Disconnected | Reconnected
PagedEvent = Page | Listed | Changes | Disconnected | Reconnected


class _Listed(Protocol):
    @property
    def position(self) -> StoreRevision: ...


T = TypeVar("T", bound=_Listed)


def watch_prefix(client: EtcdClient, *prefixes: bytes) -> AsyncGenerator[WatchEvent, None]:
    """Yield the state of everything under ``prefixes`` and then its changes, without end.

    Permission to read is needed for the whole range from the first prefix to the end of the last. The first
    :class:`Snapshot` comes as soon as the store can be reached, another one after every loss. Never raises for trouble
    with the store. Close it (``contextlib.aclosing``) when it is left early.
    """

    async def listing() -> AsyncGenerator[Snapshot, None]:
        found = await client.range(*prefixes)
        yield Snapshot(found.position, found.values)

    return _watch(client, prefixes, listing)


def watch_pages(client: EtcdClient, *prefixes: bytes) -> AsyncGenerator[PagedEvent, None]:
    """Do the same as :func:`watch_prefix`, with each listing as :class:`Page` events and a final :class:`Listed`.

    A listing that is interrupted starts over with a first page. Nothing is requested ahead: a consumer that is slow
    with a page, or with changes, delays the store and does not fill the memory.
    """

    async def listing() -> AsyncGenerator[Page | Listed, None]:
        position = StoreRevision(0, 0)
        async with aclosing(client.pages(*prefixes)) as pages:
            async for page in pages:
                position = page.position
                yield page
        yield Listed(position)

    return _watch(client, prefixes, listing)


async def _watch(
    client: EtcdClient, prefixes: tuple[bytes, ...], listing: Callable[[], AsyncGenerator[T, None]]
) -> AsyncGenerator[T | Changes | Disconnected | Reconnected, None]:
    presence = Presence(client.address.limits.longest_wait)
    while True:
        try:
            revision = 0
            async with aclosing(listing()) as events:
                async for listed in events:
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
    :class:`EtcdError` when the stream has ended or is silent, and for an invalid answer.
    """

    def __init__(self, client: EtcdClient, *prefixes: bytes, after: int) -> None:
        self._cluster = client.cluster
        self._quiet = client.address.limits.quiet
        self._start, self._end = min(prefixes), prefix_end(max(prefixes))
        self._revision = after
        self._create = rpc.WatchCreateRequest(key=self._start, range_end=self._end, start_revision=after + 1)
        self._route: Route
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._idle = 0

    async def __aenter__(self) -> Self:
        """Create the watch and wait until the server has accepted it; retries once with a new token if refused."""
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
        """Wait until the server has accepted the watch; there must be no events before."""
        while not (answer := await self._receive()).created:
            if answer.events:
                raise self._cluster.broken(self._route.member, BrokenAnswer("events before the watch was created"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream, and with it the watch on the server."""
        await self._close()

    async def changes(self, *, within: float | None = None) -> Iterator[Changes]:
        """Wait for the next complete revisions, for ``within`` seconds at most; return them, oldest first.

        The iterator decodes lazily, and raises :class:`EtcdError` too; exhaust it before the next call.
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
        """Return the server's next answer; request progress when it is silent."""
        asked = False
        while True:
            # Reading has a task of its own: a cancelled read would end the stream.
            reading = self._reading = self._reading or asyncio.ensure_future(self._call.read())
            done, _ = await asyncio.wait({reading}, timeout=self._quiet)
            if done:
                self._reading = None
                answer = self._result(reading)
                if answer.canceled:
                    raise self._refused(answer)
                self._idle = 0 if answer.events else self._idle + 1
                if self._idle > MAX_IDLE:
                    self._cluster.rotate_from(self._route.member)
                    raise EtcdError(f"{self._route.member.endpoint}: sends too many empty answers")
                return answer
            if asked:
                self._cluster.rotate_from(self._route.member)
                raise EtcdError(f"{self._route.member.endpoint}: no sign of life for {2 * self._quiet:g} s")
            asked, self._idle = True, 0
            await self._write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def _result(self, reading: asyncio.Task[Any]) -> Any:
        """Return the answer of a finished read; raise :class:`EtcdError` at the end of the stream."""
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
        """Return the error with which the server ended the watch. A refused creation has ``created`` set as well."""
        self._cluster.rotate_from(self._route.member)
        return EtcdError(
            f"{self._route.member.endpoint}: {explain(answer.cancel_reason) or 'the server ended the watch'}"
        )

    async def _write(self, request: Any) -> None:
        """Send a request. Raises :class:`EtcdError` if the connection does not take it."""
        try:
            async with asyncio.timeout(self._quiet):
                await await_call(self._call.write(request))
        except grpc.RpcError as error:
            raise self._cluster.failed(self._route.member, error) from error
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            self._cluster.rotate_from(self._route.member)
            raise EtcdError(f"{self._route.member.endpoint}: cannot send requests on the connection") from error

    async def _close(self) -> None:
        self._cluster.end(self._call)
        if self._reading is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._reading}, timeout=1)
            if not (self._reading.cancel() or self._reading.cancelled()):
                self._reading.exception()  # retrieved, or asyncio logs that it never was
            self._reading = None


def _without_source(error: SourceLost) -> str:
    return str(error).removeprefix(f"{error.source}: ")
