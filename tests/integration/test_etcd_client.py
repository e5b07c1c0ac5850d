from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest
from anyio import to_thread
from etcd_server import EtcdServer, free_port, proxy_to, until
from spoiled_store import spoiled

from ifagent.errors import SourceLost
from ifagent.stores.etcd.address import Endpoint, EtcdAddress
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.errors import EtcdError
from ifagent.stores.etcd.limits import Limits

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def test_one_key(etcd: EtcdServer, label: str) -> None:
    key = label.encode()
    async with EtcdClient(etcd.address) as client:
        assert await client.get(key) is None
        assert not await client.delete(key)
        revision = await client.put(key, b"\0value")
        value = await client.get(key)
        assert value is not None
        assert (value.data, value.revision, value.lease) == (b"\0value", revision, 0)
        assert await client.delete(key)
        assert await client.get(key) is None


async def test_a_transaction_writes_deletes_and_tells_what_was_there(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    async with EtcdClient(etcd.address) as client:
        first = await client.txn(puts={prefix + b"a": b"1", prefix + b"b": b"1"})
        second = await client.txn(
            puts={prefix + b"a": b"2"}, deletes=[prefix + b"a", prefix + b"b", prefix + b"b", prefix + b"c"]
        )
        assert second.revision == first.revision + 1
        assert second.deleted == {prefix + b"b"}
        assert {key: value.data for key, value in (await client.range(prefix)).values.items()} == {prefix + b"a": b"2"}
        assert (await client.txn()).revision == 0


async def test_more_than_one_transaction_can_hold(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    keys = [prefix + b"%04d" % number for number in range(600)]
    async with EtcdClient(etcd.address) as client:
        await client.txn(puts=dict.fromkeys(keys, bytes(4000)))
        listing = await client.range(prefix)
        assert list(listing.values) == keys
        assert (await client.txn(deletes=keys)).deleted == set(keys)


def small_pages(address: EtcdAddress) -> EtcdAddress:
    """Return the address with two keys to a page."""
    return replace(address, limits=Limits(first_page=2, largest_page=2))


async def test_the_pages_of_a_listing_are_of_one_revision(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    values, revisions = [], []
    async with EtcdClient(etcd.address) as other, EtcdClient(small_pages(etcd.address)) as client:
        before = await other.txn(puts={prefix + key: b"old" for key in (b"a", b"b", b"c", b"d", b"e")})
        async with aclosing(client.pages(prefix)) as pages:
            async for page in pages:
                values.append([value.data for _, value in page.values])
                revisions.append(page.position.revision)
                if page.is_first:
                    await other.txn(puts={prefix + b"d": b"new"}, deletes=[prefix + b"e"])
    assert values == [[b"old"] * 2, [b"old"] * 2, [b"old"]]
    assert revisions == [before.revision] * 3


async def test_a_listing_whose_revision_is_compacted_starts_over(etcd: EtcdServer, label: str) -> None:
    prefix = f"/{label}/".encode()
    found = []
    async with EtcdClient(etcd.address) as other, EtcdClient(small_pages(etcd.address)) as client:
        await other.txn(puts={prefix + key: b"old" for key in (b"a", b"b", b"c")})
        async with aclosing(client.pages(prefix)) as pages:
            async for page in pages:
                found.append((page.is_first, {key.removeprefix(prefix): value.data for key, value in page.values}))
                if len(found) == 1:
                    written = await other.txn(puts={prefix + b"a": b"new"}, deletes=[prefix + b"b"])
                    await to_thread.run_sync(etcd.ctl, "compact", str(written.revision))
    assert found == [(True, {b"a": b"old", b"b": b"old"}), (True, {b"a": b"new", b"c": b"old"})]


async def test_pages_that_do_not_come_in_time_become_smaller(etcd: EtcdServer, label: str) -> None:
    """Else whoever may write could put so much into one page that there is never a listing."""
    prefix = f"/{label}/".encode()
    async with spoiled(etcd.address) as store, EtcdClient(replace(store.address, timeout=1)) as client:
        await client.txn(puts={prefix + b"%03d" % number: b"" for number in range(10)})
        store.played = {"Range": lambda _: anyio.sleep_forever()}
        with pytest.raises(EtcdError, match="no answer within 1 s"):
            await client.range(prefix)
        store.be_well()
        async with aclosing(client.pages(prefix)) as pages:
            assert [len(page.values) async for page in pages] == [6, 4]


async def test_a_lease_lives_while_it_is_kept_and_takes_its_keys_along(etcd: EtcdServer, label: str) -> None:
    key = label.encode()
    async with EtcdClient(etcd.address) as client:
        lease = await client.grant(4.5)
        await client.put(key, b"v", lease=lease)
        value = await client.get(key)
        assert value is not None
        assert value.lease == lease
        assert await client.keep_alive(lease) == 5
        await client.revoke(lease)
        await client.revoke(lease)
        assert await client.get(key) is None
        assert await client.keep_alive(lease) == 0
        with pytest.raises(EtcdError, match="lease not found"):
            await client.put(key, b"v", lease=lease)


async def test_an_absent_store_is_told_in_one_sentence() -> None:
    port = free_port()
    async with EtcdClient(EtcdAddress.parse(f"etcd://127.0.0.1:{port}")) as client:
        for call in (client.get(b"k"), client.put(b"k", b""), client.grant(5), client.keep_alive(1), client.revoke(1)):
            with pytest.raises(SourceLost) as caught:
                await call
            assert str(caught.value) == f"etcd: 127.0.0.1:{port}: connection refused"


async def test_a_host_that_does_not_exist_is_told() -> None:
    async with EtcdClient(EtcdAddress.parse("etcd://nowhere.invalid")) as client:
        with pytest.raises(SourceLost, match="host name cannot be resolved"):
            await client.get(b"k")


async def test_a_host_name_leads_to_the_store(etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdAddress.parse(f"etcd://localhost:{etcd.port}")) as client:
        assert await client.get(b"nothing") is None


async def test_every_endpoint_is_tried(etcd: EtcdServer) -> None:
    dead = (Endpoint("127.0.0.1", free_port()), Endpoint("nowhere.invalid"), Endpoint("::1", free_port()))
    async with EtcdClient(EtcdAddress(endpoints=(*dead, *etcd.address.endpoints))) as client:
        assert await client.get(b"nothing") is None
        assert client.cluster.member.endpoint == etcd.address.endpoints[0]


async def test_a_store_that_does_not_answer_is_told_in_time(etcd: EtcdServer) -> None:
    async with proxy_to(etcd.port) as proxy:
        async with EtcdClient(EtcdAddress(endpoints=proxy.address.endpoints, timeout=0.2)) as client:
            await client.get(b"k")
            proxy.swallow()
            for call in (client.get(b"k"), client.keep_alive(1)):
                with pytest.raises(SourceLost, match=r"no answer within 0\.2 s"):
                    await call
        proxy.flow()


async def test_cancelling_a_request_ends_where_it_was_asked_for(etcd: EtcdServer) -> None:
    before = asyncio.all_tasks()
    async with proxy_to(etcd.port) as proxy:
        async with EtcdClient(proxy.address) as client:
            await client.get(b"k")
            proxy.swallow()
            for number in range(40):
                with anyio.move_on_after(0.005) as scope:
                    await (client.keep_alive(1) if number % 2 else client.get(b"k"))
                assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await client.get(b"k")
        proxy.flow()
    await until(lambda: asyncio.all_tasks() <= before, within=2)


async def test_closing_ends_what_is_in_flight(etcd: EtcdServer) -> None:
    async with proxy_to(etcd.port) as proxy, anyio.create_task_group() as tg:
        client = EtcdClient(proxy.address)
        await client.__aenter__()
        await client.get(b"k")
        proxy.swallow()
        ended = anyio.Event()

        async def ask() -> None:
            with pytest.raises(SourceLost):
                await client.get(b"k")
            ended.set()

        tg.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await client.__aexit__(None, None, None)
        with anyio.move_on_after(3):
            await ended.wait()
        assert ended.is_set()
        proxy.flow()
