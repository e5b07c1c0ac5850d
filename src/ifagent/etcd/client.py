"""Plain requests to etcd: read, write, lease. Watching is in :mod:`ifagent.etcd.watcher`.

One connection per endpoint, made when it is first used. All requests go to one endpoint until it fails;
then the next one has its turn. A request that could not be delivered is tried once on every endpoint,
so a write may be carried out twice: every write here gives the same result when it is repeated.

Whatever goes wrong with the store comes out as :class:`ifagent.errors.SourceLost` with one short sentence.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import grpc
import grpc.aio
from aetcd import rpc
from anyio.lowlevel import checkpoint

from ifagent.errors import SourceLost
from ifagent.etcd.address import Endpoint, EtcdAddress

SOURCE = "etcd"
"""What errors call the store."""

PAGE = 500
"""Most keys in one answer of a listing."""

MAX_TXN_OPS = 128
"""Most operations in one transaction: etcd's own default limit (``--max-txn-ops``)."""

MAX_TXN_BYTES = 1 << 20
"""Most bytes in one transaction, below etcd's default limit of 1.5 MiB (``--max-request-bytes``)."""

LETTING_GO = 0.05
"""Seconds that closing takes after calls were cancelled.

grpc lets go of a cancelled call some milliseconds later and offers nothing to wait for; a program whose loop is
closed by then is told of an error that is none.
"""

# etcd ends a client that pings more often than every 5 s. Without the ping time-out of HTTP/2 a connection
# that swallows everything takes more than a minute to be noticed.
_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # is also the time limit of one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)

# A member that lost its leader refuses at once instead of letting the request run into its time limit.
_METADATA = (("hasleader", "true"),)

_MOVE_ON = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)


class EtcdError(SourceLost):
    """A request failed; ``code`` is the name of grpc's status, such as ``OUT_OF_RANGE``."""

    def __init__(self, text: str, code: str = "") -> None:
        """Keep the status."""
        self.code = code
        super().__init__(SOURCE, text)


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds, the revision that wrote it, and the lease that it hangs on (0: none)."""

    data: bytes
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """A point in one cluster's history, as the header of every answer gives it."""

    cluster_id: int
    raft_term: int
    revision: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under a prefix, as it was at one revision."""

    position: Position
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class Written:
    """A write is done: the store's revision after it, and which keys were there to be deleted."""

    revision: int
    deleted: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint with its connection and stubs (generated, hence untyped)."""

    endpoint: Endpoint
    channel: Any
    kv: Any
    lease: Any
    watch: Any


class EtcdClient:
    """One cluster, as an asynchronous context manager; nothing is connected before the first request.

    Every method raises :class:`EtcdError` (a :class:`SourceLost`) when the store cannot be reached, does
    not answer within the address's ``timeout``, or refuses.
    """

    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self._members: tuple[Member, ...] = ()
        self._turn = 0
        self._cancelled_calls = False

    async def __aenter__(self) -> Self:
        """Make the channels, which connect later."""
        self._members = tuple(map(_open_member, self.address.endpoints))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection; what is still in flight ends with an error."""
        with anyio.CancelScope(shield=True):
            for member in self._members:
                await member.channel.close()
            if self._cancelled_calls:
                await anyio.sleep(LETTING_GO)

    @property
    def member(self) -> Member:
        """The endpoint whose turn it is."""
        return self._members[self._turn]

    def avoid(self, member: Member) -> None:
        """Give the turn to the next endpoint if ``member`` has it."""
        if member is self.member:
            self._turn = (self._turn + 1) % len(self._members)

    async def get(self, key: bytes) -> Value | None:
        """Return what ``key`` holds now, ``None`` if there is no such key."""
        answer = await self._unary(lambda member: member.kv.Range, rpc.RangeRequest(key=key))
        return _value(answer.kvs[0]) if answer.kvs else None

    async def position(self, key: bytes) -> Position:
        """Return where the store is now, asked with the right to read ``key``; agreed on by a majority."""
        request = rpc.RangeRequest(key=key, count_only=True)
        return _position(await self._unary(lambda member: member.kv.Range, request))

    async def range(self, prefix: bytes) -> Listing:
        """List everything under ``prefix`` in pages, all of them as of the first page's revision."""
        for _ in range(10):
            try:
                return await self._range_once(prefix)
            except EtcdError as error:
                # The revision was compacted between two pages: start over at a newer one.
                if error.code != grpc.StatusCode.OUT_OF_RANGE.name:
                    raise
        raise EtcdError(f"{self.member.endpoint}: history is compacted faster than it can be listed")

    async def _range_once(self, prefix: bytes) -> Listing:
        end, start, position, values = prefix_end(prefix), prefix, None, dict[bytes, Value]()
        while True:
            revision = position.revision if position else 0
            request = rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            answer = await self._unary(lambda member: member.kv.Range, request)
            position = position or _position(answer)
            values.update((bytes(kv.key), _value(kv)) for kv in answer.kvs)
            if not answer.more:
                return Listing(position, values)
            start = bytes(answer.kvs[-1].key) + b"\0"

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """Write one key and return the store's revision."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return int((await self._unary(lambda member: member.kv.Put, request)).header.revision)

    async def delete(self, key: bytes) -> bool:
        """Delete one key; return whether it was there."""
        answer = await self._unary(lambda member: member.kv.DeleteRange, rpc.DeleteRangeRequest(key=key))
        return bool(answer.deleted)

    async def txn(
        self, *, puts: Mapping[bytes, bytes] | None = None, deletes: Collection[bytes] = (), lease: int = 0
    ) -> Written:
        """Write and delete keys, in one transaction where etcd's limits allow it, else in several in order.

        A key that is in both is written. Deleting a key that is not there is fine. The puts hang on
        ``lease``. Up to 128 operations and 1 MiB are one change for everybody who watches.
        """
        puts = puts or {}
        revision, deleted = 0, set[bytes]()
        operations = itertools.chain(puts.items(), ((key, None) for key in dict.fromkeys(deletes) if key not in puts))
        for chunk in _chunks(operations):
            request = rpc.TxnRequest(success=[_operation(key, data, lease) for key, data in chunk])
            answer = await self._unary(lambda member: member.kv.Txn, request)
            revision = int(answer.header.revision)
            for (key, data), done in zip(chunk, answer.responses, strict=True):
                if data is None and done.response_delete_range.deleted:
                    deleted.add(key)
        return Written(revision, frozenset(deleted))

    async def grant(self, ttl: float) -> int:
        """Make a lease of ``ttl`` seconds (rounded up; etcd may choose more) and return its id."""
        request = rpc.LeaseGrantRequest(TTL=-int(-ttl // 1))
        return int((await self._unary(lambda member: member.lease.LeaseGrant, request)).ID)

    async def keep_alive(self, lease: int) -> int:
        """Start a lease's time anew; return the seconds it has now, 0 if there is no such lease any more."""
        async with self._errors() as member:
            call = member.lease.LeaseKeepAlive(timeout=self.address.timeout, metadata=_METADATA)
            try:
                await guarded(call.write(rpc.LeaseKeepAliveRequest(ID=lease)))
                answer = await guarded(call.read())
            finally:
                self.end(call)
            if answer is grpc.aio.EOF:
                raise EtcdError(f"{member.endpoint}: the connection was closed")
            return max(int(answer.TTL), 0)

    async def revoke(self, lease: int) -> None:
        """End a lease, which deletes every key that hangs on it; one that is gone is fine."""
        try:
            await self._unary(lambda member: member.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))
        except EtcdError as error:
            if error.code != grpc.StatusCode.NOT_FOUND.name:
                raise

    def open_watch(self, member: Member) -> Any:
        """Start one watch stream; grpc's call object, to be written to, read from and cancelled."""
        return member.watch.Watch(metadata=_METADATA)

    def end(self, call: Any) -> None:
        """Cancel a stream."""
        self._cancelled_calls = True
        call.cancel()

    async def _unary(self, pick: Callable[[Member], Any], request: Any) -> Any:
        """Send one request; one that could not be delivered goes to every endpoint once."""
        for attempt in itertools.count(1):
            try:
                async with self._errors() as member:
                    return await guarded(pick(member)(request, timeout=self.address.timeout, metadata=_METADATA))
            except EtcdError as error:
                if error.code != grpc.StatusCode.UNAVAILABLE.name or attempt >= len(self._members):
                    raise
            except asyncio.CancelledError:
                self._cancelled_calls = True
                raise
        raise AssertionError  # itertools.count has no end

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[Member]:
        """Hand out the endpoint whose turn it is; turn grpc's errors into ours and move on from a bad one."""
        member = self.member
        try:
            yield member
        except grpc.RpcError as error:
            raise self.failed(member, error) from error
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            self.avoid(member)
            raise EtcdError(f"{member.endpoint}: the connection was closed") from error

    def failed(self, member: Member, error: grpc.RpcError) -> EtcdError:
        """Say in our words what grpc reported, and move on from an endpoint that is not well."""
        code = error.code()
        if code in _MOVE_ON:
            self.avoid(member)
        text = f"no answer within {self.address.timeout:g} s"
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            text = in_words(error.details() or code.name)
        return EtcdError(f"{member.endpoint}: {text}", code.name)


async def guarded(call: Awaitable[Any]) -> Any:
    """Await a grpc call so that being cancelled works, and a call that was cancelled is an error.

    grpc raises a CancelledError of its own making, which anyio does not know for the one it sent: a scope
    would not end there. At the checkpoint anyio sends it again.
    """
    try:
        return await call
    except asyncio.CancelledError:
        await checkpoint()
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise EtcdError("the connection was closed", grpc.StatusCode.CANCELLED.name) from None


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that start with ``prefix``; one zero byte, etcd's "no end", if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def _open_member(endpoint: Endpoint) -> Member:
    """Make the channel to one endpoint. Credentials, once there are any, belong here."""
    channel = grpc.aio.insecure_channel(endpoint.target, options=_CHANNEL_OPTIONS)
    return Member(endpoint, channel, rpc.KVStub(channel), rpc.LeaseStub(channel), rpc.WatchStub(channel))


def _value(kv: Any) -> Value:
    return Value(bytes(kv.value), int(kv.mod_revision), int(kv.lease))


def _position(answer: Any) -> Position:
    header = answer.header
    return Position(int(header.cluster_id), int(header.raft_term), int(header.revision))


def _operation(key: bytes, data: bytes | None, lease: int) -> Any:
    if data is None:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=data, lease=lease))


def _chunks(operations: Iterator[tuple[bytes, bytes | None]]) -> Iterator[list[tuple[bytes, bytes | None]]]:
    """Cut operations into lists that one transaction may hold."""
    chunk: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key, data in operations:
        more = len(key) + len(data or b"") + 32
        if chunk and (len(chunk) == MAX_TXN_OPS or size + more > MAX_TXN_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((key, data))
        size += more
    if chunk:
        yield chunk


def in_words(details: str) -> str:
    """Shorten the chain of reasons that grpc or etcd gives to what a person can use."""
    for sign, words in (
        ("onnection refused", "connection refused"),
        ("onnection reset", "connection reset"),
        ("ocket closed", "the connection was closed"),
        ("ame not found", "the host name cannot be resolved"),
        ("ddress lookup failed", "the host name cannot be resolved"),
        ("nternal error from Core", "the connection was closed"),
        ("ping timeout", "no sign of life"),
        ("imeout occurred", "no connection in time"),
    ):
        if sign in details:
            return words
    return details.rpartition(" desc = ")[2].partition("\n")[0][:200]
