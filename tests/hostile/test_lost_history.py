"""Cases 01 and 29: a store whose history is gone is noticed at every return, and one that comes back empty is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from etcd_edge import veth
from etcd_server import EtcdServer, running, until
from lab import Lab, ip, lab_in, pair
from lab import until as until_blocking

from ifagent.core.events import Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key
from ifagent.stores.etcd.source import EtcdSource
from ifagent.stores.etcd.store import EtcdStore

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.timeout(120)]

LABEL = "history"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EtcdServer]:
    with running(tmp_path) as server:
        yield server


class Told:
    """What is declared, as a source has told it, and its problems."""

    def __init__(self) -> None:
        self.mtus: dict[str, int] = {}
        self.health: list[str] = []

    def emit(self, event: Event) -> None:
        match event:
            case SourceSnapshot():
                self.mtus = {n.name: d.interface.mtu for n, d in event.declarations.items() if d.interface}
            case Declared(_, Key(name=name), None):
                self.mtus.pop(name)
            case Declared(_, Key(name=name), declaration):
                assert declaration
                assert declaration.interface
                self.mtus[name] = declaration.interface.mtu
            case SourceHealth():
                self.health.append(event.problem)


@asynccontextmanager
async def heard(store: EtcdServer) -> AsyncIterator[Told]:
    told = Told()
    async with anyio.create_task_group() as tg:
        tg.start_soon(EtcdSource(store.address, LABEL).run, told.emit)
        yield told
        tg.cancel_scope.cancel()


async def restored(store: EtcdServer, folder: Path) -> None:
    """Have the store be the one that the snapshot in ``folder`` was made of."""
    await to_thread.run_sync(store.kill)
    store.forget()
    await to_thread.run_sync(
        lambda: store.ctl(
            *("snapshot", "restore", str(folder / "snapshot"), "--data-dir", str(store.folder / "data")),
            *("--name", store.name, "--initial-cluster", f"{store.name}={store._peer}"),
            *("--initial-advertise-peer-urls", store._peer),
        )
    )
    await to_thread.run_sync(store.start)


@pytest.mark.parametrize("others", [0, 40])
async def test_a_store_restored_from_a_backup(store: EtcdServer, tmp_path: Path, others: int) -> None:
    """Whether its revision is lower than the one that is known or, as others write again at once, higher."""
    async with EtcdStore(store.address, LABEL) as declared, heard(store) as told:
        await declared.put([veth("a", mtu=1400), veth("b", mtu=1400)])
        await until(lambda: told.mtus == {"a": 1400, "b": 1400})
        await to_thread.run_sync(lambda: store.ctl("snapshot", "save", str(tmp_path / "snapshot")))
        await declared.put([veth("a", mtu=1410)])
        await declared.put([veth("c", mtu=1410)])
        await until(lambda: told.mtus == {"a": 1410, "b": 1400, "c": 1410})
        before = store.revision()

        def write() -> None:
            for number in range(others):
                store.ctl("put", f"/other/{number}", "x")

        await restored(store, tmp_path)
        await to_thread.run_sync(write)
        assert (store.revision() > before) is bool(others)
        await until(lambda: told.mtus == {"a": 1400, "b": 1400}, within=30)


async def test_other_content_at_the_same_revision(store: EtcdServer, tmp_path: Path) -> None:
    """The same keys are written again in the same order, with other values: nothing but the values is different."""
    async with EtcdStore(store.address, LABEL) as declared, heard(store) as told:
        await declared.put([veth("a", mtu=1400)])
        await to_thread.run_sync(lambda: store.ctl("snapshot", "save", str(tmp_path / "snapshot")))
        await declared.put([veth("a", mtu=1410)])
        await declared.put([veth("b", mtu=1410)])
        await until(lambda: told.mtus == {"a": 1410, "b": 1410})
        before = store.revision()
        await restored(store, tmp_path)
        await declared.put([veth("a", mtu=1420)])
        await declared.put([veth("b", mtu=1420)])
        assert store.revision() == before
        await until(lambda: told.mtus == {"a": 1420, "b": 1420}, within=30)


async def test_a_store_that_comes_back_empty_is_told(store: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "ifagent")
    async with EtcdStore(store.address, LABEL) as declared, heard(store) as told:
        await declared.put(veth(name) for name in "abcdefg")
        await until(lambda: len(told.mtus) == 7)
        await to_thread.run_sync(store.kill)
        store.forget()
        await to_thread.run_sync(store.start)
        await until(lambda: not told.mtus, within=30)
        await until(lambda: "before it had 7: a, b, c, d, e, ..." in told.health[-1])
        [warning] = [record.getMessage() for record in caplog.records if "come back empty" in record.getMessage()]
        assert "interfaces=7" in warning
        assert "an older state" in warning
        await declared.put([veth("a")])
        await until(lambda: told.health[-1] == "")


async def test_what_is_deleted_while_the_store_is_heard_is_no_news(
    store: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "ifagent")
    async with EtcdStore(store.address, LABEL) as declared, heard(store) as told:
        await declared.put([veth("a")])
        await until(lambda: told.mtus)
        await declared.delete(["a"])
        await until(lambda: not told.mtus)
    assert not told.health
    assert not caplog.records


@pytest.mark.kernel
def test_the_agent_does_what_the_restored_store_says(tmp_path: Path) -> None:
    """Case 01 as it was tried: the kernel becomes what the store says, and health tells of an empty one (case 29)."""
    (tmp_path / "etcd").mkdir()
    with running(tmp_path / "etcd") as store, lab_in(store, "restored", tmp_path) as lab:
        lab.put(*pair("a", "b", mtu=1400))
        lab.start_agent()
        lab.until_applied("a", "b")
        store.kill()
        store.forget()
        store.start()
        until_blocking(lambda: not lab.links(), within=30, what=lab.logs)
        health = f"/vnf-agent/{lab.label}/check/status/v1/agent"
        until_blocking(
            lambda: "nothing declared; before it had 2: a, b" in store.ctl("get", health, "--print-value-only"),
            within=30,
            what=lab.logs,
        )
        _back(lab)


def _back(lab: Lab) -> None:
    """Check that everything goes on as before."""
    lab.put(*pair("a", "b", mtu=1400))
    lab.until_applied("a", "b")
    assert json.loads(ip("-j", "link", "show", "a"))[0]["mtu"] == 1400
