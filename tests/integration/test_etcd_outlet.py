from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from agent_view import FakeAgent, statistics
from anyio import to_thread
from etcd_server import EtcdServer, proxy_to, until

from ifagent.core.names import Name
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.formats.keys import health_key, key_of, status_prefix
from ifagent.formats.state import decode_state, encode_state_json
from ifagent.statistics import SourceStatistics, Statistics
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.lock import Timings
from ifagent.stores.etcd.outlet import EtcdOutlet
from ifagent.stores.etcd.store import EtcdStore

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


@asynccontextmanager
async def agent(
    address: EtcdAddress,
    label: str,
    *states: InterfaceState,
    ttl: float = 10.0,
    how: Callable[[], Statistics] = statistics,
    timings: Timings = Timings(),  # noqa: B008 frozen
) -> AsyncIterator[FakeAgent]:
    """Publish what the test has the agent say; leaving it is a clean shutdown."""
    view = FakeAgent(*states, how=how)
    status = EtcdOutlet(address, label, ttl=ttl, timings=timings)
    async with anyio.create_task_group() as tg:
        tg.start_soon(status.run, view)
        yield view
        tg.cancel_scope.cancel()


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
    states: dict[Name, InterfaceState] | None = None
    with anyio.move_on_after(10):
        while (states := await store.states()).keys() != set(names):
            await anyio.sleep(0.01)
    assert states is not None
    assert states.keys() == set(names)
    return states


async def test_states_are_published_changed_and_taken_back(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store:
        async with agent(etcd.address, label, state("a"), state("b")) as stream:
            states = await published(store, "a", "b")
            assert states[Name("a")] == state("a")
            async with watched(store) as seen:
                await until(lambda: len(seen) == 2)
                stream.say(state("a", mtu=1400))
                await until(lambda: len(seen) == 3)
                stream.take_back("b")
                stream.say(state("c"))
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
            stream.say(state("a", mtu=mtu))
        for number in range(50):
            stream.say(state(f"b{number}"))
        states = await published(store, "a", *(f"b{number}" for number in range(50)))
        assert states[Name("a")].mtu == 1099
        # The very first change may have been written before the others came.
        assert len(writes) <= 2
        assert writes[-1] >= 50
        writes.clear()
        stream.say(state("a", mtu=1099))
        stream.say(state("last"))
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


async def test_states_are_written_while_keys_of_others_are_deleted(etcd: EtcdServer, label: str) -> None:
    prefix, many = status_prefix(label), 12_000
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:

        async def mtu() -> int | None:
            value = await client.get(key_of(prefix, "a"))
            return decode_state(value.data).mtu if value else None

        junk = [key_of(prefix, f"junk{number}") for number in range(many)]
        for start in range(0, many, 100):
            await client.txn(puts=dict.fromkeys(junk[start : start + 100], b"{}"))
        async with agent(etcd.address, label, state("a", mtu=1299)) as stream:
            with anyio.fail_after(20):
                for wanted in range(1299, 1305):
                    while await mtu() != wanted:
                        await anyio.sleep(0.001)
                    stream.say(state("a", mtu=wanted + 1))
            assert await client.count(prefix) > 1, "states are not kept waiting until everything is deleted"
            with anyio.fail_after(30):
                while await client.count(prefix) > 1:
                    await anyio.sleep(0.01)
            assert (await published(store, "a"))[Name("a")].mtu == 1305


async def test_the_store_restarts_and_comes_late(own_etcd: EtcdServer, label: str) -> None:
    await to_thread.run_sync(own_etcd.stop)
    async with EtcdStore(own_etcd.address, label) as store, agent(own_etcd.address, label, state("a")) as stream:
        async with watched(store) as seen:
            await to_thread.run_sync(own_etcd.start)
            await until(lambda: told(seen) in ([("snapshot", "a")], [("created", "a")]))
            await to_thread.run_sync(own_etcd.kill)
            stream.say(state("a", mtu=1400))
            stream.say(state("b"))
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


def transactions(etcd: EtcdServer, label: str, *, since: int) -> set[int]:
    """Return the revisions in which states of one agent were written; others, and their leases, count in between."""
    answer = json.loads(etcd.ctl("get", "--prefix", f"/vnf-agent/{label}/linux/status/", "--write-out=json"))
    return {int(kv["mod_revision"]) for kv in answer["kvs"] if int(kv["mod_revision"]) > since}


async def test_a_burst_of_1000_changes_is_few_transactions(etcd: EtcdServer, label: str) -> None:
    names = [f"i{number}" for number in range(1000)]
    async with EtcdStore(etcd.address, label) as store, agent(etcd.address, label, state("first")) as stream:
        await published(store, "first")
        for mtu in (1400, 1300):
            before = etcd.revision()
            began = anyio.current_time()
            stream.say(*(state(name, mtu=mtu) for name in names))
            with anyio.fail_after(10):
                while any(one.mtu != mtu for one in await told_of(store, names)):
                    await anyio.sleep(0.01)
            assert anyio.current_time() - began < 5
            # A transaction holds 128 of them.
            assert len(transactions(etcd, label, since=before)) <= 9
        before = etcd.revision()
        stream.say(*(state(name, mtu=1300) for name in names))
        stream.say(state("last"))
        await published(store, "first", "last", *names)
        assert len(transactions(etcd, label, since=before)) == 1, "what is there already was written again"


async def told_of(store: EtcdStore, names: list[str]) -> list[InterfaceState]:
    """Return the states with these names, once all are there."""
    states = await store.states()
    return [states.get(Name(name), state(name, mtu=0)) for name in names]


async def test_many_changes_of_one_interface_are_not_each_written(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store, agent(etcd.address, label, state("a")) as stream:
        await published(store, "a")
        before, began = etcd.revision(), anyio.current_time()
        for mtu in range(1000, 2000):
            stream.say(state("a", mtu=mtu))
            await anyio.sleep(0.001)
        with anyio.fail_after(5):
            while (await store.states())[Name("a")].mtu != 1999:
                await anyio.sleep(0.01)
        # One at the beginning, one every 50 ms.
        assert etcd.revision() - before <= 2 + (anyio.current_time() - began) / 0.05


async def test_no_state_is_older_than_a_second(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store, agent(etcd.address, label, state("a")) as stream:
        await published(store, "a")
        async with watched(store) as seen:
            await until(lambda: seen)
            for mtu in range(1000, 1020):
                said_at = anyio.current_time()
                stream.say(state("a", mtu=mtu))
                with anyio.fail_after(5):
                    while seen[-1].state != state("a", mtu=mtu):
                        await anyio.sleep(0.001)
                assert anyio.current_time() - said_at < 1


# Health


class How:
    """How an agent is, as the test says."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.ended = False
        self.problem = ""

    def __call__(self) -> Statistics:
        source = SourceStatistics(name="etcd://a", synced=True, problem=self.problem)
        return statistics(source, ready=self.ready, ended=self.ended)


async def health(client: EtcdClient, label: str, **fields: object) -> dict[str, Any]:
    """Wait until the health has these fields, with ``None`` for one that is left out."""
    found: dict[str, Any] = {}
    with anyio.move_on_after(15):
        while not found or any(found.get(key) != value for key, value in fields.items()):
            await anyio.sleep(0.01)
            value = await client.get(health_key(label))
            found = json.loads(value.data) if value else {}
    assert found, "no health is published"
    assert {key: found.get(key) for key in fields} == fields
    return found


async def test_health_is_told_as_ligato_tells_it(etcd: EtcdServer, label: str) -> None:
    assert health_key(label).decode() == f"/vnf-agent/{label}/check/status/v1/agent"
    how, began = How(ready=False), int(time.time())
    async with EtcdClient(etcd.address) as client:
        async with agent(etcd.address, label, how=how):
            first = await health(client, label)
            # Zero is left out: INIT.
            assert first.keys() == {"build_version", "start_time", "last_change", "last_update"}
            assert began <= first["start_time"] == first["last_change"] <= time.time()
            how.ready = True
            ok = await health(client, label, state=1)
            assert ok["start_time"] == first["start_time"]
            assert ok["last_change"] >= first["last_change"]
            how.problem = "connection refused"
            bad = await health(client, label, state=2)
            assert bad["problems"] == ["etcd://a: connection refused"]
            how.problem = ""
            assert "problems" not in await health(client, label, state=1)
            how.ended = True
            assert (await health(client, label, state=2))["problems"] == ["the agent has ended"]
        assert await client.get(health_key(label)) is None, "it goes with the agent"


async def test_health_is_written_when_it_changes_and_at_intervals(etcd: EtcdServer, label: str) -> None:
    timings = Timings(health_poll=0.01, heartbeat=1.5)
    async with EtcdClient(etcd.address) as client, agent(etcd.address, label, how=How(), timings=timings):
        first = await health(client, label, state=1)
        before, began = etcd.revision(), time.monotonic()
        with anyio.fail_after(15):
            while (now := await health(client, label, state=1))["last_update"] < first["last_update"] + 2:
                await anyio.sleep(0.01)
        assert 1 <= etcd.revision() - before <= 1 + (time.monotonic() - began) / 1.5
        assert now["last_change"] == first["last_change"]


async def test_health_goes_with_the_lease_of_an_agent_that_died(etcd: EtcdServer, label: str) -> None:
    async with (
        EtcdClient(etcd.address) as client,
        proxy_to(etcd.port) as proxy,
        agent(proxy.address, label, ttl=2, how=How()),
    ):
        await health(client, label, state=1)
        await proxy.refuse()
        with anyio.move_on_after(10):
            while await client.get(health_key(label)):
                await anyio.sleep(0.01)
        assert await client.get(health_key(label)) is None
        await proxy.accept()
        await health(client, label, state=1)


async def test_what_an_earlier_agent_published_stays_until_there_is_something_to_say(
    etcd: EtcdServer, label: str
) -> None:
    """An agent that is not ready yet knows nothing of interfaces, which is no reason to say that there are none."""
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        await client.put(key_of(status_prefix(label), "a"), encode_state_json(state("a")))
        await client.put(key_of(status_prefix(label), "gone"), encode_state_json(state("gone")))
        view = FakeAgent(state("a"), how=How(ready=False), ready=False)
        status = EtcdOutlet(etcd.address, label)
        async with anyio.create_task_group() as tg:
            await tg.start(status.run, view)
            await health(client, label)
            assert list(await store.states()) == ["a", "gone"]
            view.ready.set()
            await published(store, "a")
            tg.cancel_scope.cancel()
