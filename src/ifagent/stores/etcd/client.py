"""Plain requests to etcd: read, write, lease. Watching is in :mod:`ifagent.stores.etcd.watcher`.

A request that could not be delivered is tried once on every endpoint, so a write may be carried out twice: every
write here gives the same result when it is repeated.

All trouble with the store, invalid answers included, is raised as :class:`ifagent.errors.SourceLost` with one short
sentence. No answer is larger than the address's limits allow, and listings are paged.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import grpc
import grpc.aio
from aetcd import rpc

from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import (
    BrokenAnswer,
    StoreRevision,
    Value,
    check_responses,
    read_deletions,
    read_page,
    read_position,
    read_value,
)
from ifagent.stores.etcd.cluster import Cluster, Member, Route, await_call, decoded
from ifagent.stores.etcd.errors import EtcdError

PAGE_BYTES: Final = 1 << 20
"""Size in bytes that pages of a listing aim at."""

MAX_BYTES: Final = 16 * 1024**3
"""Most bytes of keys and values in a listing, twice what etcd recommends to store."""

MAX_GATHERED_BYTES: Final = 512 * 1024**2
"""Most bytes of keys and values that :meth:`EtcdClient.range` gathers."""

MAX_TXN_OPS: Final = 128
"""Most operations in one transaction: etcd's own default limit (``--max-txn-ops``)."""

MAX_TXN_BYTES: Final = 1 << 20
"""Most bytes in one transaction, below etcd's default limit of 1.5 MiB (``--max-request-bytes``)."""

T = TypeVar("T")


class LockLost(EtcdError):
    """A conditional write was not carried out, because the lock key is under another lease, or is gone."""

    def __init__(self, key: bytes) -> None:
        """Name the key."""
        super().__init__(f"lost the lock {key.decode(errors='backslashreplace')}")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the keys under some prefixes, as of one revision; ``is_first`` at the start of a listing."""

    position: StoreRevision
    values: list[tuple[bytes, Value]]
    is_first: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under some prefixes, as of one revision."""

    position: StoreRevision
    values: Mapping[bytes, Value]


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Result of a write: the store's revision after it, and the keys that it deleted."""

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
        self._page = address.limits.first_page
        self._largest = address.limits.largest_page

    async def __aenter__(self) -> Self:
        """Do nothing yet: connections are made when needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection; what is still in flight ends with an error."""
        with anyio.CancelScope(shield=True):
            await self.cluster.close()

    async def get(self, key: bytes) -> Value | None:
        """Return the value of ``key``, ``None`` if there is no such key."""
        request = rpc.RangeRequest(key=key)
        return await self._unary(lambda member: member.kv.Range, request, lambda answer: read_value(answer, key))

    async def range(self, *prefixes: bytes) -> Listing:
        """List everything under ``prefixes``, as of one revision."""
        values: dict[bytes, Value] = {}
        position, size = StoreRevision(0, 0), 0
        async with aclosing(self.pages(*prefixes)) as pages:
            async for page in pages:
                if page.is_first:
                    values, position, size = {}, page.position, 0
                values.update(page.values)
                size += _size(page.values)
                if size > MAX_GATHERED_BYTES:
                    raise EtcdError(f"{self.cluster.member.endpoint}: listing has more than {MAX_GATHERED_BYTES} bytes")
        return Listing(position, values)

    async def pages(
        self, *prefixes: bytes, keys_only: bool = False, changed_after: int = 0
    ) -> AsyncGenerator[Page, None]:
        """List everything under ``prefixes`` in pages, all of them as of the first page's revision.

        There is at least one page. If the revision is compacted between two pages, the listing starts over with
        another first page. With ``keys_only`` the values are empty; with ``changed_after`` only keys are listed that
        a later revision wrote. Pages aim at :data:`PAGE_BYTES`; after one that timed out, the next listing uses
        smaller ones.
        """
        for _ in range(10):
            try:
                async with aclosing(
                    self._pages_once(prefixes, keys_only=keys_only, changed_after=changed_after)
                ) as pages:
                    async for page in pages:
                        yield page
            except EtcdError as error:
                if error.code == grpc.StatusCode.DEADLINE_EXCEEDED.name:
                    self._make_pages_smaller()
                if error.code != grpc.StatusCode.OUT_OF_RANGE.name:
                    raise
            else:
                self._largest = min(2 * self._largest, self.address.limits.largest_page)
                return
        raise EtcdError(f"{self.cluster.member.endpoint}: history is compacted faster than it can be listed")

    async def _pages_once(
        self, prefixes: Collection[bytes], *, keys_only: bool, changed_after: int
    ) -> AsyncGenerator[Page, None]:
        position, listed, size = None, 0, 0
        todo = [(prefix, prefix_end(prefix)) for prefix in reversed([*prefixes])]
        while todo:
            start, end = todo.pop()
            request = rpc.RangeRequest(
                key=start,
                range_end=end,
                revision=position.revision if position else 0,
                keys_only=keys_only,
                min_mod_revision=changed_after + 1 if changed_after else 0,
            )
            position_now, values, more = await self._page_of(request)
            first, position = position is None, position or position_now
            listed += len(values)
            size += _size(values)
            if listed > self.address.limits.max_keys or size > MAX_BYTES:
                most = f"{self.address.limits.max_keys} keys or {MAX_BYTES} bytes"
                raise EtcdError(f"{self.cluster.member.endpoint}: listing has more than {most}")
            if more:
                todo.append((values[-1][0] + b"\0", end))
            yield Page(position, values, first)

    async def _page_of(self, request: Any) -> tuple[StoreRevision, list[tuple[bytes, Value]], bool]:
        """Return one page, and whether others follow; retries with a smaller one if it is too large for an answer."""

        def read(answer: Any) -> tuple[StoreRevision, list[tuple[bytes, Value]], bool]:
            page = read_page(answer, request.key, request.range_end, limit=request.limit)
            return read_position(answer), page, answer.more

        while True:
            request.limit = self._page
            try:
                found = await self._unary(lambda member: member.kv.Range, request, read)
            except EtcdError as error:
                if error.code != grpc.StatusCode.RESOURCE_EXHAUSTED.name or self._page == 1:
                    raise
                self._make_pages_smaller()
            else:
                fitting = PAGE_BYTES * len(found[1]) // max(1, _size(found[1]))
                self._page = max(1, min(fitting, 4 * self._page, self._largest)) if found[1] else self._page
                return found

    def _make_pages_smaller(self) -> None:
        """Use smaller pages; the limit doubles again with each completed listing."""
        self._page = self._largest = max(1, self._page // 8)

    async def count(self, prefix: bytes) -> int:
        """Return how many keys there are under ``prefix``."""
        request = rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix), count_only=True)
        return await self._unary(lambda member: member.kv.Range, request, lambda answer: int(answer.count))

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """Write one key and return the store's revision."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return (await self._unary(lambda member: member.kv.Put, request, read_position)).revision

    async def delete(self, key: bytes) -> bool:
        """Delete one key; return whether it was there."""
        request = rpc.DeleteRangeRequest(key=key)
        return await self._unary(lambda member: member.kv.DeleteRange, request, lambda answer: bool(answer.deleted))

    async def put_if(self, key: bytes, value: bytes, *, lease: int, unchanged_since: int) -> Value | None:
        """Write a key unless it has changed since a revision; 0 if it must not exist.

        Returns ``None`` if it was written, else the current value. If an earlier attempt succeeded but its answer was
        lost, the current value has our lease.
        """
        same = rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=unchanged_since)
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        request = rpc.TxnRequest(compare=[same], success=[_operation(key, value, lease)], failure=[look])

        def read(answer: Any) -> Value | None:
            check_responses(answer, 1)
            if answer.succeeded:
                return None
            return read_value(answer.responses[0].response_range, key) or Value(b"", 0)

        return await self._unary(lambda member: member.kv.Txn, request, read)

    async def txn(
        self,
        *,
        puts: Mapping[bytes, bytes] | None = None,
        deletes: Collection[bytes] = (),
        lease: int = 0,
        held: bytes | None = None,
    ) -> TxnResult:
        """Write and delete keys, in one transaction where etcd's limits allow it, else in several in order.

        A key that is in both is written. Deleting a key that does not exist is not an error. The puts are under
        ``lease``. Up to 128 operations and 1 MiB are one change for watchers. With ``held``, nothing is done and
        :class:`LockLost` is raised unless that key is under ``lease``.
        """
        puts = puts or {}
        guards = []
        if held is not None:
            guards = [rpc.Compare(key=held, target=rpc.Compare.LEASE, result=rpc.Compare.EQUAL, lease=lease)]
        written = TxnResult(0)
        operations = itertools.chain(puts.items(), ((key, None) for key in dict.fromkeys(deletes) if key not in puts))
        for chunk in chunks(operations):
            request = rpc.TxnRequest(compare=guards, success=[_operation(key, data, lease) for key, data in chunk])
            deleting = [key if data is None else None for key, data in chunk]

            def read(answer: Any, deleting: list[bytes | None] = deleting) -> TxnResult:
                if held is not None and not answer.succeeded:
                    raise LockLost(held)
                if not answer.succeeded:
                    raise BrokenAnswer("a transaction without conditions has failed")
                return TxnResult(read_position(answer).revision, frozenset(read_deletions(answer, deleting)))

            done = await self._unary(lambda member: member.kv.Txn, request, read)
            written = TxnResult(done.revision, written.deleted | done.deleted)
        return written

    async def grant(self, ttl: float) -> int:
        """Create a lease of ``ttl`` seconds (rounded up; etcd may choose more) and return its id."""
        request = rpc.LeaseGrantRequest(TTL=-int(-ttl // 1))

        def read(answer: Any) -> int:
            if not answer.ID:
                raise BrokenAnswer("lease without an id")
            return int(answer.ID)

        return await self._unary(lambda member: member.lease.LeaseGrant, request, read)

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease; return the seconds that it has now, 0 if it has expired."""

        async def attempt(route: Route) -> int:
            call = route.member.lease.LeaseKeepAlive(timeout=self.address.timeout, metadata=route.metadata)
            try:
                await await_call(call.write(rpc.LeaseKeepAliveRequest(ID=lease)))
                answer = await await_call(call.read())
            finally:
                self.cluster.end(call)
            if answer is grpc.aio.EOF:
                raise EtcdError(f"{route.member.endpoint}: the connection was closed")
            return max(int(decoded(answer).TTL), 0)

        return await self.cluster.request(attempt)

    async def revoke(self, lease: int) -> None:
        """Revoke a lease, which deletes every key under it; an expired one is not an error."""
        try:
            await self._unary(lambda member: member.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease), lambda _: None)
        except EtcdError as error:
            if error.code != grpc.StatusCode.NOT_FOUND.name:
                raise

    async def _unary(self, pick: Callable[[Member], Any], request: Any, read: Callable[[Any], T]) -> T:
        """Send one request and return what ``read`` makes of the answer, which may raise :class:`BrokenAnswer`."""

        async def attempt(route: Route) -> T:
            answer = await await_call(
                pick(route.member)(request, timeout=self.address.timeout, metadata=route.metadata)
            )
            return read(decoded(answer))

        return await self.cluster.request(attempt)


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that start with ``prefix``; one zero byte, etcd's "no end", if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def _size(values: Collection[tuple[bytes, Value]]) -> int:
    return sum(len(key) + len(value.data) for key, value in values)


def _operation(key: bytes, data: bytes | None, lease: int) -> Any:
    if data is None:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=data, lease=lease))


def chunks(operations: Iterator[tuple[bytes, bytes | None]]) -> Iterator[list[tuple[bytes, bytes | None]]]:
    """Split operations into lists that fit into one transaction."""
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
