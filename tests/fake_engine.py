"""A small container engine, which says whatever a test wants, and the watcher that follows it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from watched import Watched, watching

from ifagent.core.namespace_ref import NamespaceType
from ifagent.nsfs import own_namespace
from ifagent.watchers.containers import ContainerWatcher

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def described(pid: Any = None, label: str = "web", started: str = "2026-11-23T18:38:10.115321465Z") -> dict[str, Any]:
    """Return what an engine says of a container; its first process is the test's own."""
    return {
        "State": {"Pid": os.getpid() if pid is None else pid, "StartedAt": started},
        "Config": {"Env": ["PATH=/bin", f"MICROSERVICE_LABEL={label}"], "Labels": None},
    }


class FakeEngine:
    """Answers as its attributes say.

    ``containers`` are the answers to ``inspect`` by id; ``ping``, ``list``, ``events`` and those of ``inspect`` replace
    the usual answer. What was asked is in ``asked``; ``requests`` are those for events, ``since`` when from, and
    ``streams`` the answers to them.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.containers: dict[str, Any] = {}
        self.ping: Answer | None = None
        self.list: Answer | None = None
        self.events: Answer | None = None
        self.inspect: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.since: list[float] = []
        self.streams: list[web.StreamResponse] = []
        self.requests: list[web.Request] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/_ping", self._ping)
        app.router.add_get("/events", self._events)
        app.router.add_get("/containers/json", self._list)
        app.router.add_get("/containers/{id}/json", self._inspect)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        self.socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Stop answering; the socket's file stays, as that of an engine that was killed."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        if not self.socket.exists():  # from Python 3.13 on a server takes its file away
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind(str(self.socket))

    async def say(self, text: bytes) -> None:
        """Write into the last stream of events."""
        await self.streams[-1].write(text)

    async def happen(self, action: str, id: str, **fields: Any) -> None:
        event = {"Type": "container", "Action": action, "Actor": {"ID": id}, "timeNano": time.time_ns(), **fields}
        await self.say(json.dumps(event).encode() + b"\n")

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("ping")
        return await self.ping(request) if self.ping else web.Response(text="OK")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("events")
        self.since.append(float(request.query["since"]))
        assert json.loads(request.query["filters"]) == {"type": ["container"]}
        if self.events:
            return await self.events(request)
        stream = web.StreamResponse()
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        self.streams.append(stream)
        self.requests.append(request)
        await asyncio.Event().wait()
        return stream

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("list")
        return await self.list(request) if self.list else web.json_response([{"Id": id} for id in self.containers])

    async def _inspect(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        self.asked.append(id)
        if id in self.inspect:
            return await self.inspect[id](request)
        if id not in self.containers:
            return web.json_response({"message": "no such container"}, status=404)
        return web.json_response(self.containers[id])


@asynccontextmanager
async def running() -> AsyncIterator[FakeEngine]:
    """Have an engine that answers, without containers."""
    with tempfile.TemporaryDirectory() as folder:
        engine = FakeEngine(Path(folder) / "engine.sock")
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


@asynccontextmanager
async def following(*sockets: Path, **options: Any) -> AsyncIterator[Watched]:
    """Run a watcher of the engines at these sockets; ``options`` are those of :class:`ContainerWatcher`."""
    async with watching(ContainerWatcher(sockets, **options), NamespaceType.MICROSERVICE) as watched:
        yield watched


async def until_own(watched: Watched, label: str = "web") -> None:
    """Wait until a label leads to the test's own process."""
    await watched.until_at(label, own_namespace())


def answering(body: bytes, status: int = 200, *, encoding: str | None = None) -> Answer:
    """Return what answers a request with this; ``encoding`` is how the body is said to be compressed."""
    headers = {"Content-Encoding": encoding} if encoding else None

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type="application/json", headers=headers)

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    """Answer no request."""
    await asyncio.Event().wait()
    raise AssertionError
