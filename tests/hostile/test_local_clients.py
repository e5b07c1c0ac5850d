"""Programs at the local socket that flood it, say nothing or never read; and agents that want the same socket."""

from __future__ import annotations

import gc
import json
import socket
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from agent_view import FakeAgent
from anyio.lowlevel import checkpoint
from closed_connection import is_closed
from keyed import keyed
from watched import until_true

from ifagent.agent_socket import fetch_states
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.errors import InvalidSettings
from ifagent.outlets import unix_socket
from ifagent.outlets.local_socket import Limits, LocalSocket

pytestmark = pytest.mark.anyio

MANY = 10_000
USUAL = Limits()


def state(name: str, repairs: int = 0) -> InterfaceState:
    return InterfaceState(name=name, config_state=ConfigState.PENDING, reason="x" * 300, repairs=repairs)


def saying(count: int) -> FakeAgent:
    return FakeAgent(*(state(f"v{n}") for n in range(count)))


@asynccontextmanager
async def serving(agent: FakeAgent, path: Path, limits: Limits = USUAL) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        await group.start(LocalSocket(path, limits=limits).run, agent)
        yield
        group.cancel_scope.cancel()


@contextmanager
def connected(path: Path, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(first)
            clients.append(client)
        yield clients


@pytest.mark.parametrize("first", [b"", b'{"do":'], ids=["silent", "half a request"])
async def test_others_are_answered_whatever_is_left_open(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "agent.sock"
    async with serving(saying(1), path):
        for _ in range(2):
            with connected(path, USUAL.connections - 1, first):
                await anyio.sleep(0.05)
                asked = time.monotonic()
                assert list(await fetch_states(path)) == ["v0"]
                assert time.monotonic() - asked < USUAL.request_time / 2, "it waited until others were given up"


async def test_readers_that_do_not_read_are_let_go(tmp_path: Path) -> None:
    path, agent = tmp_path / "agent.sock", saying(MANY)
    async with serving(agent, path, Limits(send_time=0.2, watch_time=0.2)):
        for what in ("states", "watch"):
            with connected(path, 20, json.dumps({"do": what}).encode() + b"\n") as clients:
                await until_true(lambda clients=clients: all(map(is_closed, clients)), within=20)  # type: ignore[misc]
        assert len(await fetch_states(path)) == MANY
    assert agent.hub.readers == 0


@contextmanager
def without_garbage_of_other_tests() -> Iterator[None]:
    """Have the garbage collector pass over what was there before: it would take as long as what is measured."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("what", ["states", "watch"])
async def test_the_loop_has_its_turns_while_many_ask_for_everything(tmp_path: Path, what: str) -> None:
    path, longest = tmp_path / "agent.sock", 0.0
    async with serving(saying(MANY), path):
        request = json.dumps({"do": what}).encode() + b"\n"
        with connected(path, 10, request) as clients, without_garbage_of_other_tests():

            def read() -> None:
                for client in clients:
                    received = b""
                    while b'{"done":true}' not in received and b'"listed"' not in received:
                        received = received[-100:] + client.recv(1 << 20)

            async with anyio.create_task_group() as group:
                done = anyio.Event()

                async def reading() -> None:
                    await anyio.to_thread.run_sync(read)
                    done.set()

                group.start_soon(reading)
                while not done.is_set():
                    worked = time.thread_time()
                    await anyio.sleep(0.001)
                    longest = max(longest, time.thread_time() - worked)
    assert longest < 0.18, "all states were made at once"


async def test_long_states_are_made_a_few_at_a_time(tmp_path: Path) -> None:
    path, longest, done = tmp_path / "agent.sock", 0.0, False
    many = tuple(ip_interface(f"10.{n >> 8}.{n & 255}.1/24") for n in range(1000))
    agent = saying(0)
    agent.hub.publish(keyed({f"v{n}": replace(state(f"v{n}"), ip_addresses=many) for n in range(200)}), {})
    async with serving(agent, path), anyio.create_task_group() as group:

        async def ask() -> None:
            nonlocal done
            with connected(path, 1, b'{"do":"states"}\n') as [client]:
                received = await anyio.to_thread.run_sync(lambda: b"".join(iter(lambda: client.recv(1 << 20), b"")))
            assert received.count(b"\n") == 201
            done = True

        group.start_soon(ask)
        while not done:
            worked = time.thread_time()
            await checkpoint()
            longest = max(longest, time.thread_time() - worked)
    assert longest < 0.2, "some of them were made in one turn of the loop"


async def test_a_listing_has_all_there_is_while_everything_changes(tmp_path: Path) -> None:
    path, agent = tmp_path / "agent.sock", saying(500)
    async with serving(agent, path), await anyio.connect_unix(path) as client, anyio.create_task_group() as group:

        async def change() -> None:
            repairs = 0
            while True:
                repairs += 1
                for number in range(0, 500, 7):
                    agent.hub.publish(keyed({f"v{number}": state(f"v{number}", repairs)}), {})
                await anyio.sleep(0)

        group.start_soon(change)
        await client.send(b'{"do":"watch"}\n')
        received = b""
        with anyio.move_on_after(20):
            while b'"listed"' not in received:
                received += await client.receive()
        assert b'"listed"' in received, "the listing never ended"
        lines = [json.loads(line) for line in received[: received.index(b'"listed"')].splitlines()[:-1]]
        assert {line["name"] for line in lines} - {""} == {key.name for key in agent.hub.states}
        group.cancel_scope.cancel()


async def test_of_agents_that_start_together_one_gets_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    for _ in range(20):
        refused: list[str] = []
        running: list[LocalSocket] = []
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

        async def start(number: int) -> None:
            server = LocalSocket(path)
            try:
                await group.start(server.run, saying(number))
                running.append(server)  # noqa: B023 likewise
            except InvalidSettings as error:
                refused.append(str(error))  # noqa: B023 likewise

        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as starting:
                for number in range(1, 5):
                    starting.start_soon(start, number)
            assert len(running) == 1
            assert len(refused) == 3
            assert all("another agent answers" in text for text in refused)
            assert await fetch_states(path)
            group.cancel_scope.cancel()
        assert not path.exists()


async def test_a_link_that_is_put_in_the_place_of_the_socket_changes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, path = tmp_path / "secret", tmp_path / "agent.sock"
    secret.touch(mode=0o600)
    bind = socket.socket.bind

    def swapped(bound: socket.socket, address: str) -> None:
        bind(bound, address)
        path.unlink()
        path.symlink_to(secret)

    monkeypatch.setattr(socket.socket, "bind", swapped)
    with pytest.raises(InvalidSettings, match="cannot create the socket"):
        await unix_socket.listen(path, group=None)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
