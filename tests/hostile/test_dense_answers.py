"""Answers of a store that are far larger in memory than on the wire are not decoded (T12)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from etcd_server import EtcdServer
from spoiled_store import SpoiledStore, spoiled

from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.errors import EtcdError
from ifagent.stores.etcd.watcher import Disconnected, Snapshot, watch_prefix

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.timeout(60)]

MIB = 20
"""Size of an answer; one that is decoded takes fifty times as much."""

MOST = 400 << 10
"""KiB that it may take: both ends of the connection are in this process, and have it several times."""

KEYS = b"\x12\x00" * (MIB << 19)
"""Field 2 again and again, empty: keys of a listing, responses of a transaction."""

EVENTS = b"\x5a\x00" * (MIB << 19)
"""Field 11: events of a watch."""


def _length(size: int) -> bytes:
    digits = b""
    while size > 0x7F:
        digits += bytes([size & 0x7F | 0x80])
        size >>= 7
    return digits + bytes([size])


_PAGE = b"\x0a" + _length(len(KEYS)) + KEYS
LISTING_IN_TXN = b"\x1a" + _length(len(_PAGE)) + _PAGE
"""One response of a transaction: a listing of all the keys."""


REQUESTS: dict[str, tuple[str, bytes, Callable[[EtcdClient], Awaitable[Any]]]] = {
    "keys": ("Range", KEYS, lambda client: client.range(b"/dense/")),
    "responses": ("Txn", KEYS, lambda client: client.txn(puts={b"/dense/a": b""})),
    "keys in a response": ("Txn", LISTING_IN_TXN, lambda client: client.txn(puts={b"/dense/a": b""})),
}


def _peak() -> int:
    """Return the most memory that the process has had since :func:`_forget_peak`, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


@pytest.fixture
async def store(etcd: EtcdServer) -> AsyncIterator[SpoiledStore]:
    async with spoiled(etcd.address) as one:
        yield one


@pytest.mark.parametrize(("method", "answer", "ask"), REQUESTS.values(), ids=REQUESTS)
async def test_answers(
    store: SpoiledStore, method: str, answer: bytes, ask: Callable[[EtcdClient], Awaitable[Any]]
) -> None:
    async with EtcdClient(store.address) as client:
        store.played = {method: lambda _: answer}
        before = _forget_peak()
        with pytest.raises(EtcdError, match="cannot be decoded"):
            await ask(client)
        assert _peak() - before < MOST, "KiB"
        store.be_well()
        await ask(client)


async def test_events(store: SpoiledStore) -> None:
    async def play(_: Any) -> AsyncIterator[bytes]:
        yield b"\x18\x01"  # it is accepted
        yield EVENTS
        await anyio.sleep_forever()

    async with EtcdClient(store.address) as client, aclosing(watch_prefix(client, b"/dense/")) as events:
        store.played = {"Watch": play}
        before = _forget_peak()
        assert isinstance(await anext(events), Snapshot)
        lost = await anext(events)
        assert isinstance(lost, Disconnected)
        assert "cannot be decoded" in lost.problem
        assert _peak() - before < MOST, "KiB"


async def test_many_events_of_a_usual_size_are_read(store: SpoiledStore) -> None:
    name = b"/vnf-agent/l/linux/config/v1/interface/veth%06d"
    async with EtcdClient(store.address) as client, aclosing(watch_prefix(client, b"/vnf-agent/l/")) as events:
        keys = [name % number for number in range(130_000)]
        await client.txn(puts=dict.fromkeys(keys, b""))
        found = await anext(events)
        assert isinstance(found, Snapshot)
        assert len(found.values) == len(keys)
