"""Files that a client passes to a unix socket of the agent's, made so that the kernel takes its time to close them."""

from __future__ import annotations

import socket
import struct
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from threading import Thread

import anyio
import anyio.to_thread
import pytest
from agent_view import FakeAgent

from ifagent import passed_files
from ifagent.agent_socket import fetch_states
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.host_lock import HostLock
from ifagent.outlets.local_socket import LocalSocket

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

LINGERS = 8
"""Seconds that the kernel waits for what nobody reads before such a file is closed."""

PASSED_ON = 5
"""Seconds after which the agent surely does not wait."""

Slow = Callable[[], socket.socket]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Make sockets with unsent data, whose last holder waits when it closes them."""
    with ExitStack() as stack:
        sink = stack.enter_context(closing(socket.socket()))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sink.bind(("127.0.0.1", 0))
        sink.listen()

        def make() -> socket.socket:
            made = socket.create_connection(sink.getsockname())
            stack.enter_context(closing(sink.accept()[0]))
            made.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    made.send(bytes(4096))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS))
            return made

        yield make


@pytest.fixture(params=["this kernel", "a kernel before Linux 6.16"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "before" in request.param:
        monkeypatch.setattr(passed_files, "SO_PASSRIGHTS", 9999)


def pass_along(address: str, passed: socket.socket, first: bytes, last: bytes = b"") -> None:
    """Have a client say something and pass a file along with the end of it, where the kernel lets it, and go."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(PASSED_ON)
        client.connect(address)
        if last:
            client.sendall(first)
            assert client.recv(100), "it is answered"
        try:
            client.sendmsg([last or first], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [passed.fileno()]))])
        except OSError:  # it is refused, or the connection is gone
            passed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        Thread(target=passed.close, daemon=True).start()  # the agent may have let go of it already
        time.sleep(0.1)


@pytest.fixture
async def path(tmp_path: Path, _kernel: None) -> AsyncIterator[Path]:
    agent = FakeAgent(InterfaceState(name="v0", config_state=ConfigState.PENDING))
    async with anyio.create_task_group() as group:
        await group.start(LocalSocket(tmp_path / "agent.sock").run, agent)
        yield tmp_path / "agent.sock"
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "said",
    [(b"{",), (b'{"do":"states"}\n',), (b'{"do":"watch"}\n', b"more"), (b'{"do":"watch"}\n', bytes(100_000))],
    ids=["half a request", "a request", "after a request", "behind a lot"],
)
async def test_nobody_waits_for_a_file_that_a_client_has_passed(
    path: Path, slow: Slow, said: tuple[bytes, ...]
) -> None:
    began = time.monotonic()
    for _ in range(3):
        await anyio.to_thread.run_sync(partial(pass_along, str(path), slow(), *said))
        assert list(await fetch_states(path)) == ["v0"]
    assert time.monotonic() - began < PASSED_ON


@pytest.mark.usefixtures("_kernel")
async def test_nobody_waits_for_a_file_that_was_passed_to_the_lock(slow: Slow, tmp_path: Path) -> None:
    lock = HostLock(tmp_path.name)
    lock.take()
    for _ in range(3):
        await anyio.to_thread.run_sync(pass_along, f"\0ifagent/{tmp_path.name}", slow(), b"x")
    began = time.monotonic()
    with anyio.move_on_after(1):
        await lock.run()
    lock.release()
    assert time.monotonic() - began < PASSED_ON
