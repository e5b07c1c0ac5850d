"""Whatever is sent to the agent's sockets, it is answered or refused, and the next one is answered."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from agent_view import FakeAgent
from anyio.abc import ByteStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifagent.core.state import ConfigState, InterfaceState
from ifagent.outlets.http import HttpServer
from ifagent.outlets.local_socket import LocalSocket
from ifagent.watchers import process_connector
from ifagent.watchers.process_connector import named_pids
from ifagent.watchers.processes import _is_of_own_pid_namespace, _state_of

quickly = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


BAD = InterfaceState(name="a", config_state=ConfigState.INVALID, reason="\ud800\x00")
"""A state whose texts are as bad as texts get."""

requests = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"") + b"\n"),
    st.builds(
        lambda what, name: b'{"do":%s,"name":%s}\n' % (what, name),
        st.sampled_from([b'"states"', b'"declarations"', b"7", b"[" * 30 + b"]" * 30, b'"\\ud800"', b"9" * 4000]),
        st.sampled_from([b'"a"', b"null", b"7", b'"\\ud800"', b"{}", b'"' + b"x" * 3900 + b'"']),
    ),
)


@quickly
@given(asked=st.lists(requests, min_size=1, max_size=6))
def test_requests_to_the_local_socket(asked: list[bytes]) -> None:
    anyio.run(_ask_local, asked)


async def _ask_local(asked: list[bytes]) -> None:
    with TemporaryDirectory() as folder, watched_log():
        path = Path(folder) / "socket"
        async with anyio.create_task_group() as group:
            await group.start(LocalSocket(path).run, FakeAgent(BAD))
            connect = partial(anyio.connect_unix, path)
            for request in asked:
                await _exchange(connect, request, patience=0.02)
            answer = await _exchange(connect, b'{"do":"states"}\n')
            assert answer.splitlines()[-1] == b'{"done":true}'
            group.cancel_scope.cancel()


lines = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda path, query, headers: b"GET /%s?%s HTTP/1.1\r\n%s\r\n\r\n" % (path, query, headers),
        st.sampled_from([b"states", b"states/", b"nothing", b"%00", b"../states", b"states/watch/x"]),
        st.binary(max_size=60) | st.sampled_from([b"name=%ff", b"name=%", b"name=a&name=b", b"name=%00", b"&" * 3000]),
        st.sampled_from(
            [
                b"",
                b"Host: x",
                b"Content-Length: 5",
                b"X: " + b"x" * 20_000,
                b"Connection: close\r\nY:\x00",
                b"a:\r\n" * 99,
            ]
        ),
    ),
)


@quickly
@given(asked=st.lists(lines, min_size=1, max_size=6))
def test_requests_over_http(asked: list[bytes]) -> None:
    anyio.run(_ask_http, asked)


async def _ask_http(asked: list[bytes]) -> None:
    server = HttpServer("127.0.0.1:0")
    with watched_log():
        async with anyio.create_task_group() as group:
            await group.start(server.run, FakeAgent(BAD))
            connect = partial(anyio.connect_tcp, "127.0.0.1", server.port)
            for request in asked:
                answer = await _exchange(connect, request, patience=0.02)
                assert not answer.startswith(b"HTTP/1.1 5")
            answer = await _exchange(connect, b"GET /states?name=%FF HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK")
            group.cancel_scope.cancel()


async def _exchange(connect: Callable[[], Awaitable[ByteStream]], request: bytes, *, patience: float = 10) -> bytes:
    """Send something, and return what comes back until the end, or for a while: half a request has no answer."""
    answer = b""
    async with await connect() as stream:
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(patience):
            await stream.send(request)
            while True:
                answer += await stream.receive()
    return answer


@contextmanager
def watched_log() -> Iterator[None]:
    """Fail if something is logged as an error, as servers do with what they did not expect."""
    found: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: found.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert not found


# What processes make of themselves in /proc


names = st.binary(min_size=1, max_size=15).filter(lambda name: b"\0" not in name)


@quickly
@given(name=names, rest=st.binary(max_size=60), junk=st.binary(max_size=100))
def test_files_of_a_process(name: bytes, rest: bytes, junk: bytes) -> None:
    with TemporaryDirectory() as folder:
        proc = Path(folder)
        (proc / "self").mkdir()
        for stat in (junk, b"17 (%s) %s" % (name, rest), b"17 (%s) Z 1 2 3" % name):
            (proc / "self" / "stat").write_bytes(stat)
            (proc / "self" / "status").write_bytes(b"Name:\t%s\n%s\nNSpid:\t17\n" % (name, junk))
            _is_of_own_pid_namespace(proc)
            state = _state_in(proc / "self")
        assert state == "Z"


def _state_in(directory: Path) -> str:
    import os

    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _state_of(descriptor)
    finally:
        os.close(descriptor)


# What stands in the queue of the process connector


@quickly
@given(news=st.lists(st.binary(max_size=120), max_size=5))
def test_the_connectors_answer_among_anything(news: list[bytes]) -> None:
    mark = 17
    answer = struct.pack("=IHHII", 76, 3, 0, 0, 0) + struct.pack("=IIIIHH", 1, 1, 0, mark + 1, 40, 0)
    answer += struct.pack("=IIQ", 0, 0, 1) + struct.pack("=IIII", 0, 0, 0, 0)
    for message in news:
        named_pids(message)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(0)
        for message in (*filter(None, news), answer):
            theirs.send(message)
        process_connector._expect_acknowledgement(FromTheKernel(ours), mark)  # type: ignore[arg-type]


class FromTheKernel:
    """A socket whose messages all come from the kernel."""

    def __init__(self, queue: socket.socket) -> None:
        self._queue = queue

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        return self._queue.recv(size), (0, 0)


def test_messages_that_are_not_from_the_kernel_are_no_answer() -> None:
    class Queue:
        def __init__(self) -> None:
            self.left = 3

        def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
            self.left -= 1
            if self.left < 0:
                raise BlockingIOError
            return struct.pack("=IHHII", 76, 3, 0, 0, 0) + bytes(60), (4711, 0)

    with pytest.raises(PermissionError):
        process_connector._expect_acknowledgement(Queue(), -1)  # type: ignore[arg-type]
