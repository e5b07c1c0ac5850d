"""States, metrics and health over HTTP: for probes, Prometheus and dashboards.

``/livez`` and ``/readyz`` are probes, ``/metrics`` has the metrics, ``/states`` the state of every interface, and
``/states/watch`` streams the states as server-sent events. Everything is read-only, and there is neither encryption
nor a password: whoever reaches the port can read. A misbehaving client disturbs neither the agent nor the probes of
others, see :mod:`ifagent.outlets.connections`.
"""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import anyio
from anyio.abc import TaskStatus

from ifagent.core.state import StateEvent
from ifagent.errors import InvalidSettings
from ifagent.formats.state import encode_event_json, encode_state_json
from ifagent.log import log
from ifagent.outlets.connections import Client, Connections, Shared, Turns, piece, piece_of_events
from ifagent.outlets.contract import AgentView
from ifagent.outlets.http_messages import (
    END_OF_HEAD,
    LAST_CHUNK,
    MAX_HEAD,
    Request,
    RequestRefused,
    answer_head,
    chunk,
    parse_request,
)
from ifagent.outlets.metrics import Metrics
from ifagent.statistics import Health
from ifagent.stream import Subscription
from ifagent.visible import cut, visible

_BACKLOG: Final = 1024
_MAX_LINE: Final = 1000
_PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many clients are answered, and for how long they are waited for."""

    connections: int = 256
    """Most connections at one time; an eighth of the limit of open files if that is fewer."""

    of_one: int = 128
    """Most connections of one address."""

    watchers: int = 128
    """Most readers of ``/states/watch`` at one time; half as many of one address."""

    long: int = 8
    """Most long answers (all states, metrics) that are sent at one time."""

    long_time: float = 1.0
    """Seconds after which a long answer is cut off if another one waits."""

    keep_alive: float = 15.0
    """Seconds of silence after which a watcher is sent an empty comment, so that a dead connection is noticed."""

    head_time: float = 5.0
    """Seconds from the connection to the end of the first request's head."""

    idle_time: float = 30.0
    """Seconds from the end of an answer to that of the next request's head."""

    answer_time: float = 60.0
    """Seconds that an answer other than a watch may take."""

    send_time: float = 10.0
    """Seconds that a client may take to read a piece of such an answer."""

    watch_time: float = 30.0
    """Seconds that a client may take to read a piece of a watch."""


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
        raise InvalidSettings(f"{address!r} is not a listen address, expected one such as 127.0.0.1:9100 or [::1]:9100")
    if not (ip.is_loopback or public):
        raise InvalidSettings(
            f"{address} can be reached by other machines, where anyone could read all states; --http-public allows that"
        )
    return str(ip), int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**16


class HttpServer:
    """Answers at ``address``, for which see :func:`parse_address`; raises what that does."""

    def __init__(self, address: str, *, public: bool = False, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._agent: AgentView
        self._metrics: Metrics
        self._connections: Connections
        self._host, self._port = parse_address(address, public=public)
        self.endpoints: Mapping[str, Callable[[Request, Client], Awaitable[None]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._all_metrics,
            "/states": self._all_states,
            "/states/watch": self._watch,
        }
        self._watchers: Counter[Hashable] = Counter()
        self._long: dict[Client, float] = {}
        self._left = anyio.Event()
        self._renderings: Shared[list[bytes]] = Shared()
        self._turns, self._turns_of_probes = Turns(), Turns()

    @property
    def port(self) -> int:
        """The port; once it runs, the one that the kernel chose for 0."""
        return self._port

    @property
    def ports(self) -> tuple[int, ...]:
        """The port."""
        return (self._port,)

    async def run(self, agent: AgentView, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; calls ``task_status.started()`` once it listens.

        Raises :class:`InvalidSettings` if it cannot listen.
        """
        self._agent, self._metrics = agent, Metrics(agent.statistics)
        limits = self._limits
        most = min(limits.connections, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
        with self._listen() as listener:
            self._connections = Connections(
                listener,
                self._answer,
                who=_address,
                most=most,
                most_of_one=limits.of_one,
                send_time=limits.send_time,
            )
            task_status.started()
            await self._connections.run()

    def _listen(self) -> socket.socket:
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listener = socket.create_server((self._host, self._port), family=family, backlog=_BACKLOG)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise InvalidSettings(f"cannot listen at {where}: {error.strerror or error}") from None
        self._port = listener.getsockname()[1]
        log.info("HTTP server listening", address=self._host, port=self._port)
        return listener

    async def _answer(self, client: Client) -> None:
        """Answer one request after another."""
        within = self._limits.head_time
        while True:
            with anyio.move_on_after(within) as waiting:
                head = await client.read_until(END_OF_HEAD, most=MAX_HEAD)
            if waiting.cancelled_caught or not head:
                return
            try:
                request = parse_request(head)
                with anyio.fail_after(None if request.path == "/states/watch" else self._limits.answer_time):
                    await self._do(request, client)
            except RequestRefused as refused:
                await _send_text(client, str(refused), status=refused.status)
                await client.finish()
                return
            if not request.stays:
                return
            within = self._limits.idle_time

    async def _do(self, request: Request, client: Client) -> None:
        endpoint = self.endpoints.get(request.path)
        if endpoint is None:
            await _send_text(client, "not found", request, status=404)
        else:
            await endpoint(request, client)

    async def _livez(self, request: Request, client: Client) -> None:
        async with self._turns_of_probes:
            now = self._agent.health()
        await _send_text(client, now.trouble or "alive", request, status=200 if now.alive else 503)

    async def _readyz(self, request: Request, client: Client) -> None:
        async with self._turns_of_probes:
            now = self._agent.health()
        await _send_text(client, "\n".join(_readiness(now)), request, status=200 if now.ready else 503)

    async def _all_metrics(self, request: Request, client: Client) -> None:
        _only_get(request)
        async with self._long_answer(client):
            kind, pieces = await self._rendered(request.fields.get("accept", ""))
            head = answer_head(200, kind, length=sum(map(len, pieces)), stays=request.stays)
            await client.send(head)
            for piece in pieces:
                await client.send(piece)

    async def _rendered(self, accept: str) -> tuple[str, list[bytes]]:
        """Return all metrics; concurrent requests share one rendering."""
        kind, pieces = self._metrics.write(accept)

        async def make() -> list[bytes]:
            made: list[bytes] = []
            while True:
                async with self._turns:
                    piece = next(pieces, None)
                if piece is None:
                    return made
                made.append(piece)

        return kind, await self._renderings.get(kind, make)

    async def _all_states(self, request: Request, client: Client) -> None:
        _only_get(request)
        async with self._long_answer(client):
            states = self._agent.current_states()
            name = request.parameters.get("name")
            wanted = iter(list(states.values()) if name is None else [states[name]] if name in states else [])
            body = _Body(client, request, "application/json")
            await body.begin()
            before = b"["
            while True:
                async with self._turns:
                    lines = piece(wanted, encode_state_json)
                if not lines:
                    break
                await body.send(before + b",\n".join(lines))
                before = b",\n"
            await body.end(b"[]\n" if before == b"[" else b"]\n")

    @asynccontextmanager
    async def _long_answer(self, client: Client) -> AsyncIterator[None]:
        """Count a client among those that get a long answer, after waiting until there are fewer than the limit."""
        while len(self._long) >= self._limits.long:
            slowest, since = next(iter(self._long.items()))
            left = since + self._limits.long_time - time.monotonic()
            if left <= 0:
                del self._long[slowest]
                self._connections.close(slowest)
                continue
            with anyio.move_on_after(left):
                await self._left.wait()
        self._long[client] = time.monotonic()
        try:
            async with self._connections.busy(client):
                yield
        finally:
            self._long.pop(client, None)
            self._left.set()
            self._left = anyio.Event()

    async def _watch(self, request: Request, client: Client) -> None:
        _only_get(request)
        most = self._limits.watchers
        if self._watchers.total() >= most or self._watchers[client.who] >= max(1, most // 2):
            raise RequestRefused(503, f"too many watchers: {self._watchers.total()} connected")
        events = self._agent.states(name=request.parameters.get("name"))
        self._watchers[client.who] += 1
        try:
            async with self._connections.busy(client):
                body = _Body(client, request, "text/event-stream", within=self._limits.watch_time)
                await client.until_gone(self._follow(events, body))
        finally:
            events.close()
            self._watchers[client.who] -= 1
            self._watchers += Counter()  # without zeros

    async def _follow(self, events: Subscription, body: _Body) -> None:
        """Send events until they end, several at a time if available."""
        await body.begin()
        async with self._turns:
            listing = events.listing()
        while True:
            async with self._turns:
                lines = piece(listing, _sent_event)
            if not lines:
                break
            await body.send(b"".join(lines))
        while True:
            event = None
            with anyio.move_on_after(self._limits.keep_alive) as silence:
                event = await anext(events, None)
            if silence.cancelled_caught:
                await body.send(b":\n\n")
                continue
            if event is None:
                await body.end()
                return
            async with self._turns:
                lines = await piece_of_events(event, events, _sent_event)
            await body.send(b"".join(lines))


class _Body:
    """The body of an answer of unknown length."""

    def __init__(self, client: Client, request: Request, content_type: str, *, within: float | None = None) -> None:
        self._client = client
        self._request = request
        self._content_type = content_type
        self._within = within

    async def begin(self) -> None:
        """Send the head."""
        stays, chunks = self._request.stays, self._request.chunks
        await self._client.send(answer_head(200, self._content_type, stays=stays, chunks=chunks))

    async def send(self, data: bytes) -> None:
        """Send a piece."""
        await self._client.send(chunk(data) if self._request.chunks else data, within=self._within)

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        last = (chunk(data) if data else b"") + LAST_CHUNK if self._request.chunks else data
        await self._client.send(last, within=self._within)


def _sent_event(event: StateEvent) -> bytes:
    return b"data: " + encode_event_json(event) + b"\n\n"


def _address(connection: socket.socket) -> Hashable:
    return str(connection.getpeername()[0])


def _only_get(request: Request) -> None:
    if request.method != "GET":
        raise RequestRefused(405, "only GET is allowed here")


def _readiness(now: Health) -> list[str]:
    lines = ["ready" if now.ready else "not ready"]
    lines += [f"{source.name}: not synced" for source in now.sources if not source.synced]
    lines += [f"{source.name}: {source.problem}" for source in now.sources if source.problem]
    if not now.ready and len(lines) == 1:
        lines.append(now.trouble or "initial reconciliation in progress")
    return [visible(cut(line, _MAX_LINE)) for line in lines]


async def _send_text(client: Client, text: str, request: Request | None = None, *, status: int = 200) -> None:
    body = visible(text + "\n", keep="\n").encode()
    head = answer_head(status, _PLAIN, length=len(body), stays=request is not None and request.stays)
    await client.send(head if request is not None and request.method == "HEAD" else head + body)
