from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.abc import TaskGroup
from etcd_server import EtcdServer, proxy_to, until

from ifagent.client.etcd import EtcdStore
from ifagent.core.interface import Name
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.client import EtcdClient
from ifagent.etcd.keys import key_of, status_prefix
from ifagent.formats.state import encode_state_json
from ifagent.outlets.etcd_status import EtcdStatus

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


def state(name: str, *, mtu: int = 1500) -> InterfaceState:
    return InterfaceState(
        name=Name(name),
        config_state=ConfigState.APPLIED,
        mtu=mtu,
        admin_status=Status.UP,
        oper_status=Status.UP,
        if_index=7,
        last_change=1700000000.0,
    )


class Stream:
    """An agent's state stream, fed by the test."""

    def __init__(self) -> None:
        self._send, self.events = anyio.create_memory_object_stream[StateEvent](1000)
        self._seq = 0

    def tell(self, change: Change, told: InterfaceState | None, name: str = "") -> None:
        self._seq += 1
        name = told.name if told else name
        self._send.send_nowait(StateEvent(seq=self._seq, event=change, name=Name(name), state=told))

    def end(self) -> None:
        self._send.close()

    def close(self) -> None:
        self._send.close()
        self.events.close()


@asynccontextmanager
async def agent(address: EtcdAddress, label: str, *states: InterfaceState, ttl: float = 10.0) -> AsyncIterator[Stream]:
    """Publish what the test tells the stream; leaving it is a clean shutdown."""
    stream = Stream()
    for told in states:
        stream.tell(Change.SNAPSHOT, told)
    try:
        async with anyio.create_task_group() as tg:
            tg.start_soon(EtcdStatus(address, label, ttl=ttl).run, stream.events)
            yield stream
            tg.cancel_scope.cancel()
    finally:
        stream.close()


@asynccontextmanager
async def watched(store: EtcdStore) -> AsyncIterator[list[StateEvent]]:
    seen: list[StateEvent] = []

    async def follow() -> None:
        async with aclosing(store.watch()) as events:
            async for event in events:
                seen.append(event)  # noqa: PERF401 the list is read while it grows

    async with anyio.create_task_group() as tg:
        tg.start_soon(follow)
        yield seen
        tg.cancel_scope.cancel()


def told(events: list[StateEvent]) -> list[tuple[str, str]]:
    return [(event.event.value, event.name) for event in events]


async def published(store: EtcdStore, *names: str) -> dict[Name, InterfaceState]:
    """Wait until exactly ``names`` are there."""
    with anyio.fail_after(10):
        while True:
            states = await store.states()
            if states.keys() == set(names):
                return states
            await anyio.sleep(0.01)


async def test_states_are_published_changed_and_taken_back(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store:
        async with agent(etcd.address, label, state("a"), state("b")) as stream:
            states = await published(store, "a", "b")
            assert states[Name("a")] == state("a")
            async with watched(store) as seen:
                await until(lambda: len(seen) == 2)
                stream.tell(Change.CHANGED, state("a", mtu=1400))
                await until(lambda: len(seen) == 3)
                stream.tell(Change.GAP, None, "b")
                stream.tell(Change.DELETED, replace(state("b"), admin_status=Status.DELETED))
                stream.tell(Change.CREATED, state("c"))
                await until(lambda: len(seen) == 5)
                assert [event.seq for event in seen] == [1, 2, 3, 4, 5]
                assert told(seen[:3]) == [("snapshot", "a"), ("snapshot", "b"), ("changed", "a")]
                assert sorted(told(seen[3:])) == [("created", "c"), ("deleted", "b")]
                (gone,) = [event.state for event in seen if event.event is Change.DELETED]
                assert gone == replace(state("b"), admin_status=Status.DELETED, oper_status=Status.DELETED)
                assert seen[2].state == state("a", mtu=1400)
        assert await store.states() == {}


async def test_the_values_are_plain_json_under_a_lease(etcd: EtcdServer, label: str) -> None:
    async with EtcdClient(etcd.address) as client, agent(etcd.address, label, state("a")):
        key = key_of(status_prefix(label), "a")
        with anyio.fail_after(5):
            while not (value := await client.get(key)):
                await anyio.sleep(0.01)
        assert json.loads(value.data)["config_state"] == "APPLIED"
        assert 0 < await client.keep_alive(value.lease) <= 10


async def test_changes_that_come_together_are_written_together(
    etcd: EtcdServer, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    txn = EtcdClient.txn

    async def noted(self: EtcdClient, **words: Any) -> Any:
        if puts := words.get("puts"):
            writes.append(len(puts))
        return await txn(self, **words)

    async with EtcdStore(etcd.address, label) as store, agent(etcd.address, label, state("a")) as stream:
        await published(store, "a")
        monkeypatch.setattr(EtcdClient, "txn", noted)
        for mtu in range(1000, 1100):
            stream.tell(Change.CHANGED, state("a", mtu=mtu))
        for number in range(50):
            stream.tell(Change.CREATED, state(f"b{number}"))
        states = await published(store, "a", *(f"b{number}" for number in range(50)))
        assert states[Name("a")].mtu == 1099
        # The very first change may have been written before the others came.
        assert len(writes) <= 2
        assert writes[-1] >= 50
        writes.clear()
        stream.tell(Change.CHANGED, state("a", mtu=1099))
        stream.tell(Change.CREATED, state("last"))
        await until(lambda: writes)
        assert writes == [1]


async def test_states_of_an_agent_that_died_go_away(etcd: EtcdServer, label: str) -> None:
    async with (
        EtcdStore(etcd.address, label) as store,
        proxy_to(etcd.port) as proxy,
        agent(proxy.address, label, state("a"), ttl=2),
    ):
        await published(store, "a")
        async with watched(store) as seen:
            await until(lambda: seen)
            await proxy.refuse()
            await until(lambda: len(seen) == 2)
            assert told(seen) == [("snapshot", "a"), ("deleted", "a")]
            # It was only cut off: its states come back under a new lease.
            await proxy.accept()
            await until(lambda: len(seen) == 3)
            assert told(seen)[2] == ("created", "a")


async def test_a_lease_is_kept_alive(etcd: EtcdServer, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    keep_alive = EtcdClient.keep_alive

    async def noted(self: EtcdClient, lease: int) -> int:
        kept.append(await keep_alive(self, lease))
        return kept[-1]

    monkeypatch.setattr(EtcdClient, "keep_alive", noted)
    async with EtcdStore(etcd.address, label) as store, agent(etcd.address, label, state("a"), ttl=0.3):
        await until(lambda: len(kept) >= 5)
        assert all(kept)
        assert list(await store.states()) == ["a"]


async def test_a_lease_that_was_taken_away_is_replaced(etcd: EtcdServer, label: str) -> None:
    key = key_of(status_prefix(label), "a")
    async with (
        EtcdStore(etcd.address, label) as store,
        EtcdClient(etcd.address) as client,
        agent(etcd.address, label, state("a"), ttl=1.5),
    ):
        await published(store, "a")
        first = await client.get(key)
        assert first
        await client.revoke(first.lease)
        await published(store, "a")
        second = await client.get(key)
        assert second
        assert second.lease != first.lease


async def test_what_an_earlier_agent_left_is_replaced(etcd: EtcdServer, label: str) -> None:
    prefix = status_prefix(label)
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        lease = await client.grant(60)
        left = {key_of(prefix, name): encode_state_json(state(name)) for name in ("a", "gone")}
        await client.txn(puts=left, lease=lease)
        async with watched(store) as seen:
            await until(lambda: len(seen) == 2)
            async with agent(etcd.address, label, state("a")):
                await published(store, "a")
                with anyio.fail_after(5):
                    while (value := await client.get(key_of(prefix, "a"))) and value.lease == lease:
                        await anyio.sleep(0.01)
                # Nothing was different about it, so nobody was told.
                assert told(seen) == [("snapshot", "a"), ("snapshot", "gone"), ("deleted", "gone")]
            await until(lambda: told(seen)[3:] == [("deleted", "a")])


async def test_the_store_restarts_and_comes_late(own_etcd: EtcdServer, label: str) -> None:
    await to_thread.run_sync(own_etcd.stop)
    async with EtcdStore(own_etcd.address, label) as store, agent(own_etcd.address, label, state("a")) as stream:
        async with watched(store) as seen:
            await to_thread.run_sync(own_etcd.start)
            await until(lambda: told(seen) in ([("snapshot", "a")], [("created", "a")]))
            await to_thread.run_sync(own_etcd.kill)
            stream.tell(Change.CHANGED, state("a", mtu=1400))
            stream.tell(Change.CREATED, state("b"))
            await to_thread.run_sync(own_etcd.start)
            await until(lambda: len(seen) == 3)
            assert sorted(told(seen[1:])) == [("changed", "a"), ("created", "b")]
        states = await published(store, "a", "b")
        assert states[Name("a")].mtu == 1400


async def test_a_state_that_cannot_be_read_is_left_out(etcd: EtcdServer, label: str) -> None:
    prefix = status_prefix(label)
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        await client.txn(puts={key_of(prefix, "a"): encode_state_json(state("a")), key_of(prefix, "b"): b"{"})
        assert list(await store.states()) == ["a"]
        async with watched(store) as seen:
            await until(lambda: seen)
            await client.delete(key_of(prefix, "b"))
            await client.delete(key_of(prefix, "a"))
            await until(lambda: len(seen) == 2)
            assert told(seen) == [("snapshot", "a"), ("deleted", "a")]


async def test_cancelling_ends_within_its_time_without_a_store(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store, proxy_to(etcd.port) as proxy:
        async with agent(proxy.address, label, state("a")):
            await published(store, "a")
            proxy.swallow()
            began = anyio.current_time()
        assert anyio.current_time() - began < 2
        proxy.flow()


async def test_the_end_of_the_stream_takes_the_states_back(etcd: EtcdServer, label: str) -> None:
    stream = Stream()
    stream.tell(Change.SNAPSHOT, state("a"))

    async def end(tg: TaskGroup, store: EtcdStore) -> None:
        await published(store, "a")
        stream.end()
        tg.cancel_scope.deadline = anyio.current_time() + 5

    async with EtcdStore(etcd.address, label) as store, anyio.create_task_group() as tg:
        tg.start_soon(end, tg, store)
        await EtcdStatus(etcd.address, label).run(stream.events)
        assert await store.states() == {}
        stream.close()
