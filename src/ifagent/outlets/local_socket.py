"""States for programs on this machine: a unix socket, one request per connection.

The lines are those of :mod:`ifagent.formats.socket_protocol`. Root, the agent's own user and members of the socket's
group may ask. The socket's mode says so; as a mode may be changed, the credentials of each client are checked too.
A misbehaving client disturbs neither the agent nor other users, see :mod:`ifagent.outlets.connections`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskStatus

from ifagent.core.state import StateEvent
from ifagent.errors import IfagentError, InvalidSettings
from ifagent.formats.socket_protocol import DONE, MAX_REQUEST_BYTES, decode_line, encode_declaration, encode_line
from ifagent.formats.state import encode_event_json, encode_state_json
from ifagent.log import log
from ifagent.outlets.connections import Client, Connections, Turns, piece, piece_of_events
from ifagent.outlets.contract import AgentView
from ifagent.outlets.unix_socket import listen, remove
from ifagent.stream import Subscription

T = TypeVar("T")

_SO_PEERGROUPS = 59
_PEER = struct.Struct("=iII")
"""``struct ucred``: process, user, group."""
_MAX_GROUPS = 256
"""Most supplementary groups of a client that are read: ``getsockopt`` of Python returns at most 1024 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many clients are answered, and for how long they are waited for."""

    connections: int = 128
    """Most connections at one time."""

    of_one: int = 64
    """Most connections of one user, root and the agent's own apart."""

    request_time: float = 5.0
    """Seconds that a client may take to send its request."""

    refusal_time: float = 0.5
    """Seconds that a refused client may take to send its request: the answer is lost if it sends it after that."""

    send_time: float = 10.0
    """Seconds that a client may take to read a piece of an answer other than a watch."""

    watch_time: float = 60.0
    """Seconds that a client may take to read a piece of a watch."""


class RequestRefused(IfagentError):
    """A request over the socket is refused; the message says why."""


class LocalSocket:
    """Serves programs on this machine at the unix socket ``path``.

    ``group`` is the id of the group whose members have access; the process must be a member of it. By default it is
    the one that the kernel gives new files. Unless the socket is ``required``, the agent runs without it if it cannot
    be created.
    """

    def __init__(
        self, path: Path | str, *, group: int | None = None, required: bool = True, limits: Limits = Limits()
    ) -> None:
        self._path = Path(path)
        self._group = group
        self._required = required
        self._limits = limits
        self._turns = Turns()
        self._agent: AgentView
        self._connections: Connections

    @property
    def ports(self) -> tuple[int, ...]:
        """None."""
        return ()

    async def run(self, agent: AgentView, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then remove the socket; calls ``task_status.started()`` once it listens.

        Creates the directory, and replaces the socket of a dead agent. Where a live agent answers, or the socket cannot
        be created, raises :class:`ifagent.errors.InvalidSettings` if it is required, and logs a warning otherwise.
        """
        self._agent, limits = agent, self._limits
        try:
            listener, file = await listen(self._path, group=self._group)
        except InvalidSettings as error:
            if self._required:
                raise
            log.warning("local socket disabled", problem=str(error))
            task_status.started()
            await anyio.sleep_forever()
        self._group = file.st_gid
        try:
            with listener:
                self._connections = Connections(
                    listener,
                    self._answer,
                    who=_user,
                    most=limits.connections,
                    most_of_one=min(limits.of_one, limits.connections),
                    refuse=self._refuse,
                    send_time=limits.send_time,
                )
                task_status.started()
                await self._connections.run()
        finally:
            remove(self._path, file.st_ino)

    async def _answer(self, client: Client) -> None:
        await self._answer_unless(self._refusal(client), client)

    async def _refuse(self, client: Client) -> None:
        full = f"limit of {self._limits.connections} connections reached"
        await self._answer_unless(self._refusal(client) or full, client)

    async def _answer_unless(self, refusal: str, client: Client) -> None:
        try:
            within = self._limits.refusal_time if refusal else self._limits.request_time
            line = await _read_request(client, within=within)
            if line and refusal:
                raise RequestRefused(refusal)
            if line:  # else there was no request: for example, another agent checks whether this one is alive
                async with self._connections.busy(client):
                    await self._do(decode_line(line), client)
        except IfagentError as error:
            await client.send(encode_line({"error": str(error)}))
            await client.finish()

    def _refusal(self, client: Client) -> str:
        """Return why the client has no access; empty if it has."""
        _, user, group = _PEER.unpack(client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user not in {0, os.geteuid()} and self._group not in {group, *_further_groups(client.socket)}:
            return (
                f"permission denied for user {user}: only root, user {os.geteuid()} and members of group {self._group} "
                f"have access"
            )
        return ""

    async def _do(self, request: dict[str, Any], client: Client) -> None:
        name = request.get("name")
        if not (name is None or isinstance(name, str)):
            raise RequestRefused("the name must be a string")
        foreign = request.get("foreign", False)
        if not isinstance(foreign, bool):
            raise RequestRefused("foreign must be true or false")
        match request.get("do"):
            case "states":
                with closing(self._agent.states(foreign=foreign)):  # foreign states exist only while subscribed to
                    states = self._agent.current_states(foreign=foreign)
                await self._send(client, list(states.values()), lambda one: encode_state_json(one) + b"\n")
            case "declarations":
                declared = list(self._agent.declarations().values())
                await self._send(client, declared, lambda one: encode_line(encode_declaration(one)))
            case "watch":
                events = self._agent.states(name=name, foreign=foreign)
                with closing(events):
                    await self._watch(events, client)
            case what:
                raise RequestRefused(f"unknown request {what!r}, expected states, watch or declarations")
        await client.send(encode_line(DONE))

    async def _send(
        self, client: Client, things: Iterable[T], encode: Callable[[T], bytes], *, within: float | None = None
    ) -> int:
        """Send a line for each thing, several at a time; return how many there were."""
        left, count = iter(things), 0
        while True:
            async with self._turns:
                lines = piece(left, encode)
            if not lines:
                return count
            await client.send(b"".join(lines), within=within)
            count += len(lines)

    async def _watch(self, events: Subscription, client: Client) -> None:
        """Send events until they end."""
        async with self._turns:
            listing = events.listing()
        listed = await self._send(client, listing, _event_line, within=self._limits.watch_time)
        await client.send(encode_line({"listed": listed}))
        await client.until_gone(self._follow(events, client))

    async def _follow(self, events: AsyncIterator[StateEvent], client: Client) -> None:
        async for event in events:
            async with self._turns:
                lines = await piece_of_events(event, events, _event_line)
            await client.send(b"".join(lines), within=self._limits.watch_time)


def _event_line(event: StateEvent) -> bytes:
    return encode_event_json(event) + b"\n"


def _user(connection: socket.socket) -> Hashable:
    """Return the user that a connection is counted under; root and the agent's own user are not limited."""
    user: int = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    return object() if user in {0, os.geteuid()} else user


def _further_groups(client: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups of the client; none if there are too many to read."""
    try:
        found = client.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"={len(found) // 4}I", found)


async def _read_request(client: Client, *, within: float) -> bytes:
    """Return the request's line; empty if the client disconnects without one. ``within`` is in seconds."""
    with anyio.move_on_after(within):
        line = await client.read_until(b"\n", most=MAX_REQUEST_BYTES)
        if line and not line.endswith(b"\n"):
            raise RequestRefused(f"request exceeds {MAX_REQUEST_BYTES} bytes")
        return line
    raise RequestRefused(f"no request received within {within:g} s")
