"""States and health out over HTTP: for probes, for Prometheus, for dashboards.

``/livez`` and ``/readyz`` say how the agent is, ``/metrics`` what it counts, ``/states`` the state of every
interface, and ``/states/watch`` follows the states as server-sent events. Everything is read-only, and there is
neither encryption nor a password: whoever reaches the port can read. Nothing a client does disturbs the agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from typing import Protocol

import anyio
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from anyio.abc import TaskStatus

from ifagent.core.interface import Name
from ifagent.core.state import InterfaceState, StateEvent
from ifagent.errors import InvalidSettings
from ifagent.formats.state import encode_event_json, encode_state_json
from ifagent.log import log
from ifagent.outlets.metrics import new_registry, write_metrics
from ifagent.statistics import Statistics

MAX_CONNECTIONS = 256
"""Most connections at one time; further ones are closed at once, so that files are left for the agent."""

MAX_WATCHERS = 128
"""Most readers of ``/states/watch`` at one time."""

KEEP_ALIVE = 15.0
"""Seconds of silence after which a watcher gets an empty comment, so that a client that is gone is noticed."""

FAREWELL_TIME = 1.0
"""Seconds that clients may take to read the end of an answer when the server ends."""

_CHUNK = 16
_NO_STORE = {"Cache-Control": "no-store"}


class Reporter(Protocol):
    """What the outlet needs of an agent."""

    def statistics(self) -> Statistics:
        """Return how the agent is now."""

    def current_states(self) -> Mapping[Name, InterfaceState]:
        """Return the newest state of every interface."""

    def states(self, *, name: Name | None = None) -> AsyncIterator[StateEvent]:
        """Return a snapshot, then every change; can be cancelled at any moment without a loss."""


def parse_address(address: str, *, public: bool = False) -> tuple[str, int]:
    """Return the IP address and the port of ``127.0.0.1:9100``, ``[::1]:9100`` or ``localhost:9100``.

    Port 0 lets the kernel choose. Raises :class:`InvalidSettings` for anything else, and for an address that other
    machines can reach unless ``public``.
    """
    host, colon, port = address.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ip = ip_address(host)
    except ValueError:
        ip = None
    if ip is None or (ip.version == 6) != address.startswith("[") or not colon or not _is_port(port):
        raise InvalidSettings(f"{address!r} is no address to listen at, write one such as 127.0.0.1:9100 or [::1]:9100")
    if not (ip.is_loopback or public):
        raise InvalidSettings(
            f"{address} can be reached by other machines, and everybody there could read all states; "
            f"--http-public allows that"
        )
    return str(ip), int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**16


class HttpServer:
    """Answers at ``address``, for which see :func:`parse_address`; raises what that does."""

    def __init__(self, agent: Reporter, address: str, *, public: bool = False) -> None:
        self._agent = agent
        self._host, self._port = parse_address(address, public=public)
        self._registry = new_registry(agent.statistics)
        self._watchers: set[anyio.CancelScope] = set()
        # Whoever makes a part of an answer holds it: however many clients there are, one part is made in a turn of the
        # event loop, and the agent has its turns between.
        self._turn = anyio.Lock()

    @property
    def port(self) -> int:
        """The port; once it runs, the one that the kernel chose for 0."""
        return self._port

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; ``task_status.started()`` when it can be reached.

        Raises :class:`InvalidSettings` if it cannot listen there.
        """
        logger = logging.getLogger("ifagent.http")
        logger.addFilter(_is_no_clients_fault)
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=logger,
            handler_cancellation=True,
            shutdown_timeout=FAREWELL_TIME,
        )
        await runner.setup()
        try:
            server = await self._listen(runner)
            try:
                task_status.started()
                await anyio.sleep_forever()
            finally:
                server.close()
        finally:
            for scope in self._watchers:
                scope.cancel()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/states", self._states, allow_head=False)
        app.router.add_get("/states/watch", self._watch, allow_head=False)
        return app

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        connections = runner.server
        assert connections is not None  # noqa: S101 setup has made it

        def accept() -> asyncio.Protocol:
            return connections() if len(connections.connections) < MAX_CONNECTIONS else _Refusal()

        try:
            server = await asyncio.get_running_loop().create_server(accept, self._host, self._port)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise InvalidSettings(f"cannot listen at {where}: {error.strerror or error}") from None
        self._port = server.sockets[0].getsockname()[1]
        log.info("answering over HTTP", address=self._host, port=self._port)
        return server

    async def _livez(self, _request: web.Request) -> web.Response:
        now = self._agent.statistics()
        return _text(now.trouble or "alive", status=200 if now.alive else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        now = self._agent.statistics()
        lines = ["ready" if now.ready else "not ready"]
        lines += [f"{source.name}: has not been heard yet" for source in now.sources if not source.synced]
        lines += [f"{source.name}: {source.problem}" for source in now.sources if source.problem]
        if not now.ready and len(lines) == 1:
            lines.append(now.trouble or "the first round is not done")
        return _text("\n".join(lines), status=200 if now.ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        async with self._turn:
            body, content_type = write_metrics(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type, **_NO_STORE})

    async def _states(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("name")
        states = [state for state in self._agent.current_states().values() if name in {None, state.name}]
        response = web.StreamResponse(headers={"Content-Type": "application/json", **_NO_STORE})
        await response.prepare(request)
        await response.write(b"[")
        for start in range(0, len(states), _CHUNK):
            async with self._turn:
                lines = b",\n".join(map(encode_state_json, states[start : start + _CHUNK]))
            await response.write(b",\n" + lines if start else lines)
        await response.write(b"]\n")
        return response

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if len(self._watchers) >= MAX_WATCHERS:
            return _text(f"there are {MAX_WATCHERS} watchers already", status=503)
        events = self._agent.states(name=request.query.get("name"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_NO_STORE})
        with anyio.CancelScope() as scope:
            self._watchers.add(scope)
            try:
                await response.prepare(request)
                await self._follow(events, response)
            except ConnectionError as error:
                log.debug("a watcher went away", problem=str(error))
            finally:
                self._watchers.discard(scope)
        return response

    async def _follow(self, events: AsyncIterator[StateEvent], response: web.StreamResponse) -> None:
        """Write events until they end, some that are there together at once."""
        while True:
            event = None
            with anyio.move_on_after(KEEP_ALIVE) as silence:
                event = await anext(events, None)
            if silence.cancelled_caught:
                await response.write(b":\n\n")
                continue
            if event is None:
                return
            async with self._turn:
                some = await _with_more(event, events)
                lines = b"".join(b"data: " + encode_event_json(one) + b"\n\n" for one in some)
            await response.write(lines)


def _is_no_clients_fault(record: logging.LogRecord) -> bool:
    """Pass a record unless it is about a client that sent what is no request, or went away: anybody may do that."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | ConnectionError):
        return True
    log.debug("a client cannot be answered", problem=str(error).split("\n", 1)[0])
    return False


class _Refusal(asyncio.Protocol):
    """Closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        transport.abort()


def _text(text: str, *, status: int = 200) -> web.Response:
    # A path of a source may have bytes that are no text.
    body = f"{text}\n".encode(errors="backslashreplace")
    return web.Response(body=body, status=status, content_type="text/plain", charset="utf-8", headers=_NO_STORE)


async def _with_more(first: StateEvent, events: AsyncIterator[StateEvent]) -> list[StateEvent]:
    """Return an event and some of those after it that are there without a wait."""
    some = [first]
    while len(some) < _CHUNK:
        event = None
        with anyio.move_on_after(0):
            event = await anext(events, None)
        if event is None:
            break
        some.append(event)
    return some
