"""Clients of the HTTP port that say nothing, say too much, or never read: others are answered."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace

import anyio
import anyio.to_thread
import pytest
from agent_view import FakeAgent
from closed_connection import is_closed
from watched import until_true

from ifagent.core.counters import Counters
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.outlets.http import HttpServer, Limits
from ifagent.statistics import Statistics

pytestmark = pytest.mark.anyio

MANY = 10_000
USUAL = Limits()

PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

PATIENT = 10.0
"""Seconds within which a probe is answered on a busy machine; what is found here kept it waiting for ever."""


class CountingAgent(FakeAgent):
    """Tells what its links count, and how often that was asked."""

    def __init__(self, *states: InterfaceState) -> None:
        super().__init__(*states)
        self.asked = 0

    def statistics(self) -> Statistics:
        self.asked += 1
        counters = {key.name: state.statistics for key, state in self.hub.states.items() if state.statistics}
        return replace(super().statistics(), counters=counters)


def state(name: str) -> InterfaceState:
    counted = Counters(
        in_packets=1, in_bytes=2, out_packets=3, out_bytes=4, drop_packets=5, in_error_packets=6, out_error_packets=7
    )
    return InterfaceState(name=name, config_state=ConfigState.PENDING, reason="x" * 300, statistics=counted)


@asynccontextmanager
async def serving(agent: FakeAgent, limits: Limits = USUAL) -> AsyncIterator[int]:
    async with anyio.create_task_group() as group:
        server = HttpServer("127.0.0.1:0", limits=limits)
        await group.start(server.run, agent)
        yield server.port
        group.cancel_scope.cancel()


def ask(port: int, request: bytes = PROBE, *, most: int = 1 << 30) -> bytes:
    """Send a request and return what comes back until the end, or so much; for a thread."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(request)
        while len(answer) < most and (more := client.recv(1 << 16)):
            answer += more
    return bytes(answer)


async def probed(port: int) -> float:
    """Return the seconds that a probe takes."""
    started = time.monotonic()
    answer = await anyio.to_thread.run_sync(ask, port)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"alive\n")
    return time.monotonic() - started


def rest(client: socket.socket) -> bytes:
    """Return what comes until the end; for a thread."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


@contextmanager
def connected(port: int, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Have many connections that have sent something; those that are refused are left out."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(closing(socket.socket()))
            client.settimeout(5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            if first:
                client.sendall(first)
            clients.append(client)
        yield clients


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET /states HTTP/1.1\r\nHost:",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /states HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n",
    ],
    ids=["silent", "half a head", "kept alive", "states unread", "metrics unread", "body"],
)
async def test_probes_are_answered_whatever_others_leave_open(first: bytes) -> None:
    agent = CountingAgent(*(state(f"v{n}") for n in range(2000)))
    async with serving(agent) as port:
        with connected(port, 2 * USUAL.connections, first):
            for _ in range(3):
                assert await probed(port) < PATIENT


async def test_watchers_leave_room_for_probes_and_are_bounded_for_one_address() -> None:
    agent = FakeAgent()
    async with serving(agent) as port:
        request = b"GET /states/watch HTTP/1.1\r\nHost: x\r\n\r\n"
        with connected(port, USUAL.connections, request):
            await until_true(lambda: agent.hub.readers >= USUAL.watchers // 2, within=10)
            assert await probed(port) < PATIENT
            assert agent.hub.readers == USUAL.watchers // 2
        await until_true(lambda: not agent.hub.readers, within=10)


async def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(b"\0" * (64 << 20), 9)
    head = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serving(FakeAgent()) as port:
        used = time.process_time()
        answer = await anyio.to_thread.run_sync(ask, port, head + bomb)
        assert answer.startswith(b"HTTP/1.1 405 ")
        answer = await anyio.to_thread.run_sync(ask, port, head.replace(b"POST", b"GET", 1) + bomb)
        assert answer.startswith(b"HTTP/1.1 415 ")
        assert time.process_time() - used < 0.2, "it was unpacked"
        assert await probed(port) < PATIENT


async def test_a_head_that_comes_slowly_is_given_up() -> None:
    async with serving(FakeAgent(), Limits(head_time=0.2, idle_time=0.2)) as port:
        for first in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"):
            with connected(port, 1, first) as [client]:
                received = await anyio.to_thread.run_sync(rest, client)
                assert received.count(b"HTTP/1.1 200") == first.endswith(b"\n")


async def test_a_reader_that_does_not_read_is_let_go() -> None:
    agent = CountingAgent(*(state(f"v{n}") for n in range(5000)))
    async with serving(agent, Limits(send_time=0.2, watch_time=0.2)) as port:
        for path in (b"/states", b"/states/watch", b"/metrics"):
            with connected(port, 1, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path) as [client]:
                assert await anyio.to_thread.run_sync(client.recv, 1)
                await until_true(lambda client=client: is_closed(client), within=10)  # type: ignore[misc]
                # Nothing of it is left in the kernel either.
                with pytest.raises(ConnectionResetError):
                    await anyio.to_thread.run_sync(rest, client)
    assert agent.hub.readers == 0


async def test_a_storm_of_scrapes_shares_what_is_made_and_the_loop_has_its_turns() -> None:
    agent = CountingAgent(*(state(f"v{n}") for n in range(MANY)))
    scrape = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    longest, scrapes, done = 0.0, 20, 0

    async def scraped() -> None:
        nonlocal done
        answer = await anyio.to_thread.run_sync(ask, port, scrape)
        assert answer.count(b"\nifagent_interface_in_bytes_total{") == MANY
        done += 1

    async with serving(agent) as port, anyio.create_task_group() as group:
        for _ in range(scrapes):
            group.start_soon(scraped)
        while done < scrapes:
            worked = time.thread_time()
            await anyio.sleep(0.001)
            longest = max(longest, time.thread_time() - worked)
    assert agent.asked < scrapes
    assert longest < 0.2, "one scrape held the loop for a second and more"
