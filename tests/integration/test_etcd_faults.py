"""Whatever happens to the store: the last say stands, it is said once, and afterwards the index is what etcd has."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aetcd import rpc
from anyio import to_thread
from blackhole import HOLE, BlackHole
from certificates import Certificates
from etcd_edge import Attempts, Edge, change_much, edge_to, said, state, veth
from etcd_rights import USER, forget_tokens, grant, protect, revoke, signed_in
from etcd_server import EtcdServer, TcpProxy, proxy_to, running, running_cluster, until

from ifagent.core.events import SourceHealth
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.store import EtcdStore
from ifagent.stores.etcd.watcher import WatchStream

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.timeout(120)]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return Attempts(monkeypatch, longest=0.4)


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ifagent")


@pytest.fixture
async def proxy(etcd: EtcdServer) -> AsyncIterator[TcpProxy]:
    async with proxy_to(etcd.port) as one:
        yield one


def told_once(edge: Edge, caplog: pytest.LogCaptureFixture, *signs: str) -> None:
    """Check that the loss was told once and the return once, in words."""
    assert len(edge.health) == 2, edge.health
    assert edge.health[1] == SourceHealth("etcd")
    # Which of its words grpc uses for a connection that ends depends on what it was about to do.
    signs = (*signs, "Broken pipe") if "connection" in signs else signs
    assert any(sign in edge.health[0].problem for sign in signs), edge.health
    assert said(caplog, "lost connection to the store") == said(caplog, "reconnected to the store") == 1
    assert said(caplog, "cannot publish states") <= 1


async def keeps_the_last_say(edge: Edge, *, within: float = 10.0) -> None:
    """Wait until the loss is told; what was heard stands, and states change meanwhile."""
    await until(lambda: edge.lost, within=within)
    assert edge.heard == {"a", "b", "c"}
    edge.tell(state("b", mtu=1400))
    edge.tell(state("new"))
    edge.take_back("c")


@pytest.mark.parametrize("end", [EtcdServer.stop, EtcdServer.kill])
async def test_stopped_for_long_and_restarted_with_its_data(
    own_etcd: EtcdServer,
    label: str,
    attempts: Attempts,
    caplog: pytest.LogCaptureFixture,
    end: Callable[[EtcdServer], None],
) -> None:
    async with (
        EtcdStore(own_etcd.address, label) as store,
        edge_to(attempts.impatient(own_etcd.address), label, store) as edge,
    ):
        await to_thread.run_sync(end, own_etcd)
        await keeps_the_last_say(edge)
        await attempts.until_slow()
        assert edge.heard == {"a", "b", "c"}
        await to_thread.run_sync(own_etcd.start)
        await change_much(store)
        await edge.until_same_as(store)
        assert edge.heard == {"b", "c", "d"}
        told_once(edge, caplog, "connection")


async def test_absent_at_first(
    own_etcd: EtcdServer, label: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    async with EtcdStore(own_etcd.address, label) as store:
        await change_much(store)
        await to_thread.run_sync(own_etcd.stop)
        edge = Edge(attempts.impatient(own_etcd.address), label)
        edge.tell(state("b"))
        async with anyio.create_task_group() as tg:
            tg.start_soon(edge.run)
            await attempts.until_slow()
            assert not edge.index.synced
            await to_thread.run_sync(own_etcd.start)
            await edge.until_same_as(store)
            assert edge.heard == {"b", "c", "d"}
            told_once(edge, caplog, "connection refused")
            tg.cancel_scope.cancel()


async def test_connections_reset_again_and_again(
    etcd: EtcdServer, proxy: TcpProxy, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with EtcdStore(etcd.address, label) as store, edge_to(proxy.address, label, store) as edge:
        for number in range(10):
            proxy.reset()
            await store.put([veth("a", mtu=1000 + number)])
            await store.delete([f"x{number - 1}"])
            await store.put([veth(f"x{number}")])
            edge.tell(state("a", mtu=1000 + number))
            if number % 3 == 0:
                await edge.until_same_as(store)
        await edge.until_same_as(store)
        assert edge.heard == {"a", "b", "c", "x9"}
        problems = [one for one in edge.health if one.problem]
        assert len(problems) == said(caplog, "lost connection to the store") <= 10


async def test_refused_with_resets(
    etcd: EtcdServer, proxy: TcpProxy, label: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EtcdStore(etcd.address, label) as store,
        edge_to(attempts.impatient(proxy.address), label, store) as edge,
    ):
        await proxy.refuse()
        await keeps_the_last_say(edge)
        await change_much(store)
        await attempts.until_slow()
        assert edge.heard == {"a", "b", "c"}
        await proxy.accept()
        await edge.until_same_as(store)
        told_once(edge, caplog, "connection")


async def test_a_connection_that_swallows_everything(
    etcd: EtcdServer, proxy: TcpProxy, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with EtcdStore(etcd.address, label) as store, edge_to(proxy.address, label, store) as edge:
        proxy.swallow()
        await keeps_the_last_say(edge, within=10)
        await change_much(store)
        assert edge.heard == {"a", "b", "c"}
        proxy.flow()
        await edge.until_same_as(store)
        told_once(edge, caplog, "no sign of life", "no answer", "connection")


@pytest.fixture
def holed_etcd(tmp_path: Path) -> Iterator[tuple[EtcdServer, BlackHole]]:
    with BlackHole() as hole, running(tmp_path, hosts=("127.0.0.1", HOLE)) as server:
        yield server, hole


@pytest.mark.kernel
async def test_a_black_hole_is_noticed_within_10_s(
    holed_etcd: tuple[EtcdServer, BlackHole], label: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    server, hole = holed_etcd
    through = EtcdAddress.parse(f"etcd://{HOLE}:{server.port}")
    async with EtcdStore(server.address, label) as store, edge_to(attempts.impatient(through), label, store) as edge:
        hole.close()
        began = time.monotonic()
        await keeps_the_last_say(edge, within=10)
        assert time.monotonic() - began < 10
        await change_much(store)
        await attempts.until_slow()
        assert edge.heard == {"a", "b", "c"}
        hole.open()
        await edge.until_same_as(store)
        told_once(edge, caplog, "no sign of life", "no answer", "connection", "timed out", "unreachable")


async def test_compacted_while_disconnected(
    etcd: EtcdServer, proxy: TcpProxy, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with EtcdStore(etcd.address, label) as store, edge_to(proxy.address, label, store) as edge:
        await proxy.refuse()
        await keeps_the_last_say(edge)
        await change_much(store)
        revision = await store.put([veth("b", mtu=1300)])
        await to_thread.run_sync(lambda: etcd.ctl("compact", str(revision)))
        await proxy.accept()
        await edge.until_same_as(store)
        assert edge.heard == {"b", "c", "d"}
        told_once(edge, caplog, "connection")
        # It is followed from there.
        await store.put([veth("later")])
        await edge.until_same_as(store)


async def test_a_watch_cancelled_by_the_server(
    etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[WatchStream] = []
    opening = WatchStream._open

    async def noted(stream: WatchStream, route: Any) -> None:
        await opening(stream, route)
        streams.append(stream)

    monkeypatch.setattr(WatchStream, "_open", noted)
    async with EtcdStore(etcd.address, label) as store, edge_to(etcd.address, label, store) as edge:
        # The server ends the watch and leaves the stream open, as it does when it cancels one by itself.
        await streams[-1]._call.write(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=0)))
        await change_much(store)
        await edge.until_same_as(store)
        assert len(streams) == 2
        told_once(edge, caplog, "the server ended the watch")


@pytest.fixture
def jwt_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    made = Certificates(tmp_path / "pki").issue("tokens")
    options = f"--auth-token=jwt,pub-key={made.cert},priv-key={made.key},sign-method=ES256,ttl=1s"
    with running(tmp_path, options) as server:
        protect(server)
        yield server


async def test_tokens_that_expire(jwt_etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture) -> None:
    address = signed_in(jwt_etcd.address)
    async with (
        EtcdStore(address, label) as store,
        proxy_to(jwt_etcd.port) as proxy,
        edge_to(proxy.before(address), label, store) as edge,
    ):
        expired = time.monotonic() + 1.5
        await until(lambda: time.monotonic() > expired)
        # The tokens of the watch and of the lease are no longer good.
        edge.tell(state("b", mtu=1400))
        await change_much(store)
        await edge.until_same_as(store)
        assert not edge.health
        proxy.reset()
        await until(lambda: len(edge.health) == 2)
        await store.put([veth("later")])
        await edge.until_same_as(store)
        told_once(edge, caplog, "connection")


async def test_tokens_that_the_server_forgot(
    own_etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd))
    address = signed_in(own_etcd.address)
    async with (
        EtcdStore(address, label) as store,
        proxy_to(own_etcd.port) as proxy,
        edge_to(proxy.before(address), label, store) as edge,
    ):
        await to_thread.run_sync(lambda: forget_tokens(own_etcd))
        edge.tell(state("b", mtu=1400))
        proxy.reset()
        await change_much(store)
        await edge.until_same_as(store)
        told_once(edge, caplog, "connection")


async def test_permission_taken_away_and_given_back(
    own_etcd: EtcdServer, label: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd, prefix="/vnf-agent/"))
    await to_thread.run_sync(lambda: _second_user(own_etcd))
    address = signed_in(own_etcd.address)
    async with (
        EtcdStore(signed_in(own_etcd.address, user="agent2"), label) as store,
        proxy_to(own_etcd.port) as proxy,
        edge_to(attempts.impatient(proxy.before(address)), label, store) as edge,
    ):
        await to_thread.run_sync(lambda: revoke(own_etcd, prefix="/vnf-agent/"))
        # etcd looks at the rights when a watch is opened.
        proxy.reset()
        await keeps_the_last_say(edge)
        await change_much(store)
        await attempts.until_slow()
        assert edge.heard == {"a", "b", "c"}
        await to_thread.run_sync(lambda: grant(own_etcd, prefix="/vnf-agent/"))
        await edge.until_same_as(store)
        told_once(edge, caplog, "connection", "permission denied")


def _second_user(server: EtcdServer) -> None:
    """Make a user whose rights stay."""
    server.ctl("role", "add", "stays")
    grant(server, role="stays")
    server.ctl("user", "add", "agent2", "--interactive=false", given=f"{USER}\n".encode())
    server.ctl("user", "grant-role", "agent2", "stays")


async def test_all_members_but_one_lost_and_back(
    tmp_path: Path, label: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    with running_cluster(tmp_path) as members:
        everybody = EtcdAddress(endpoints=tuple(one.address.endpoints[0] for one in members))
        async with EtcdStore(everybody, label) as store, edge_to(attempts.impatient(everybody), label, store) as edge:
            for one in members[:2]:
                await to_thread.run_sync(one.kill)
            await keeps_the_last_say(edge)
            await attempts.until_slow()
            assert edge.heard == {"a", "b", "c"}
            for one in members[:2]:
                await to_thread.run_sync(lambda one=one: one.start(wait=False))  # type: ignore[misc]
            for one in members[:2]:
                await to_thread.run_sync(one.wait)
            await change_much(store)
            await edge.until_same_as(store)
            told_once(edge, caplog, "no leader", "connection", "no answer", "no sign of life", "leader changed")


async def test_any_one_member_lost(tmp_path: Path, label: str) -> None:
    with running_cluster(tmp_path) as members:
        everybody = EtcdAddress(endpoints=tuple(one.address.endpoints[0] for one in members))
        async with EtcdStore(everybody, label) as store, edge_to(everybody, label, store) as edge:
            for number, one in enumerate(members):
                await to_thread.run_sync(one.kill)
                await until_written(store, number)
                await edge.until_same_as(store)
                await to_thread.run_sync(one.start)


async def until_written(store: EtcdStore, number: int) -> None:
    """Write something while a new leader is elected."""
    with anyio.fail_after(15):
        while True:
            try:
                await store.put([veth("a", mtu=1000 + number)])
            except Exception:  # noqa: BLE001 whatever is said until there is a leader
                await anyio.sleep(0.05)
            else:
                return


@pytest.mark.kernel
async def test_the_black_hole_is_one() -> None:
    """Check the tool: no packet goes through, in the middle of a connection either."""
    with BlackHole() as hole:
        answers = ["ping", "-c1", "-W1", HOLE]
        assert subprocess.run(answers, capture_output=True, check=False).returncode == 0
        hole.close()
        assert subprocess.run(answers, capture_output=True, check=False).returncode != 0
        hole.open()
        assert subprocess.run(answers, capture_output=True, check=False).returncode == 0
