from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import to_thread
from etcd_server import EtcdServer, proxy_to, until

from ifagent.core.events import Declared, Event, SourceHealth, SourceRevision, SourceSnapshot
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.core.names import Name
from ifagent.core.namespace_ref import named
from ifagent.core.resources import interface_key
from ifagent.errors import InvalidSettings, SourceLost
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.keys import config_prefix, config_prefix_v3, key_of
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.backoff import Backoff
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.source import EtcdSource
from ifagent.stores.etcd.store import EtcdStore

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


def veth(name: str, peer: str, *, mtu: int = 0) -> Interface:
    return Interface(name=name, kind=Veth(peer_if_name=peer), enabled=True, mtu=mtu, namespace=named("ns1"))


class Told:
    """What a source emitted, each with the number of the loop's turn that it came in."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.turns: list[int] = []
        self.revision = 0
        self._turn = 0

    def emit(self, event: Event) -> None:
        if isinstance(event, SourceRevision):
            self.revision = event.revision
            return
        self.events.append(event)
        self.turns.append(self._turn)
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn += 1

    def health(self) -> list[SourceHealth]:
        return [event for event in self.events if isinstance(event, SourceHealth)]

    def snapshots(self) -> list[SourceSnapshot]:
        return [event for event in self.events if isinstance(event, SourceSnapshot)]


@asynccontextmanager
async def source(address: EtcdAddress, label: str) -> AsyncIterator[Told]:
    told = Told()
    async with anyio.create_task_group() as tg:
        tg.start_soon(EtcdSource(address, label).run, told.emit)
        yield told
        tg.cancel_scope.cancel()


async def test_snapshot_changes_and_removal(etcd: EtcdServer, label: str) -> None:
    prefix = config_prefix(label)
    a, b = veth("a", "b"), veth("b", "a")
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        revision = await store.put([a, b])
        await client.put(key_of(prefix, "broken"), b"{")
        await client.put(prefix, b"a key without a name")
        async with source(etcd.address, label) as told:
            await until(lambda: told.events)
            first = told.events[0]
            assert isinstance(first, SourceSnapshot)
            assert first.source == "etcd"
            assert {key.name: said.interface for key, said in first.declarations.items()} == {
                "a": a,
                "b": b,
                "broken": None,
            }
            assert first.declarations[interface_key(a.name)].revision == revision
            assert next(iter(first.declarations.values())).key.name == "a"

            changed = await store.put([veth("a", "b", mtu=1400)])
            await client.put(key_of(prefix, "broken"), b"\xff\xfe")
            assert await store.delete(["a", "b", "none"]) == {"a", "b"}
            await until(lambda: len(told.events) == 5)
            modified, broken, *gone = told.events[1:]
            assert isinstance(modified, Declared)
            assert modified.declaration
            assert modified.declaration.revision == changed
            assert modified.declaration.interface == veth("a", "b", mtu=1400)
            assert isinstance(broken, Declared)
            assert broken.declaration
            assert broken.declaration.errors
            assert gone == [
                Declared("etcd", interface_key(a.name), None),
                Declared("etcd", interface_key(b.name), None),
            ]
            assert list(await store.declarations()) == ["broken"]


async def test_one_transaction_is_told_in_one_go(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store, source(etcd.address, label) as told:
        await until(lambda: told.events)
        names = [f"v{number}" for number in range(100)]
        await store.put(veth(name, "peer") for name in names)
        await until(lambda: len(told.events) == 101)
        assert len(set(told.turns[1:])) == 1
        await store.delete(names)
        await until(lambda: len(told.events) == 201)
        assert len(set(told.turns[101:])) == 1


async def test_a_transaction_over_both_families_is_told_in_one_go(etcd: EtcdServer, label: str) -> None:
    v1, v3 = config_prefix(label), config_prefix_v3(label)
    a, b = veth("a", "b"), veth("b", "a")
    between = f"/vnf-agent/{label}/config/vpp/v2/interfaces/loop0".encode()
    async with EtcdClient(etcd.address) as client:
        await client.put(between, b"somebody else's")
        async with source(etcd.address, label) as told:
            await until(lambda: told.events)
            assert told.snapshots() == [SourceSnapshot("etcd", {})]
            await client.txn(
                puts={
                    key_of(v1, "a"): ligato_v1.encode(a),
                    between: b"changed",
                    key_of(v3, "b"): ligato_v3.encode(b),
                    key_of(v3, "a"): ligato_v3.encode(veth("a", "b", mtu=1300)),
                }
            )
            await until(lambda: len(told.events) == 3)
            await client.put(between, b"changed again")
            await client.txn(deletes=[key_of(v3, "a"), key_of(v3, "b")])
            await until(lambda: len(told.events) == 5)
    assert told.turns[1] == told.turns[2] < told.turns[3] == told.turns[4]
    declared = [event for event in told.events if isinstance(event, Declared)]
    said = [(event.key.name, event.declaration and event.declaration.interface) for event in declared]
    assert said == [("a", veth("a", "b", mtu=1300)), ("b", b), ("a", a), ("b", None)]
    warnings = [event.declaration.warnings for event in declared if event.declaration]
    assert warnings == [(f"is also declared under {v1.decode()}a, the ligato v3 value takes precedence",), (), ()]


async def test_the_store_lists_and_deletes_both_families(etcd: EtcdServer, label: str) -> None:
    v3 = config_prefix_v3(label)
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        await store.put([veth("a", "b"), veth("b", "a", mtu=1400)])
        await client.put(key_of(v3, "a"), b"{")
        await client.put(key_of(v3, "0"), ligato_v3.encode(veth("0", "b")))
        listed = await store.declarations()
        assert list(listed) == ["0", "a", "b"]
        assert {name: said.interface for name, said in listed.items()} == {
            "0": veth("0", "b"),
            "a": None,
            "b": veth("b", "a", mtu=1400),
        }
        assert "linux/config/v1/interface/a" in listed[Name("a")].warnings[0]
        assert await store.delete(["a", "0", "none"]) == {"a", "0"}
        assert list(await store.declarations()) == ["b"]


async def test_health_is_told_once_each(etcd: EtcdServer, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    following = Backoff.next

    def noted(self: Backoff) -> float:
        attempts.append(following(self))
        return attempts[-1]

    monkeypatch.setattr(Backoff, "next", noted)
    async with (
        EtcdStore(etcd.address, label) as store,
        proxy_to(etcd.port) as proxy,
        source(proxy.address, label) as told,
    ):
        await until(lambda: told.events)
        await proxy.refuse()
        await until(told.health)
        await store.put([veth("a", "b")])
        await until(lambda: len(attempts) >= 4)
        assert len(told.health()) == 1
        assert "connection" in told.health()[0].problem
        await proxy.accept()
        await until(lambda: len(told.health()) > 1)
        assert isinstance(told.events[-2], Declared)
        assert told.health()[1:] == [SourceHealth("etcd")]
        assert len(told.snapshots()) == 1


async def test_a_store_that_comes_late(own_etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(own_etcd.address, label) as store:
        await store.put([veth("a", "b")])
        await to_thread.run_sync(own_etcd.stop)
        async with source(own_etcd.address, label) as told:
            await until(lambda: told.events)
            assert told.health()[0].problem
            with pytest.raises(SourceLost):
                await store.declarations()
            await to_thread.run_sync(own_etcd.start)
            await until(told.snapshots)
            assert list(told.snapshots()[0].declarations) == [interface_key("a")]
            await until(lambda: told.events[-1] == SourceHealth("etcd"))


def test_a_label_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(InvalidSettings):
        EtcdSource(EtcdAddress.parse("etcd://localhost"), "a/b")
