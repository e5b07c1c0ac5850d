"""A real etcd for tests, and a proxy that can break connections to it.

The fixtures are in ``etcd_fixtures``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import Certificates
from patience import PATIENCE

from ifagent.stores.etcd.address import EtcdAddress

READY = 15.0
"""Seconds within which etcd must be healthy."""

_PORTS = cycle(range(10_000, 32_000))


def free_port() -> int:
    """Return another port each time, of those that the kernel gives to nobody who connects: it stays free."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there is always a next port")


class EtcdServer:
    """One etcd on loopback with its data under ``folder``; blocks, so use a thread inside a coroutine.

    ``options`` go to etcd as they are. With ``certificates`` it speaks TLS, and with ``asks`` wants one of the client.
    ``hosts`` are the addresses that it listens on, all with one port.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        certificates: Certificates | None = None,
        asks: bool = False,
        hosts: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.port}"
        self.address = EtcdAddress.parse(f"etcd{'s' if certificates else ''}://127.0.0.1:{self.port}")
        self._health = f"http://127.0.0.1:{free_port()}"
        self._peer = f"http://127.0.0.1:{free_port()}"
        self.name = folder.name
        self.cluster: Sequence[EtcdServer] = (self,)
        self._listen = ",".join(self.url.replace("127.0.0.1", host) for host in hosts)
        self._options = [*options]
        self.ctl_options: tuple[str, ...] = ()
        if certificates:
            mine, ca = certificates.issue("server", "127.0.0.1"), certificates.ca
            self._options += [f"--cert-file={mine.cert}", f"--key-file={mine.key}"]
            self._options += ["--client-cert-auth", f"--trusted-ca-file={ca}"] if asks else []
            admin = certificates.issue("root", common_name="root")
            self.ctl_options = (f"--cacert={ca}", f"--cert={admin.cert}", f"--key={admin.key}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        data = self.folder / "data"
        members = ",".join(f"{one.name}={one._peer}" for one in self.cluster)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("etcd", f"--name={self.name}", f"--data-dir={data}", "--logger=zap", "--log-level=warn"),
                    *(f"--listen-client-urls={self._listen}", f"--advertise-client-urls={self.url}"),
                    *(f"--listen-peer-urls={self._peer}", f"--initial-advertise-peer-urls={self._peer}"),
                    *(f"--initial-cluster={members}", "--heartbeat-interval=50", "--election-timeout=500"),
                    *(f"--listen-metrics-urls={self._health}", *self._options),
                ],
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        assert self._process
        deadline = time.monotonic() + READY * PATIENCE
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"etcd did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _healthy(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"{self._health}/health", timeout=1
            ) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Delete all data of a stopped server."""
        shutil.rmtree(self.folder / "data")

    def ctl(self, *words: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.url}", *self.ctl_options, *words],
            input=given,
            capture_output=True,
            env={**_environment(), "ETCDCTL_API": "3"},
            timeout=20 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def values(self, prefix: str) -> dict[str, bytes]:
        lines = self.ctl("get", "--prefix", prefix, "--print-value-only=false").splitlines()
        return {key: value.encode() for key, value in zip(lines[::2], lines[1::2], strict=True)}

    def revision(self) -> int:
        return int(json.loads(self.ctl("get", "none", "--write-out=json"))["header"]["revision"])


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.upper().startswith(("ETCD", "HTTP"))}


class TcpProxy:
    """Passes connections on to ``target``, until it is told to be nasty."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    @property
    def address(self) -> EtcdAddress:
        return EtcdAddress.parse(f"etcd://127.0.0.1:{self.port}")

    def before(self, address: EtcdAddress) -> EtcdAddress:
        """Return an address that leads through this proxy, everything else being the same."""
        return replace(address, endpoints=self.address.endpoints)

    async def accept(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._server:
            self._server.close()
            self.reset()
            await self._server.wait_closed()
            self._server = None

    def reset(self) -> None:
        for writers in self._pairs:
            for writer in writers:
                with suppress(OSError):  # it has been closed already
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

    def swallow(self) -> None:
        """Let connections be, but pass nothing on: a black hole."""
        self._flowing = anyio.Event()

    def flow(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pass(reader, far_writer)),
                    asyncio.ensure_future(self._pass(far_reader, writer)),
                ]
            )
        finally:
            self._pairs.discard(pair)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(target)
    await proxy.accept()
    try:
        yield proxy
    finally:
        proxy.flow()
        await proxy.refuse()
        await until(lambda: not proxy._pairs)


async def until(condition: Callable[[], Any], *, within: float = 10.0) -> None:
    """Wait until ``condition`` holds; fail after ``within`` seconds."""
    with anyio.move_on_after(within * PATIENCE) as scope:
        while not condition():
            await anyio.sleep(0.01)
    assert not scope.cancelled_caught, "waited in vain"


def need_etcd() -> None:
    """Skip a test where there is no etcd; in CI that is a failure."""
    if not (shutil.which("etcd") and shutil.which("etcdctl")):
        missing = "etcd is not installed: apt-get install etcd-server etcd-client"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@contextmanager
def running(folder: Path, *options: str, **settings: Any) -> Iterator[EtcdServer]:
    """Have one etcd, see :class:`EtcdServer`."""
    need_etcd()
    server = EtcdServer(folder, *options, **settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running_cluster(folder: Path, size: int = 3) -> Iterator[Sequence[EtcdServer]]:
    """Have a cluster of several members."""
    need_etcd()
    servers = []
    for number in range(size):
        (folder / f"m{number}").mkdir()
        servers.append(EtcdServer(folder / f"m{number}"))
    for server in servers:
        server.cluster = servers
        server.start(wait=False)
    try:
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()
