"""States out to programs on this machine: a unix socket, one request a connection.

The lines are those of :mod:`ifagent.formats.local`. Root, the agent's own user and members of the socket's group may
ask. The socket's mode says so, and since a mode may be changed, who connects is looked at as well. Nothing a reader
does, or does not do, disturbs the agent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ifagent.core.events import Declaration
from ifagent.core.interface import Name
from ifagent.core.state import StateEvent
from ifagent.errors import IfagentError, InvalidSettings
from ifagent.formats.local import DONE, MAX_REQUEST_BYTES, decode_line, encode_declaration, encode_line
from ifagent.formats.state import encode_event_json, encode_state_json
from ifagent.log import log

MODE = 0o660
"""The socket's mode: its owner and group may talk to the agent."""

DIRECTORY_MODE = 0o750
"""The mode of its directory, where the agent has to make that."""

MAX_READERS = 128
"""Most connections at one time."""

REQUEST_TIME = 5.0
"""Seconds that a client may take to say what it wants."""

FAREWELL_TIME = 5.0
"""Seconds that a client may take to read the end of an answer."""

REFUSAL_TIME = 0.5
"""Seconds that a client which is refused may take to say what it wanted: the answer is lost if it speaks after it."""

_HIGH_WATER = 64 * 1024
_SO_PEERGROUPS = 59
_PEER = struct.Struct("=iII")
"""``struct ucred``: process, user, group."""
_MAX_GROUPS = 256
"""Most groups of a client that are looked at: ``getsockopt`` of Python takes 1024 bytes."""


class Reporter(Protocol):
    """What the outlet needs of an agent."""

    def states(self, *, name: Name | None = None, foreign: bool = False) -> AsyncIterator[StateEvent]:
        """Return a snapshot, whose events are there without a wait, then every change."""

    def declarations(self) -> Mapping[Name, Declaration]:
        """Return everything that is declared."""


class RequestRefused(IfagentError):
    """A request over the socket cannot be answered; the message says why."""


class LocalSocket:
    """Answers programs on this machine at the unix socket ``path``.

    ``group`` is the id of the group whose members may ask, one that the process is a member of; unless given, it is
    the one that the kernel gives new files.
    """

    def __init__(self, agent: Reporter, path: Path | str, *, group: int | None = None) -> None:
        self._agent = agent
        self._path = Path(path)
        self._group = group
        self._readers = 0
        self._closed = False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled, then take the socket away; ``task_status.started()`` when it can be reached.

        Makes the directory. The socket that a dead agent left is replaced. Raises :class:`InvalidSettings` if
        a live one answers there, or if the socket cannot be made.
        """
        self._closed = False
        try:
            bound, file = _bind(self._path, self._group)
        except OSError as error:
            raise InvalidSettings(f"cannot make the socket {self._path}: {error.strerror or error}") from None
        self._group = file.st_gid
        try:
            async with anyio.create_task_group() as group:
                server = await asyncio.start_unix_server(partial(self._accept, group), sock=bound)
                try:
                    task_status.started()
                    await anyio.sleep_forever()
                finally:
                    self._closed = True
                    server.close()
        finally:
            _remove(self._path, file.st_ino)

    def _accept(self, group: TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
        else:
            group.start_soon(self._answer, reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._readers += 1
        try:
            await self._answer_one(reader, writer)
            writer.close()
            with anyio.move_on_after(FAREWELL_TIME):
                await writer.wait_closed()  # until what is left is sent
        except OSError as error:
            log.debug("a reader went away", problem=str(error))
        finally:
            self._readers -= 1
            writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            refusal = self._refusal(writer)
            line = await _read_request(reader, within=REFUSAL_TIME if refusal else REQUEST_TIME)
            if refusal:
                raise RequestRefused(refusal)
            if line:  # else it asked nothing, such as another agent that looks whether this one lives
                await self._do(decode_line(line), reader, writer)
        except IfagentError as error:
            writer.write(encode_line({"error": str(error)}))

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        """Say why whoever has connected may not ask; empty if it may."""
        client: socket.socket = writer.get_extra_info("socket")
        _, user, group = _PEER.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user not in {0, os.geteuid()} and self._group not in {group, *_further_groups(client)}:
            return f"user {user} may not ask: only root, user {os.geteuid()} and members of group {self._group} may"
        return f"there are {MAX_READERS} readers already" if self._readers > MAX_READERS else ""

    async def _do(self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = request.get("name")
        if not (name is None or isinstance(name, str)):
            raise RequestRefused("the name must be a string")
        foreign = request.get("foreign", False)
        if not isinstance(foreign, bool):
            raise RequestRefused("foreign must be true or false")
        match request.get("do"):
            case "states":
                events = [event async for event in _now(self._agent.states(foreign=foreign))]
                await _send(writer, [encode_state_json(event.state) + b"\n" for event in events if event.state])
            case "declarations":
                declared = self._agent.declarations()
                await _send(writer, [encode_line(encode_declaration(one)) for one in declared.values()])
            case "watch":
                await self._watch(self._agent.states(name=name, foreign=foreign), reader, writer)
            case what:
                raise RequestRefused(f"cannot do {what!r}; can do states, watch and declarations")
        await _send(writer, [encode_line(DONE)])

    async def _watch(
        self, events: AsyncIterator[StateEvent], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        listed = [encode_event_json(event) + b"\n" async for event in _now(events)]
        await _send(writer, [*listed, encode_line({"listed": len(listed)})])
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_at_end, reader, group.cancel_scope)
            async for event in events:
                await _send(writer, [encode_event_json(event) + b"\n"])
            group.cancel_scope.cancel()


def _bind(path: Path, group: int | None) -> tuple[socket.socket, os.stat_result]:
    """Return a socket that is bound to ``path`` but does not listen yet, and what is known of its file."""
    _make_directory(path.parent, group)
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise InvalidSettings(f"{path} is there and is not a socket")
        if _is_live(path):
            raise InvalidSettings(f"another agent answers at {path}; give this one another label or socket")
        path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        # Nobody can connect before it listens, so nobody finds it with another group or mode.
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(MODE)
        return bound, path.stat()
    except OSError:
        bound.close()
        raise


def _make_directory(directory: Path, group: int | None) -> None:
    """Have the directory there; one that somebody made is left as it is."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        return
    if group is not None:
        os.chown(directory, -1, group)


def _further_groups(client: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups of whoever has connected; none if there are too many to be told."""
    try:
        found = client.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"={len(found) // 4}I", found)


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass  # too busy to accept, so it lives
        return True


def _remove(path: Path, inode: int) -> None:
    try:
        if path.stat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("the socket cannot be removed", path=str(path), problem=str(error))


async def _read_request(reader: asyncio.StreamReader, *, within: float) -> bytes:
    """Return the request's line; empty if the client asked nothing. ``within`` is in seconds."""
    line = b""
    with anyio.move_on_after(within):
        while not line.endswith(b"\n") and len(line) <= MAX_REQUEST_BYTES:
            more = await reader.read(MAX_REQUEST_BYTES + 1 - len(line))
            if not more:
                return b""
            line += more
        if b"\n" not in line:
            raise RequestRefused(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        return line
    raise RequestRefused(f"no request came within {within:g} s")


async def _now(events: AsyncIterator[StateEvent]) -> AsyncIterator[StateEvent]:
    """Yield the events that are there without a wait."""
    while True:
        event = None
        with anyio.move_on_after(0):
            event = await anext(events, None)
        if event is None:
            return
        yield event


async def _send(writer: asyncio.StreamWriter, lines: Iterable[bytes]) -> None:
    """Write lines, waiting for a slow reader."""
    unsent = 0
    for line in lines:
        writer.write(line)
        unsent += len(line)
        if unsent >= _HIGH_WATER:
            await writer.drain()
            unsent = 0
    await writer.drain()


async def _cancel_at_end(reader: asyncio.StreamReader, scope: anyio.CancelScope) -> None:
    """Notice that the reader has gone, even while there is nothing to tell."""
    try:
        while await reader.read(MAX_REQUEST_BYTES):
            pass
    except OSError:
        pass
    scope.cancel()
