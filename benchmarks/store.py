"""A plain client of the etcd that is measured with; it blocks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import grpc
from aetcd import rpc

LIMIT = 100
"""Values in one transaction."""


class Store:
    """One connection."""

    def __init__(self, url: str) -> None:
        self.address = url.replace("http://", "etcd://")
        self._channel = grpc.insecure_channel(url.removeprefix("http://"))
        self._kv = rpc.KVStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Write values, in transactions of 100."""
        left = iter(values.items())
        while some := list(islice(left, LIMIT)):
            self._kv.Txn(rpc.TxnRequest(success=[_put(key, value) for key, value in some]), timeout=10)

    def put_soon(self, key: bytes, value: bytes) -> Any:
        """Begin to write one value; ``result()`` of what is returned waits for the answer."""
        return self._kv.Put.future(rpc.PutRequest(key=key, value=value), timeout=10)

    def clear(self, label: str) -> None:
        """Delete everything of an agent."""
        self.delete(f"/vnf-agent/{label}/".encode())

    def delete(self, prefix: bytes) -> None:
        """Delete all keys with a prefix, in one request."""
        self._kv.DeleteRange(
            rpc.DeleteRangeRequest(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1])), timeout=10
        )


def _put(key: bytes, value: bytes) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))
