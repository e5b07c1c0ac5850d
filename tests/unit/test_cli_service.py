"""The commands beside a running agent: the service in this process on a simulated kernel, clients as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from ifagent.agent_socket import fetch_states
from ifagent.cli.run import serve
from ifagent.cli.systemd import notify
from ifagent.errors import InvalidSettings, SourceLost
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.settings import Settings

pytestmark = pytest.mark.anyio

PAIR = """\
- {name: a, enabled: true, ip_addresses: [10.0.0.1/24], namespace: {type: NAMED_NS, name: ns1}, veth: {peer_if_name: b}}
- {name: b, enabled: true, namespace: {type: NAMED_NS, name: ns2}, veth: {peer_if_name: a}}
"""


class Lab:
    """One agent's place, and the command as a process that is told of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.socket = directory / "agent.sock"
        self.kernel = SimulatedKernel()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("IFAGENT_")} | {
            "IFAGENT_STORE": f"file:{self.store}",
            "IFAGENT_SOCKET": str(self.socket),
        }

    def file(self, text: str) -> str:
        path = self.directory / "in.yaml"
        path.write_text(text)
        return str(path)

    async def serve(self, **options: Any) -> None:
        stores = options.pop("stores", [f"file:{self.store}"])
        await serve(Settings(label="lab"), stores, self.socket, self.kernel, **options)

    async def ifagent(self, *arguments: str) -> CompletedProcess[bytes]:
        command = [sys.executable, "-m", "ifagent", *arguments]
        with anyio.fail_after(30):
            return await anyio.run_process(command, check=False, env=self.environment)

    @asynccontextmanager
    async def following(self, *arguments: str) -> AsyncIterator[tuple[Process, BufferedByteReceiveStream]]:
        command = [sys.executable, "-m", "ifagent", "watch", *arguments]
        async with await anyio.open_process(command, env=self.environment, stderr=PIPE) as process:
            try:
                assert process.stdout is not None
                with anyio.fail_after(30):
                    yield process, BufferedByteReceiveStream(process.stdout)
            finally:
                if process.returncode is None:
                    process.kill()


async def line(stream: BufferedByteReceiveStream) -> str:
    return (await stream.receive_until(b"\n", 100_000)).decode()


async def event(stream: BufferedByteReceiveStream) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await line(stream))
    return found


async def until_reached(path: Path) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                await fetch_states(path)
            except SourceLost:
                await anyio.sleep(0.01)
            else:
                return


async def until(manager: socket.socket, last: bytes) -> AsyncIterator[bytes]:
    """Yield what the service manager is told, up to a message."""
    message = b""
    with anyio.fail_after(5):
        while message != last:
            await anyio.wait_readable(manager)
            message = manager.recv(1000)
            yield message


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
async def served(lab: Lab) -> AsyncIterator[Lab]:
    async with anyio.create_task_group() as group:
        group.start_soon(lab.serve)
        await until_reached(lab.socket)
        yield lab
        group.cancel_scope.cancel()


async def test_apply_and_wait_then_states_get_delete(served: Lab) -> None:
    done = await served.ifagent("apply", served.file(PAIR), "--wait", "10")
    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode().splitlines()
    assert told[0] == "2 interfaces declared"
    assert any(line.startswith("a: APPLIED, a in ns1, veth, up, ifindex ") for line in told)
    assert served.kernel.snapshot().links_in("ns1")["a"].up

    states = json.loads((await served.ifagent("states", "--json")).stdout)
    assert [(state["name"], state["config_state"]) for state in states] == [("a", "APPLIED"), ("b", "APPLIED")]
    table = (await served.ifagent("states")).stdout.decode()
    assert table.splitlines()[1].split()[:3] == ["a", "APPLIED", "ns1"]

    [a, _] = json.loads((await served.ifagent("get", "--json")).stdout)
    assert a["desired"]["ip_addresses"] == a["state"]["ip_addresses"] == ["10.0.0.1/24"]
    assert a["state"]["applied_revision"] == a["revision"]

    done = await served.ifagent("delete", "a", "b")
    assert (done.returncode, done.stdout) == (0, b"a: deleted\nb: deleted\n")
    with anyio.fail_after(5):
        while await fetch_states(served.socket):
            await anyio.sleep(0.01)
    assert "a" not in served.kernel.snapshot().links_in("ns1")


async def test_apply_of_what_is_there_already_and_of_a_change(served: Lab) -> None:
    for text in (PAIR, PAIR, PAIR.replace("10.0.0.1", "10.0.0.2")):
        done = await served.ifagent("apply", served.file(text), "--wait", "10")
        assert done.returncode == 0, done.stderr
    states = await fetch_states(served.socket)
    assert [str(address) for address in states["a"].ip_addresses] == ["10.0.0.2/24"]


async def test_apply_and_wait_says_what_is_not_applied(served: Lab) -> None:
    text = PAIR + "- {name: lonely, veth: {peer_if_name: nobody}}\n"
    done = await served.ifagent("apply", served.file(text), "--wait", "0.5")
    assert done.returncode == 1
    told = done.stderr.decode().splitlines()
    assert told[0].startswith("lonely: PENDING, ")
    assert "nobody" in told[0]
    assert told[1] == "ifagent: not applied: lonely"


async def test_apply_does_not_wait_for_what_is_hopeless(served: Lab) -> None:
    text = "- {name: x, host_if_name: a, namespace: {type: 2, name: ns1}, veth: {peer_if_name: y}}\n"
    await served.ifagent("apply", served.file(PAIR), "--wait", "30")
    started = anyio.current_time()
    done = await served.ifagent("apply", served.file(text), "--wait", "300")
    assert anyio.current_time() - started < 30
    assert done.returncode == 1
    assert b"INVALID" in done.stderr


async def test_wait_is_0_when_applied_and_1_with_the_reason_when_not(served: Lab) -> None:
    await served.ifagent("apply", served.file(PAIR + "- {name: lonely, veth: {peer_if_name: nobody}}\n"))
    done = await served.ifagent("wait", "b", "a", "--timeout", "10")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(line.split(",")[0] for line in done.stdout.decode().splitlines()) == ["a: APPLIED", "b: APPLIED"]
    done = await served.ifagent("wait", "a", "lonely", "unknown", "--timeout", "0.5")
    assert done.returncode == 1
    told = done.stderr.decode().splitlines()
    assert told[0].startswith("lonely: PENDING, peer nobody ")
    assert told[1:] == ["unknown: not declared", "ifagent: not applied: lonely, unknown"]


async def test_watch_has_one_object_a_line(served: Lab) -> None:
    await served.ifagent("apply", served.file(PAIR), "--wait", "10")
    async with served.following("--json") as (process, stream):
        first = [await event(stream), await event(stream)]
        assert [one["seq"] for one in first] == [1, 2]
        assert {(one["event"], one["name"], one["state"]["config_state"]) for one in first} == {
            ("snapshot", "a", "APPLIED"),
            ("snapshot", "b", "APPLIED"),
        }
        await served.ifagent("apply", served.file("- {name: c, veth: {peer_if_name: d}}"))
        created = await event(stream)
        assert (created["seq"], created["event"], created["name"]) == (3, "created", "c")
        assert created["state"]["config_state"] == "PENDING"
        assert created["state"]["reason"]
        await served.ifagent("delete", "c")
        deleted = await event(stream)
        assert (deleted["seq"], deleted["event"], deleted["name"]) == (4, "deleted", "c")
        assert deleted["state"]["admin_status"] == 3
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert process.stderr is not None
        with pytest.raises(anyio.EndOfStream):
            await process.stderr.receive()


async def test_watch_for_people_ends_at_an_interrupt(served: Lab) -> None:
    await served.ifagent("apply", served.file("- {name: c, veth: {peer_if_name: d}}"))
    async with served.following() as (process, stream):
        text = await line(stream)
        assert " c: PENDING " in text
        assert "d" in text
        await served.ifagent("delete", "c")
        while "c: deleted" not in await line(stream):
            pass
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_watch_ends_when_nobody_reads_it(served: Lab) -> None:
    await served.ifagent("apply", served.file("- {name: c, veth: {peer_if_name: d}}"))
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "ifagent", "watch", "--json"]
    async with await anyio.open_process(command, env=served.environment, stdout=writing, stderr=PIPE) as process:
        os.close(writing)
        with anyio.fail_after(30):
            await anyio.wait_readable(reading)
            os.close(reading)  # while it has nothing to write
            assert await process.wait() == 0
            assert process.stderr is not None
            with pytest.raises(anyio.EndOfStream):
                await process.stderr.receive()


async def test_watch_survives_the_agent(lab: Lab) -> None:
    lab.store.mkdir()
    (lab.store / "a.yaml").write_text(PAIR)

    async def serve_until_cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await lab.serve()

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(serve_until_cancelled, scope)
        await until_reached(lab.socket)
        async with lab.following("--json") as (process, stream):
            assert process.stderr is not None
            while (await event(stream))["name"] != "b":
                pass
            scope.cancel()
            assert b"lost connection to the agent" in await process.stderr.receive()
            (lab.store / "a.yaml").write_text(PAIR.replace("10.0.0.1", "10.0.0.2"))
            lab.kernel = SimulatedKernel()
            group.start_soon(lab.serve)
            while (told := await event(stream))["state"]["ip_addresses"] != ["10.0.0.2/24"]:
                pass
            assert told["name"] == "a"
        group.cancel_scope.cancel()


async def test_the_service_ends_at_a_signal_and_the_links_stay(lab: Lab) -> None:
    lab.store.mkdir()
    (lab.store / "a.yaml").write_text(PAIR)
    for number in (signal.SIGTERM, signal.SIGINT):
        async with anyio.create_task_group() as group:
            group.start_soon(lab.serve)
            await until_reached(lab.socket)
            with anyio.fail_after(5):
                while (await fetch_states(lab.socket)).get("a") is None:
                    await anyio.sleep(0.01)
            os.kill(os.getpid(), number)
        assert not lab.socket.exists()
        assert lab.kernel.snapshot().links_in("ns1")["a"].up


async def test_a_service_manager_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.store.mkdir()
    address = lab.directory / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.setblocking(False)
        async with anyio.create_task_group() as group:
            group.start_soon(lab.serve)
            assert b"READY=1" in [message async for message in until(manager, b"READY=1")]
            group.cancel_scope.cancel()
        assert [message async for message in until(manager, b"STOPPING=1")][-1] == b"STOPPING=1"


def test_a_service_manager_in_the_abstract_namespace_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # the kernel chooses a name
        name = manager.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


async def test_a_second_agent_at_the_same_socket_is_refused(served: Lab) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await served.serve()
    assert caught.group_contains(InvalidSettings, match="another agent answers at")
    assert (await served.ifagent("states")).returncode == 0


async def test_several_stores_the_first_counts(lab: Lab) -> None:
    for name, address in (("one", "10.0.0.1"), ("two", "10.0.0.2")):
        (lab.directory / f"{name}.yaml").write_text(PAIR.replace("10.0.0.1", address))
    stores = [f"file:{lab.directory}/{name}.yaml" for name in ("two", "one")]
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: lab.serve(stores=stores))
        await until_reached(lab.socket)
        with anyio.fail_after(5):
            while not (state := (await fetch_states(lab.socket)).get("a")) or not state.ip_addresses:
                await anyio.sleep(0.01)
        assert [str(address) for address in state.ip_addresses] == ["10.0.0.2/24"]
        group.cancel_scope.cancel()
