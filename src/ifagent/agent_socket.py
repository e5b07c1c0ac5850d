"""Client for the unix socket of an agent on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio

from ifagent.core.events import Declaration
from ifagent.core.names import Name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.core.watched_states import WatchedStates
from ifagent.errors import InvalidState, SourceLost
from ifagent.formats.socket_protocol import MAX_ANSWER_BYTES, decode_declaration, decode_line, encode_line
from ifagent.formats.state import decode_event, decode_state_fields
from ifagent.log import log

SOCKET_DIRECTORY = Path("/run/ifagent")
"""Default directory of agents' sockets."""

CONNECT_TIME = 5.0
"""Seconds to wait for the agent to accept a connection."""

RETRY = 0.5
"""Seconds between two attempts to reconnect."""


def default_socket(label: str) -> Path:
    """Return the default path of the socket of the agent called ``label``."""
    return SOCKET_DIRECTORY / f"{label}.sock"


async def fetch_states(socket: Path, *, foreign: bool = False) -> dict[Name, InterfaceState]:
    """Return every state that the agent has, sorted by name.

    With ``foreign``, foreign links are among them.
    Raises :class:`SourceLost` if no agent answers at ``socket``, or its answer is cut off.
    """
    async with aclosing(_lines(socket, _request("states", foreign=foreign))) as lines:
        states = [decode_state_fields(fields) async for fields, _ in lines]
    return {state.name: state for state in sorted(states, key=lambda state: state.name)}


async def fetch_declarations(socket: Path) -> dict[Name, Declaration]:
    """Return all declarations that the agent has, sorted by name. Raises :class:`SourceLost`."""
    async with aclosing(_lines(socket, {"do": "declarations"})) as lines:
        declarations = [decode_declaration(fields) async for fields, _ in lines]
    return {one.key.name: one for one in sorted(declarations, key=lambda one: one.key)}


async def watch_states(
    socket: Path, *, name: Name | None = None, foreign: bool = False
) -> AsyncGenerator[StateEvent, None]:
    """Yield every state the agent has, then each change, without end; of one interface if ``name`` is given.

    With ``foreign``, foreign links are among them.
    Raises :class:`SourceLost` if no agent answers at first. An agent that is lost later is logged once and waited
    for; after its return only differences are yielded. ``seq`` starts at 1 and grows by one. Close it
    (``contextlib.aclosing``) when it is left early.
    """
    seen, request = _WatchedAgent(), _request("watch", name=name, foreign=foreign)
    while True:
        try:
            async with aclosing(_watch_once(socket, request, seen)) as events:
                async for event in events:
                    yield event
        except SourceLost as error:
            if not seen.listed:
                raise
            seen.lose(str(error))
        await anyio.sleep(RETRY)


class _WatchedAgent(WatchedStates):
    """The states that one watch has yielded, and whether the agent is connected."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = False
        self._lost = False

    def lose(self, problem: str) -> None:
        if not self._lost:
            log.warning("lost connection to the agent", problem=problem)
        self._lost = True

    def find(self) -> None:
        if self._lost:
            log.info("reconnected to the agent")
        self.listed, self._lost = True, False


def _request(do: str, *, name: Name | None = None, foreign: bool = False) -> dict[str, Any]:
    wishes = {"name": name, "foreign": foreign or None}
    return {"do": do} | {wish: value for wish, value in wishes.items() if value is not None}


async def _watch_once(socket: Path, request: dict[str, Any], seen: _WatchedAgent) -> AsyncGenerator[StateEvent, None]:
    """Yield the events of one connection, without those that repeat what was yielded before."""
    first, now_there = not seen.listed, set()
    async with aclosing(_lines(socket, request)) as lines:
        async for fields, line in lines:
            if "listed" in fields:
                seen.find()
                for gone in [name for name in seen.states if name not in now_there]:
                    if deletion := seen.withdraw(gone):
                        yield deletion
                continue
            event = decode_event(line)
            now_there.add(event.name)
            if event.event is not Change.SNAPSHOT or event.state is None or first:
                yield seen.tell(event.event, event.name, event.state, event.missed)
            elif difference := seen.difference(event.name, event.state):
                yield difference


async def _lines(socket: Path, request: dict[str, Any]) -> AsyncGenerator[tuple[dict[str, Any], bytes], None]:
    """Send a request and yield the lines of the answer, both decoded and as received."""
    where = f"the agent at {socket}"
    try:
        with anyio.fail_after(CONNECT_TIME):
            reader, writer = await asyncio.open_unix_connection(socket, limit=MAX_ANSWER_BYTES)
    except TimeoutError:
        raise SourceLost(where, "does not accept connections") from None
    except PermissionError:
        text = "permission denied: only root, the agent's user and members of the socket's group have access"
        raise SourceLost(where, text) from None
    except OSError as error:
        raise SourceLost(where, f"cannot be reached, is it running? ({error.strerror or error})") from None
    try:
        writer.write(encode_line(request))
        while (line := await reader.readline()).endswith(b"\n"):
            fields = decode_line(line)
            if "done" in fields:
                return
            if "error" in fields:
                raise SourceLost(where, str(fields["error"]))
            yield fields, line
        raise SourceLost(where, "closed the connection")
    except OSError:
        raise SourceLost(where, "closed the connection") from None
    except (InvalidState, ValueError) as error:
        raise SourceLost(where, f"sent an invalid answer: {error}") from None
    finally:
        writer.transport.abort()
