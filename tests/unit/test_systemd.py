"""What a service manager hears, over a real datagram socket, and HTTP as an option of the service."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import click
import pytest
from aiohttp import ClientSession
from click.testing import CliRunner
from etcd_server import free_port
from world import veth

from ifagent import Agent, Memory, Settings
from ifagent.cli.app import app
from ifagent.cli.run import command as run
from ifagent.cli.run import serve
from ifagent.cli.systemd import notify, run_notify, summary, watchdog_interval
from ifagent.core.state import DECLARED_STATES, ConfigState
from ifagent.errors import InvalidSettings
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.statistics import STALL, SourceStatistics, Statistics

pytestmark = pytest.mark.anyio

A, B = veth("a", "b", enabled=True), veth("b", "a", enabled=True)


class Manager:
    """A service manager: a datagram socket that a thread reads, whatever the loop does."""

    def __init__(self, path: Path) -> None:
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.02)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                self.heard.append((time.monotonic(), self._socket.recv(1000).decode()))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def count(self, message: str, since: float = 0.0) -> int:
        return sum(text == message and moment >= since for moment, text in self.heard)

    async def until(self, wanted: Callable[[], bool]) -> None:
        with anyio.move_on_after(5):
            while not wanted():
                await anyio.sleep(0.005)
        assert wanted(), self.heard


notified = partial(run_notify, status_interval=0.01)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield manager
    manager.close()


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    async with Agent.open(kernel=SimulatedKernel(), sources=[Memory([A, B])]) as agent:
        yield agent


async def test_the_watchdog_is_fed_at_half_of_its_interval(manager: Manager, agent: Agent) -> None:
    started = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(notified, agent.statistics)
        await manager.until(lambda: manager.count("WATCHDOG=1") >= 5)
        group.cancel_scope.cancel()
    assert time.monotonic() - started >= 4 * 0.05, "the first comes at once, the others not before their time"


async def test_the_watchdog_starves_while_the_loop_is_blocked(manager: Manager, agent: Agent) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(notified, agent.statistics)
        await manager.until(lambda: manager.count("WATCHDOG=1") > 0)
        before = time.monotonic()
        blocked = threading.Event()
        blocked.wait(0.3)  # on the loop
        assert manager.count("WATCHDOG=1", since=before + 0.05) == 0
        await manager.until(lambda: manager.count("WATCHDOG=1", since=before + 0.3) > 0)
        group.cancel_scope.cancel()


async def test_the_watchdog_starves_while_a_round_hangs(manager: Manager, agent: Agent) -> None:
    hangs, calls = False, 0

    def statistics() -> Statistics:
        nonlocal calls
        calls += 1
        return replace(agent.statistics(), stalled_for=STALL + 1 if hangs else 0.0)

    async with anyio.create_task_group() as group:
        group.start_soon(notified, statistics)
        await manager.until(lambda: manager.count("WATCHDOG=1") > 0)
        hangs = True
        await manager.until(lambda: manager.count("STATUS=reconciliation stalled for 61 s") > 0)
        fed = manager.count("WATCHDOG=1")
        asked = calls
        await manager.until(lambda: calls > asked + 30)  # by the watchdog at least five times
        assert manager.count("WATCHDOG=1") == fed
        hangs = False
        await manager.until(lambda: manager.count("WATCHDOG=1") > fed)
        group.cancel_scope.cancel()


async def test_the_status_is_told_when_it_changes(manager: Manager, agent: Agent) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(notified, agent.statistics)
        await manager.until(lambda: manager.count("STATUS=2 applied") == 1)
        await agent.configure(veth("lonely", "nobody"))
        await manager.until(lambda: manager.count("STATUS=2 applied, 1 pending") == 1)
        await agent.delete("lonely")
        await manager.until(lambda: manager.count("STATUS=2 applied") == 2)
        group.cancel_scope.cancel()
    assert len([text for _, text in manager.heard if text.startswith("STATUS=")]) == 3


async def test_a_manager_that_does_not_read_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        for _ in range(2000):  # its queue holds some hundred at most
            notify("WATCHDOG=1", wait=False)
        started = time.monotonic()
        notify("STOPPING=1")
        assert time.monotonic() - started < 10, "the end waits for nobody for good"


async def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch, agent: Agent) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    with anyio.fail_after(5):
        await run_notify(agent.statistics)


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("30000000", str(os.getpid()), 30.0),
        ("30000000", "", 30.0),
        ("30000000", str(os.getpid() + 1), None),
        ("0", "", None),
        ("", "", None),
        ("soon", "", None),
        ("-1", "", None),
    ],
)
def test_whether_there_is_a_watchdog(
    microseconds: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval() == seconds


async def test_the_status_in_words(agent: Agent) -> None:
    now = agent.statistics()
    assert summary(now) == "2 applied"
    assert summary(replace(now, interfaces=dict.fromkeys(DECLARED_STATES, 0))) == "no interfaces"
    states: dict[ConfigState, int] = dict.fromkeys(DECLARED_STATES, 1)
    assert summary(replace(now, interfaces=states)) == "1 applied, 1 pending, 1 retrying, 1 failed, 1 invalid"
    lost = SourceStatistics(name="etcd://h", synced=True, problem="refused\nby h")
    assert summary(replace(now, sources=(lost,))) == "2 applied; no connection to etcd://h (refused by h)"
    silent = replace(lost, synced=False)
    assert summary(replace(now, ready=False, sources=(silent,))) == "waiting for etcd://h (refused by h)"
    assert summary(replace(now, ready=False)) == "initial reconciliation in progress"
    assert summary(replace(now, ended=True, ready=False)) == "the agent has ended"


async def test_the_service_answers_http_before_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    port = free_port()
    store = tmp_path / "store"
    store.write_text("[]")
    async with anyio.create_task_group() as group, ClientSession() as client:

        async def service() -> None:
            settings, kernel = Settings(label="lab"), SimulatedKernel()
            await serve(settings, [f"file:{store}"], tmp_path / "agent.sock", kernel, http=f"127.0.0.1:{port}")

        group.start_soon(service)
        await manager.until(lambda: manager.count("READY=1") == 1)
        async with client.get(f"http://127.0.0.1:{port}/readyz") as response:
            assert response.status == 200
        await manager.until(lambda: manager.count("WATCHDOG=1") > 0)
        assert any(text.startswith("STATUS=") for _, text in manager.heard)
        group.cancel_scope.cancel()
    with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
        probe.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--http", "0.0.0.0:9100"], "--http-public"),
        (["--http", "9100"], "is not a listen address"),
    ],
)
def test_what_cannot_be_listened_at_is_2_in_one_sentence(arguments: list[str], told: str, tmp_path: Path) -> None:
    common = ["run", "--store", f"file:{tmp_path}", "--socket", str(tmp_path / "agent.sock")]
    result = CliRunner().invoke(app, [*common, *arguments])
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("text", "http", "public"),
    [
        ('http = "127.0.0.1:1"', "127.0.0.1:1", False),
        ('http = "0.0.0.0:1"\nhttp-public = true', "0.0.0.0:1", True),
        ("http_public = false", None, False),
    ],
)
def test_http_in_a_file(text: str, http: str | None, public: bool, tmp_path: Path) -> None:
    assert options(text, tmp_path)["http"] == http
    assert options(text, tmp_path)["http_public"] is public


def test_only_flags_are_true_or_false_in_a_file(tmp_path: Path) -> None:
    for text in ("label = true", "http = true", "http_public = []", "http_public = {}"):
        with pytest.raises(InvalidSettings, match="invalid value for"):
            options(text, tmp_path)


def options(text: str, folder: Path) -> dict[str, Any]:
    """Return what ``ifagent run`` would be called with."""
    (folder / "c.toml").write_text(text)
    context: click.Context = run.make_context("run", ["--config", str(folder / "c.toml")])
    return context.params
