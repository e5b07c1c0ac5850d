"""The HTTP side of a container engine, docker or podman: what it says on its unix socket, read with suspicion.

The API is docker's, without a version in the path, so that every engine answers in its own; podman serves the same
paths. What is asked for: ``/events``, ``/containers/json``, ``/containers/<id>/json`` and ``/_ping``
(docs.docker.com/reference/api/engine).

Two kinds of trouble: :class:`ifagent.errors.SourceLost` ends the connection, :class:`BadAnswer` is about one
question and leaves the connection usable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.to_thread

from ifagent.errors import SourceLost
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.watchers.container_events import CONTAINER_ID, EventStream

if TYPE_CHECKING:
    # At run time only where there is an engine to talk to: it takes a fifth of all memory, and as long to import.
    import aiohttp

MAX_VALUES: Final = 100_000
"""Most values in what is said of one container: to read so many takes some 10 ms, in which nothing else is done."""

MAX_LISTED: Final = 2**18
"""Most characters of one container in the list."""

MAX_LABEL: Final = 4096
"""Longest label of a microservice, in characters; a longer one is none."""

MAX_READ: Final = 2**13
"""Most bytes that are taken of one connection before others have a turn: each may be a chunk of its own of an answer.

asyncio takes 256 KiB. In chunks of one byte that is 40 ms of parsing, and many answers may come at once.
"""

_IN_THREAD: Final = 2**14
"""Bytes of an answer from which on it is not read on the event loop."""

_CONNECT: Final = 5.0
"""Seconds within which a socket must take a connection."""

_OVERLAP: Final = 1_000_000_000
"""Nanoseconds that events are asked for again: the clock may have been set back by that much."""

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"\s*")
_BETWEEN: Final = re.compile(r"\s*,\s*|\s*(?=\]\Z)")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class BadAnswer(Exception):
    """The engine answered a question with an error, or with something that is no answer."""


class _NotThere(BadAnswer):
    """What was asked for does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken from one engine, and how long it may take to say it."""

    list_bytes: int = 64 * 2**20
    """Most bytes of the list of containers; ten thousand are listed in 20 MiB."""

    container_bytes: int = 8 * 2**20
    """Most bytes of what is said of one container: its environment may have 6 MiB."""

    containers: int = 20_000
    """Most containers."""

    answer_time: float = 60.0
    """Seconds that a whole answer may take."""


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine describes it.

    ``label`` is its microservice label, empty without one. ``pid`` is that of its first process as the engine
    counts, 0 while the container does not run. ``started`` is when it was started last.
    """

    id: str
    label: str
    pid: int
    started: datetime


def default_sockets() -> tuple[Path, ...]:
    """Return where engines may be: what ``DOCKER_HOST`` names if that is a unix socket, else the usual places."""
    scheme, _, path = os.environ.get("DOCKER_HOST", "").partition("://")
    if scheme == "unix" and path:
        return (Path(path),)
    return Path("/var/run/docker.sock"), Path("/run/podman/podman.sock")


class Engine:
    """One container engine, as an asynchronous context manager; entering does not connect yet.

    ``variable`` is the environment variable that carries a container's microservice label, ``container_label``
    the container label that does where the variable is not set. All coroutines raise :class:`SourceLost` when
    the engine cannot be reached or breaks off.
    """

    def __init__(self, socket: Path, *, variable: str, container_label: str, limits: Limits = LIMITS) -> None:
        self._socket = str(socket)
        self._variable = variable
        self._container_label = container_label
        self._limits = limits

    async def __aenter__(self) -> Self:
        """Prepare for questions."""
        await anyio.to_thread.run_sync(import_module, "aiohttp")
        import aiohttp

        self._session = aiohttp.ClientSession(
            "http://localhost",
            # Without a limit: a question that is never answered must not keep others from being asked.
            connector=_connector(self._socket),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few bytes may stand for gigabytes
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        with anyio.CancelScope(shield=True):
            await self._session.close()

    async def ping(self) -> None:
        """Return when the engine has shown that it lives."""
        async with self._get("/_ping"):
            pass

    async def running(self) -> list[str]:
        """Return the ids of all containers that run."""
        try:
            body = await self._ask("/containers/json", most=self._limits.list_bytes)
            return await anyio.to_thread.run_sync(read_ids, body, self._limits.containers)
        except BadAnswer as error:
            raise SourceLost(self._socket, f"the list of containers: {error}") from error

    async def inspect(self, id: str) -> Container | None:
        """Return a container as it is now, ``None`` if it is not there. Raises :class:`BadAnswer`.

        Takes as long as the engine does: docker answers once nothing else is being done to the container.
        """
        try:
            answer = await self._ask(f"/containers/{id}/json", most=self._limits.container_bytes)
        except _NotThere:
            return None
        if len(answer) < _IN_THREAD:
            return self.read_container(id, answer)
        return await anyio.to_thread.run_sync(self.read_container, id, answer)

    @asynccontextmanager
    async def events(self, *, after: int) -> AsyncGenerator[EventStream, None]:
        """Have the events of containers, from ``after`` on (Unix time in ns, not later than now), without a gap.

        Docker answers before it subscribes: what happens in between would be lost without ``after``.
        """
        since = max(0, after - _OVERLAP)
        # No finer filter: podman calls the same events otherwise.
        query = {"since": f"{since // 10**9}.{since % 10**9:09}", "filters": json.dumps({"type": ["container"]})}
        async with self._get("/events", **query) as response:
            if response.status != 200:
                raise SourceLost(self._socket, f"the events: {_status(response)}")
            yield EventStream(lambda: _read(response, self._socket), self._socket)

    @asynccontextmanager
    async def _get(self, path: str, **query: str) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask, and have the answer's head; its body is there to be read inside."""
        with _breaking_off(self._socket):
            response = await self._session.get(path, params=query, allow_redirects=False)
        try:
            yield response
        finally:
            response.close()

    async def _ask(self, path: str, *, most: int) -> bytes:
        """Return the answer's body, of ``most`` bytes at most."""
        body = bytearray()
        try:
            with anyio.fail_after(self._limits.answer_time):
                async with self._get(path) as response:
                    while chunk := await _read(response, self._socket):
                        body += chunk
                        if len(body) > most:
                            raise BadAnswer(f"more than {most} bytes")
        except TimeoutError:
            raise BadAnswer(f"no whole answer within {self._limits.answer_time:g} s") from None
        if response.status != 200:
            raise (_NotThere if response.status == 404 else BadAnswer)(_status(response))
        return bytes(body)

    def read_container(self, id: str, body: bytes) -> Container:
        """Read an answer to ``inspect``. Raises :class:`BadAnswer`, and nothing else."""
        if body.count(b",") > MAX_VALUES:
            raise BadAnswer(f"more than {MAX_VALUES} values")
        match _parsed(body):
            case {"State": {"Pid": int(pid), **state}, "Config": {**config}} if not isinstance(pid, bool):
                started = _time(state.get("StartedAt"))
                return Container(id, self._label(config), pid if 0 < pid < 2**31 else 0, started)
        raise BadAnswer("not the description of a container")

    def _label(self, config: dict[Any, Any]) -> str:
        environment, labels = config.get("Env"), config.get("Labels")
        found = ""
        for entry in environment if isinstance(environment, list) else ():
            # A variable that is set twice has the later value.
            if isinstance(entry, str) and entry.partition("=")[0] == self._variable:
                found = entry.partition("=")[2]
        if not found and isinstance(labels, dict):
            found = str(labels.get(self._container_label, ""))
        return found if len(found) <= MAX_LABEL else ""


def _connector(socket: str) -> aiohttp.UnixConnector:
    """Return what connects to an engine, and reads of no connection more than :data:`MAX_READ` at once."""
    import aiohttp

    class SmallReads(aiohttp.UnixConnector):
        async def _create_connection(self, *args: Any, **options: Any) -> Any:
            connection = await super()._create_connection(*args, **options)
            transport: Any = connection.transport
            if hasattr(transport, "max_size"):  # as those of asyncio have; others have a measure of their own
                transport.max_size = MAX_READ
            return connection

    return SmallReads(path=socket, limit=0)


async def _read(response: aiohttp.ClientResponse, socket: str) -> bytes:
    """Return the next bytes of an answer, empty at its end."""
    with _breaking_off(socket):
        return await response.content.readany()


@contextmanager
def _breaking_off(socket: str) -> Generator[None, None, None]:
    """Raise :class:`SourceLost` where a connection cannot be made or kept."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise SourceLost(socket, _in_words(error)) from error


def read_ids(body: bytes, most: int = LIMITS.containers) -> list[str]:
    """Read an answer to the question which containers there are. Raises :class:`BadAnswer`, and nothing else.

    More than ``most`` are a bad answer.

    One container after the other, in a worker thread: what the parser reads at once is read while all else waits.
    """
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        raise BadAnswer("not UTF-8") from None
    if not text.startswith("[") or not text.endswith("]"):
        raise BadAnswer("not a list")
    ids: list[str] = []
    at = begin.end() if (begin := _SPACE.match(text, 1)) else 1
    while at < len(text) - 1:
        entry, length = _first_value(text, at)
        match entry:
            case {"Id": str(id)} if CONTAINER_ID.fullmatch(id):
                ids.append(id)
            case _:
                raise BadAnswer("an entry without an id")
        if len(ids) > most:
            raise BadAnswer(f"more than {most} containers")
        between = _BETWEEN.match(text, at + length)
        if between is None or ("," in between[0] and between.end() == len(text) - 1):
            raise BadAnswer("not a list of containers")
        at = between.end()
    return ids


def _first_value(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins at a place, and its length."""
    for size in (MAX_LISTED >> 5, MAX_LISTED):
        with suppress(ValueError, RecursionError):  # of a value that is cut off no end is found
            return _DECODER.raw_decode(text[at : at + size])
    raise BadAnswer(f"not a list of containers with at most {MAX_LISTED} characters each")


def _parsed(body: bytes) -> Any:
    try:
        return read_json(body)
    except BrokenJson as error:
        raise BadAnswer(str(error)) from None


def _time(value: Any) -> datetime:
    """Read a time such as ``2026-11-23T18:38:10.115321465Z``, to the microsecond."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return _NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _status(response: aiohttp.ClientResponse) -> str:
    return f"{response.status} {response.reason or ''}".rstrip()


def _in_words(error: Exception) -> str:
    """Say in a few words why a connection could not be made or kept."""
    import aiohttp

    match error:
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
            return "the connection broke off"
        case aiohttp.ClientConnectorError():
            return error.os_error.strerror or str(error.os_error)
        case TimeoutError():
            return f"no connection within {_CONNECT:g} s"
        case _:
            return str(error) or type(error).__name__
