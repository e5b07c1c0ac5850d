"""A store that answers wrongly: stands before a real etcd, and has some of its answers made up.

What it plays is a table, by method of etcd's services. Whatever is not in it goes to the real etcd and back, so that
the store is well again as soon as nothing is played any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from aetcd import rpc

from ifagent.stores.etcd.address import EtcdAddress

OneAnswer = Callable[[Any], Any]
"""Makes the answer to one request, a message or bytes that are none; may be a coroutine function."""

ManyAnswers = Callable[[Any], AsyncIterator[Any]]
"""Makes the answers of a stream, given its first request."""

_REQUESTS = {
    "Range": rpc.RangeRequest,
    "Put": rpc.PutRequest,
    "DeleteRange": rpc.DeleteRangeRequest,
    "Txn": rpc.TxnRequest,
    "LeaseGrant": rpc.LeaseGrantRequest,
    "LeaseRevoke": rpc.LeaseRevokeRequest,
    "LeaseKeepAlive": rpc.LeaseKeepAliveRequest,
    "Watch": rpc.WatchRequest,
}
_STREAMS = {"LeaseKeepAlive", "Watch"}
_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class SpoiledStore:
    """What is played, and how often each method was called."""

    def __init__(self, real: str) -> None:
        self.played: Mapping[str, OneAnswer | ManyAnswers] = {}
        self.calls: Counter[str] = Counter()
        self.address: EtcdAddress
        self._channel = grpc.aio.insecure_channel(real, options=_ANY_SIZE)
        self._server = grpc.aio.server(options=_ANY_SIZE)
        self._streams: set[asyncio.Task[Any] | None] = set()

    async def start(self) -> None:
        self._server.add_generic_rpc_handlers([_Handlers(self)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = EtcdAddress.parse(f"etcd://127.0.0.1:{port}")

    async def stop(self) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def be_well(self) -> None:
        """Play nothing any more, and end the streams that were played."""
        self.played = {}
        for task in self._streams:
            if task:
                task.cancel()

    async def one(self, method: str, path: str, request: bytes) -> bytes:
        self.calls[method] += 1
        answer = self.played.get(method)
        if answer is None:
            return await self._channel.unary_unary(path)(request)  # type: ignore[no-any-return]
        made = answer(_REQUESTS[method].FromString(request))
        return _bytes(await made if isinstance(made, Awaitable) else made)

    async def many(self, method: str, path: str, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.calls[method] += 1
        answers = self.played.get(method)
        if answers is None:
            async for forwarded in self._channel.stream_stream(path)(requests):
                yield forwarded
            return
        self._streams.add(asyncio.current_task())
        first = _REQUESTS[method].FromString(await anext(aiter(requests)))
        async for answer in answers(first):
            yield _bytes(answer)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, store: SpoiledStore) -> None:
        self._store = store

    def service(self, details: Any) -> Any:
        path, store = details.method, self._store
        method = path.rpartition("/")[2]
        if method in _STREAMS:

            async def many(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
                async for answer in store.many(method, path, requests):
                    yield answer

            return grpc.stream_stream_rpc_method_handler(many)

        async def one(request: bytes, _context: Any) -> bytes:
            return await store.one(method, path, request)

        return grpc.unary_unary_rpc_method_handler(one)


def _bytes(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


@asynccontextmanager
async def spoiled(real: EtcdAddress) -> AsyncIterator[SpoiledStore]:
    """Have a store before a real one, and take it away afterwards."""
    store = SpoiledStore(str(real.endpoints[0]))
    await store.start()
    try:
        yield store
    finally:
        await store.stop()
