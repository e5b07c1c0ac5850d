from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio import to_thread
from etcd_server import EtcdServer, TcpProxy, proxy_to, until

from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import Changes
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.errors import EtcdError
from ifagent.stores.etcd.limits import Limits
from ifagent.stores.etcd.watcher import Disconnected, Reconnected, Snapshot, WatchEvent, WatchStream, watch_prefix

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


class Seen:
    """What a watch said so far, and the values that somebody who believed it would have."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.values: dict[bytes, bytes] = {}

    def add(self, event: WatchEvent) -> None:
        self.events.append(event)
        match event:
            case Snapshot(_, values):
                self.values = {key: value.data for key, value in values.items()}
            case Changes(_, changes):
                for key, value in changes:
                    if value is None:
                        del self.values[key]
                    else:
                        self.values[key] = value.data

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def watching(address: EtcdAddress, prefix: bytes) -> AsyncIterator[Seen]:
    seen = Seen()

    async def follow() -> None:
        async with EtcdClient(address) as client, aclosing(watch_prefix(client, prefix)) as events:
            async for event in events:
                seen.add(event)

    async with anyio.create_task_group() as tg:
        tg.start_soon(follow)
        yield seen
        tg.cancel_scope.cancel()


async def settled(seen: Seen, client: EtcdClient, key: bytes) -> None:
    """Make one change that comes as a change."""
    await until(lambda: seen.of(Snapshot))
    await client.put(key, b"settled")
    await until(lambda: seen.values.get(key) == b"settled")


def _are(seen: Seen, values: dict[bytes, bytes]) -> Callable[[], bool]:
    return lambda: seen.values == values


async def test_what_is_there_and_then_what_changes(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with EtcdClient(etcd.address) as client:
        await client.put(prefix + b"a", b"1")
        await client.put(f"/{label}0".encode(), b"not under the prefix")
        async with watching(etcd.address, prefix) as seen:
            await until(lambda: seen.events)
            first = seen.events[0]
            assert isinstance(first, Snapshot)
            assert list(first.values) == [prefix + b"a"]
            revision = await client.put(prefix + b"a", b"2")
            await client.delete(prefix + b"a")
            await until(lambda: len(seen.events) == 3)
            changed, deleted = seen.of(Changes)
            assert changed.revision == revision == changed.changes[0][1].revision
            assert changed.changes[0][1].data == b"2"
            assert deleted.changes == ((prefix + b"a", None),)
            assert deleted.revision == revision + 1


async def test_a_transaction_of_100_puts_is_one_change(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with EtcdClient(etcd.address) as client, watching(etcd.address, prefix) as seen:
        await settled(seen, client, prefix + b"x")
        written = await client.txn(
            puts={prefix + b"%d" % number: b"v" for number in range(100)}, deletes=[prefix + b"x"]
        )
        await until(lambda: len(seen.values) == 100)
        last = seen.events[-1]
        assert isinstance(last, Changes)
        assert (len(last.changes), last.revision) == (101, written.revision)


async def test_a_restarted_store_is_listed_and_followed(own_etcd: EtcdServer) -> None:
    async with watching(own_etcd.address, b"/w/") as seen, EtcdClient(own_etcd.address) as client:
        await settled(seen, client, b"/w/a")
        for end in (own_etcd.stop, own_etcd.kill):
            await to_thread.run_sync(end)
            await until(lambda: isinstance(seen.events[-1], Disconnected))
            await to_thread.run_sync(own_etcd.start)
            await to_thread.run_sync(lambda: own_etcd.ctl("put", "/w/b", f"{time.monotonic()}"))
            await until(lambda: len(seen.of(Reconnected)) == len(seen.of(Disconnected)))
            await settled(seen, client, b"/w/c%d" % len(seen.of(Reconnected)))
        kinds = [type(event) for event in seen.events]
        assert kinds.count(Snapshot) == 3
        assert kinds.count(Disconnected) == kinds.count(Reconnected) == 2
        # Which of its words grpc uses for a connection that ends depends on what it was about to do.
        assert any(sign in seen.of(Disconnected)[0].problem for sign in ("connection", "Broken pipe"))


async def test_a_store_that_comes_late(own_etcd: EtcdServer) -> None:
    await to_thread.run_sync(lambda: own_etcd.ctl("put", "/w/a", "1"))
    await to_thread.run_sync(own_etcd.stop)
    async with watching(own_etcd.address, b"/w/") as seen:
        await until(lambda: seen.events)
        assert seen.events[0] == Disconnected(f"127.0.0.1:{own_etcd.port}: connection refused")
        await to_thread.run_sync(own_etcd.start)
        await until(lambda: isinstance(seen.events[-1], Reconnected))
        assert seen.values == {b"/w/a": b"1"}
        assert len(seen.events) == 3


async def test_a_replaced_store_is_listed_again(own_etcd: EtcdServer) -> None:
    async with watching(own_etcd.address, b"/w/") as seen:
        async with EtcdClient(own_etcd.address) as client:
            for number in range(20):
                await client.put(b"/w/a", b"%d" % number)
            await settled(seen, client, b"/w/b")
        await to_thread.run_sync(own_etcd.kill)
        own_etcd.forget()
        await to_thread.run_sync(own_etcd.start)
        await to_thread.run_sync(lambda: own_etcd.ctl("put", "/w/new", "1"))
        await until(lambda: seen.values == {b"/w/new": b"1"})
        # It is followed too, though its revisions are lower than the old ones.
        await to_thread.run_sync(lambda: own_etcd.ctl("put", "/w/new", "2"))
        await until(lambda: seen.values == {b"/w/new": b"2"})


async def test_compaction_while_disconnected(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with (
        EtcdClient(etcd.address) as client,
        proxy_to(etcd.port) as proxy,
        watching(proxy.address, prefix) as seen,
    ):
        await client.txn(puts={prefix + key: b"old" for key in (b"a", b"b", b"c")})
        await settled(seen, client, prefix + b"x")
        await proxy.refuse()
        await until(lambda: isinstance(seen.events[-1], Disconnected))
        await client.delete(prefix + b"a")
        await client.put(prefix + b"b", b"new")
        revision = await client.put(prefix + b"d", b"new")
        await to_thread.run_sync(lambda: etcd.ctl("compact", str(revision)))
        await proxy.accept()
        await until(lambda: isinstance(seen.events[-1], Reconnected))
        assert [len(seen.of(kind)) for kind in (Snapshot, Disconnected, Reconnected)] == [2, 1, 1]
        expected = {b"b": b"new", b"c": b"old", b"d": b"new", b"x": b"settled"}
        assert seen.values == {prefix + key: value for key, value in expected.items()}
        await settled(seen, client, prefix + b"y")


async def test_a_reset_connection_loses_nothing(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with (
        EtcdClient(etcd.address) as client,
        proxy_to(etcd.port) as proxy,
        watching(proxy.address, prefix) as seen,
    ):
        await settled(seen, client, prefix + b"x")
        for number in range(3):
            proxy.reset()
            await client.put(prefix + b"x", b"%d" % number)
            await client.put(prefix + b"y", b"%d" % number)
            await client.delete(prefix + b"y")
            await until(_are(seen, {prefix + b"x": b"%d" % number}))
        revisions = [changes.revision for changes in seen.of(Changes)]
        assert revisions == sorted(set(revisions))


async def test_a_black_hole_is_noticed_within_10_s(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with (
        EtcdClient(etcd.address) as client,
        proxy_to(etcd.port) as proxy,
        watching(proxy.address, prefix) as seen,
    ):
        await settled(seen, client, prefix + b"x")
        proxy.swallow()
        await until(lambda: seen.of(Disconnected))
        assert "no sign of life" in seen.of(Disconnected)[0].problem
        await client.put(prefix + b"x", b"missed")
        proxy.flow()
        await until(lambda: seen.values[prefix + b"x"] == b"missed")


async def test_a_paused_store_is_noticed(own_etcd: EtcdServer) -> None:
    address = replace(own_etcd.address, timeout=0.5, limits=Limits(quiet=0.2))
    async with watching(address, b"/w/") as seen, EtcdClient(own_etcd.address) as client:
        await settled(seen, client, b"/w/a")
        own_etcd.pause()
        try:
            await until(lambda: seen.of(Disconnected))
        finally:
            own_etcd.resume()
        assert "no sign of life for 0.4 s" in seen.of(Disconnected)[0].problem
        await until(lambda: seen.of(Reconnected))
        await settled(seen, client, b"/w/b")


async def test_silence_alone_is_no_loss(etcd: EtcdServer, label: str) -> None:
    address = replace(etcd.address, limits=Limits(quiet=0.3))
    prefix = f"/{label}/".encode()
    async with EtcdClient(address) as client:
        listed = (await client.range(prefix)).position.revision
        async with WatchStream(client, prefix, after=listed) as stream:
            assert list(await stream.changes(within=3)) == [], "the server answered each time that it was asked"


async def test_many_keys_deleted_by_one_request_are_told_soon_in_parts_of_one_revision(
    etcd: EtcdServer, label: str
) -> None:
    """etcd 3.4 takes seconds to cut so large an answer into fragments, if it is asked to."""
    prefix = f"/{label}/".encode()
    async with EtcdClient(etcd.address) as client, watching(etcd.address, prefix) as seen:
        await settled(seen, client, prefix + b"x")
        await client.txn(puts={prefix + b"%05d" % number: b"" for number in range(60_000)})
        await until(lambda: len(seen.values) == 60_001)
        await to_thread.run_sync(lambda: etcd.ctl("del", "--prefix", prefix.decode()))
        await until(lambda: not seen.values)
        parts = [changes for changes in seen.of(Changes) if changes.is_part]
        assert sum(len(changes.changes) for changes in parts) == 60_001
        assert len({changes.revision for changes in parts}) == 1
        assert [changes.more for changes in parts] == [True] * (len(parts) - 1) + [False]
        assert not seen.of(Disconnected)


async def test_an_answer_that_is_too_large_is_listed_instead(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    address = replace(etcd.address, limits=Limits(max_answer_bytes=100_000))
    async with EtcdClient(etcd.address) as client, watching(address, prefix) as seen:
        await settled(seen, client, prefix + b"x")
        await client.txn(puts={prefix + b"%d" % number: bytes(10_000) for number in range(20)})
        await until(lambda: len(seen.values) == 21)
        assert "the answer is too large" in seen.of(Disconnected)[0].problem
        assert len(seen.of(Snapshot)) == 2
        await settled(seen, client, prefix + b"y")


async def test_a_store_that_refuses_says_why_once(own_etcd: EtcdServer) -> None:
    async with watching(own_etcd.address, b"/w/") as seen:
        await until(lambda: seen.of(Snapshot))

        def protect() -> None:
            own_etcd.ctl("user", "add", "root", "--interactive=false", given=b"secret\n")
            own_etcd.ctl("user", "grant-role", "root", "root")
            own_etcd.ctl("auth", "enable")

        await to_thread.run_sync(protect)
        await to_thread.run_sync(own_etcd.kill)
        await to_thread.run_sync(own_etcd.start)
        await until(lambda: seen.of(Disconnected))
        assert len(seen.of(Disconnected)) == 1
        assert not seen.of(Reconnected)


async def test_a_watch_that_is_refused_says_why(own_etcd: EtcdServer) -> None:
    def protect() -> None:
        own_etcd.ctl("user", "add", "root", "--interactive=false", given=b"secret\n")
        own_etcd.ctl("user", "grant-role", "root", "root")
        own_etcd.ctl("auth", "enable")

    await to_thread.run_sync(protect)
    async with EtcdClient(own_etcd.address) as client:
        with pytest.raises(EtcdError, match=r"\d: etcdserver: user name is empty$") as caught:
            async with WatchStream(client, b"/w/", after=0):
                pass
    assert caught.value.source == "etcd"
    async with watching(own_etcd.address, b"/w/") as seen:
        await until(lambda: seen.events)
        assert "user name is empty" in seen.of(Disconnected)[0].problem


async def test_the_next_endpoint_takes_over(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with EtcdClient(etcd.address) as client, proxy_to(etcd.port) as first, proxy_to(etcd.port) as second:
        both = EtcdAddress(endpoints=(*first.address.endpoints, *second.address.endpoints))
        async with watching(both, prefix) as seen:
            await settled(seen, client, prefix + b"a")
            await first.refuse()
            await until(lambda: isinstance(seen.events[-1], Reconnected))
            await settled(seen, client, prefix + b"b")
            assert second._pairs


@pytest.mark.parametrize("moment", ["listing", "following", "lost"])
async def test_ending_a_watch_leaves_no_tasks(etcd: EtcdServer, label: str, moment: str) -> None:
    prefix = f"/{label}/".encode()

    async def once(proxy: TcpProxy) -> None:
        if moment == "listing":
            proxy.swallow()
        async with watching(proxy.address, prefix) as seen:
            if moment == "listing":
                await until(lambda: proxy._pairs)
            else:
                await until(lambda: seen.of(Snapshot))
            if moment == "lost":
                # Once a change has come the watch is open: before, grpc may connect again by itself.
                await client.put(prefix + b"x", b"")
                await until(lambda: seen.of(Changes))
                proxy.reset()
                await until(lambda: seen.of(Disconnected))

    async with EtcdClient(etcd.address) as client:
        await client.get(b"/warm-up")
        before = asyncio.all_tasks()
        async with proxy_to(etcd.port) as proxy:
            for _ in range(5):
                await once(proxy)
                proxy.flow()
        await until(lambda: asyncio.all_tasks() <= before, within=2)
