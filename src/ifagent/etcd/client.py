"""Plain requests to etcd: read, write, lease. Watching is in :mod:`ifagent.etcd.watcher`.

A request that could not be delivered is tried once on every endpoint, so a write may be carried out twice: every
write here gives the same result when it is repeated.

Whatever goes wrong with the store comes out as :class:`ifagent.errors.SourceLost` with one short sentence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import grpc
import grpc.aio
from aetcd import rpc

from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.cluster import Cluster, Member, Route, guarded
from ifagent.etcd.words import EtcdError

PAGE = 200
"""Most keys in one answer of a listing: each value may have 1.5 MiB, whatever the agent makes of it."""

MAX_TXN_OPS = 128
"""Most operations in one transaction: etcd's own default limit (``--max-txn-ops``)."""

MAX_TXN_BYTES = 1 << 20
"""Most bytes in one transaction, below etcd's default limit of 1.5 MiB (``--max-request-bytes``)."""


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


class NotHeld(EtcdError):
    """A guarded write was not carried out, because the key that guards it hangs on another lease, or is gone."""

    def __init__(self, key: bytes) -> None:
        """Name the key."""
        super().__init__(f"{key.decode(errors='backslashreplace')} is not held any more")


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under some prefixes, as it was at one revision."""

    position: Position
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class Written:
    """A write is done: the store's revision after it, and which keys were there to be deleted."""

    revision: int
    deleted: frozenset[bytes] = frozenset()


class EtcdClient:
    """One cluster, as an asynchronous context manager; nothing is connected before the first request.

    Every method raises :class:`EtcdError` (a :class:`SourceLost`) when the store cannot be reached, does
    not answer within the address's ``timeout``, or refuses.
    """

    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self.cluster: Cluster = Cluster(address)
        self._page = PAGE

    async def __aenter__(self) -> Self:
        """Get ready."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection; what is still in flight ends with an error."""
        with anyio.CancelScope(shield=True):
            await self.cluster.close()

    async def get(self, key: bytes) -> Value | None:
        """Return what ``key`` holds now, ``None`` if there is no such key."""
        answer = await self._unary(lambda member: member.kv.Range, rpc.RangeRequest(key=key))
        return _value(answer.kvs[0]) if answer.kvs else None

    async def position(self, key: bytes) -> Position:
        """Return where the store is now, asked with the right to read ``key``; agreed on by a majority."""
        request = rpc.RangeRequest(key=key, count_only=True)
        return _position(await self._unary(lambda member: member.kv.Range, request))

    async def range(self, *prefixes: bytes) -> Listing:
        """List everything under ``prefixes`` in pages, all of them as of the first page's revision.

        After a page that did not come in time, the pages of the next listing are smaller.
        """
        for _ in range(10):
            try:
                return await self._range_once(prefixes)
            except EtcdError as error:
                if error.code == grpc.StatusCode.DEADLINE_EXCEEDED.name:
                    self._page = max(1, self._page // 8)
                # The revision was compacted between two pages: start over at a newer one.
                if error.code != grpc.StatusCode.OUT_OF_RANGE.name:
                    raise
        raise EtcdError(f"{self.cluster.member.endpoint}: history is compacted faster than it can be listed")

    async def _range_once(self, prefixes: Sequence[bytes]) -> Listing:
        position, values = None, dict[bytes, Value]()
        todo = [(prefix, prefix_end(prefix)) for prefix in reversed(prefixes)]
        while True:
            start, end = todo.pop()
            revision = position.revision if position else 0
            request = rpc.RangeRequest(key=start, range_end=end, limit=self._page, revision=revision)
            answer = await self._unary(lambda member: member.kv.Range, request)
            position = position or _position(answer)
            values.update((bytes(kv.key), _value(kv)) for kv in answer.kvs)
            if answer.more:
                todo.append((bytes(answer.kvs[-1].key) + b"\0", end))
            if not todo:
                return Listing(position, values)

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """Write one key and return the store's revision."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return int((await self._unary(lambda member: member.kv.Put, request)).header.revision)

    async def delete(self, key: bytes) -> bool:
        """Delete one key; return whether it was there."""
        answer = await self._unary(lambda member: member.kv.DeleteRange, rpc.DeleteRangeRequest(key=key))
        return bool(answer.deleted)

    async def put_if(self, key: bytes, value: bytes, *, lease: int, unchanged_since: int) -> Value | None:
        """Write a key that is still as it was written at a revision, 0 for one that is not there.

        Returns ``None`` when it was written, else what is there instead. A write that was carried out but whose
        answer was lost shows in the lease of what is returned.
        """
        same = rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=unchanged_since)
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        request = rpc.TxnRequest(compare=[same], success=[_operation(key, value, lease)], failure=[look])
        answer = await self._unary(lambda member: member.kv.Txn, request)
        if answer.succeeded:
            return None
        there = answer.responses[0].response_range.kvs
        return _value(there[0]) if there else Value(b"", 0)

    async def txn(
        self,
        *,
        puts: Mapping[bytes, bytes] | None = None,
        deletes: Collection[bytes] = (),
        lease: int = 0,
        held: bytes | None = None,
    ) -> Written:
        """Write and delete keys, in one transaction where etcd's limits allow it, else in several in order.

        A key that is in both is written. Deleting a key that is not there is fine. The puts hang on
        ``lease``. Up to 128 operations and 1 MiB are one change for everybody who watches. With ``held`` nothing is
        done unless that key hangs on ``lease``, which raises :class:`NotHeld`.
        """
        puts = puts or {}
        guards = []
        if held is not None:
            guards = [rpc.Compare(key=held, target=rpc.Compare.LEASE, result=rpc.Compare.EQUAL, lease=lease)]
        revision, deleted = 0, set[bytes]()
        operations = itertools.chain(puts.items(), ((key, None) for key in dict.fromkeys(deletes) if key not in puts))
        for chunk in _chunks(operations):
            request = rpc.TxnRequest(compare=guards, success=[_operation(key, data, lease) for key, data in chunk])
            answer = await self._unary(lambda member: member.kv.Txn, request)
            if held is not None and not answer.succeeded:
                raise NotHeld(held)
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

        async def attempt(route: Route) -> int:
            call = route.member.lease.LeaseKeepAlive(timeout=self.address.timeout, metadata=route.metadata)
            try:
                await guarded(call.write(rpc.LeaseKeepAliveRequest(ID=lease)))
                answer = await guarded(call.read())
            finally:
                self.cluster.end(call)
            if answer is grpc.aio.EOF:
                raise EtcdError(f"{route.member.endpoint}: the connection was closed")
            return max(int(answer.TTL), 0)

        return await self.cluster.request(attempt)

    async def revoke(self, lease: int) -> None:
        """End a lease, which deletes every key that hangs on it; one that is gone is fine."""
        try:
            await self._unary(lambda member: member.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))
        except EtcdError as error:
            if error.code != grpc.StatusCode.NOT_FOUND.name:
                raise

    async def _unary(self, pick: Callable[[Member], Any], request: Any) -> Any:
        """Send one request and return the answer."""

        async def attempt(route: Route) -> Any:
            return await guarded(pick(route.member)(request, timeout=self.address.timeout, metadata=route.metadata))

        return await self.cluster.request(attempt)


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that start with ``prefix``; one zero byte, etcd's "no end", if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


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
