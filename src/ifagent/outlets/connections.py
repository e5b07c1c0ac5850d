"""Connections of untrusted clients, which may come in floods, send nothing, send slowly, never read or never leave.

Each connection has a task of its own. While it waits for a request it may be closed to make room for another one.
Answers are sent straight to the socket: a client that does not read costs the kernel's buffer and one piece of an
answer, for a limited time. One connection is accepted per turn of the event loop, and :data:`Turns` limits answers to
one piece per turn, so that the agent keeps running whatever clients do.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Final, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ifagent.core.state import StateEvent
from ifagent.log import log
from ifagent.passed_files import Closing, receive

MAX_UNREAD: Final = 1024 * 1024
"""Most bytes of surplus input that are read from a client, so that it gets to read the answer."""

LINGER_TIME: Final = 1.0
"""Seconds within which that input is read."""

MAX_REFUSED: Final = 16
"""Most clients that are sent a refusal at one time; further ones are just closed."""

MAX_IN_PIECE: Final = 16
"""Most states, or the like, in a piece of an answer."""

RETRY: Final = 0.1
"""Seconds until the next attempt to accept, where the kernel lacks files or memory for a connection."""

_LONG_PIECE: Final = 16 * 1024
_SEND_BUFFER: Final = 128 * 1024
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Turns = anyio.Lock
"""Held while a piece of an answer is made: one per turn of the event loop, first come, first served."""


T = TypeVar("T")


class Shared(Generic[T]):
    """Makes a result once for all callers that ask for it at the same time."""

    def __init__(self) -> None:
        self._in_work: dict[Hashable, tuple[anyio.Event, list[T]]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``make``, or of a call for the same key that is still in progress."""
        while key in self._in_work:
            done, made = self._in_work[key]
            await done.wait()
            if made:  # else the task that made it was cancelled
                return made[0]
        done, made = self._in_work[key] = anyio.Event(), []
        try:
            made.append(await make())
        finally:
            del self._in_work[key]
            done.set()
        return made[0]


def piece(things: Iterator[T], encode: Callable[[T], bytes]) -> list[bytes]:
    """Encode the next few things, as many as take a millisecond or less; empty once none are left.

    A single one may be long, such as the state of a link with a thousand addresses.
    """
    made: list[bytes] = []
    size = 0
    for thing in islice(things, MAX_IN_PIECE):
        made.append(encode(thing))
        size += len(made[-1])
        if size >= _LONG_PIECE:
            break
    return made


async def piece_of_events(
    first: StateEvent, events: AsyncIterator[StateEvent], encode: Callable[[StateEvent], bytes]
) -> list[bytes]:
    """Encode an event, and those after it that are available without waiting, as :func:`piece` does."""
    made = [encode(first)]
    size = len(made[0])
    while len(made) < MAX_IN_PIECE and size < _LONG_PIECE:
        event = None
        with anyio.move_on_after(0):
            event = await anext(events, None)
        if event is None:
            break
        made.append(encode(event))
        size += len(made[-1])
    return made


class Client:
    """One connection. ``who`` is what it is counted under, such as an address or a user.

    ``send_time`` is for how many seconds :meth:`send` waits for the client to read unless it is told otherwise.
    """

    def __init__(self, connection: socket.socket, who: Hashable, closing: Closing, *, send_time: float) -> None:
        self.who = who
        self._closing = closing
        self._send_time = send_time
        self.socket = connection
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.waits = True
        """No request is being answered, so the connection may be closed to make room."""
        self.resets = False
        """Closing discards what the client has not read; otherwise the kernel still delivers it."""
        self._received = b""

    async def receive(self, most: int) -> bytes:
        """Receive at most ``most`` bytes; empty at the end of the stream. Raises ``OSError``."""
        if self.socket.family == socket.AF_UNIX:
            return await receive(self.socket, most)
        return await asyncio.get_running_loop().sock_recv(self.socket, most)

    async def read_until(self, end: bytes, *, most: int) -> bytes:
        """Receive up to and including ``end``; without it within ``most`` bytes, return the first ``most + 1``.

        Empty if the client disconnects before.
        """
        searched = 0
        while True:
            found = self._received.find(end, max(0, searched - len(end)), most)
            if found >= 0 or len(self._received) > most:
                length = found + len(end) if found >= 0 else most + 1
                line, self._received = self._received[:length], self._received[length:]
                return line
            searched = len(self._received)
            more = await self.receive(most + 1 - searched)
            if not more:
                return b""
            self._received += more

    async def send(self, data: bytes, *, within: float | None = None) -> None:
        """Send, waiting for the client to read; raises ``TimeoutError`` if it does not ``within`` so many seconds."""
        with anyio.fail_after(self._send_time if within is None else within):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
            await anyio.lowlevel.checkpoint()  # a client that reads quickly must not starve others

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            if self.resets:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._closing.close(self.socket)

    async def until_gone(self, work: Awaitable[None]) -> None:
        """Run ``work``, and cancel it when the client disconnects; raises what ``work`` raises."""
        problem: OSError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_when_gone, group.cancel_scope)
            try:
                await work
            except OSError as error:
                problem = error
            group.cancel_scope.cancel()
        if problem is not None:
            raise problem

    async def _cancel_when_gone(self, scope: anyio.CancelScope) -> None:
        more = b""
        with suppress(OSError):
            more = await self.receive(1)
        if not more:  # else the client sent surplus input, which is ignored
            scope.cancel()

    async def finish(self) -> None:
        """Stop sending, and drain the client's input, so that it gets to read the answer instead of a reset."""
        with suppress(OSError), anyio.move_on_after(LINGER_TIME):
            self.socket.shutdown(socket.SHUT_WR)
            unread = MAX_UNREAD
            while unread > 0 and (more := await self.receive(64 * 1024)):
                unread -= len(more)
                await anyio.lowlevel.checkpoint()


Answer = Callable[[Client], Awaitable[None]]


class Connections:
    """Accepts connections at ``listener``, calls ``answer`` for each, and closes it afterwards.

    ``who`` returns what a connection is counted under. At most ``most`` are open at a time, and ``most_of_one`` under
    the same key. One more closes the connection that has waited for a request for longest. If all are busy, the new
    one is closed, some of them after ``refuse`` was called. ``send_time`` is how long, in seconds, a client may take to
    read a piece of an answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        *,
        who: Callable[[socket.socket], Hashable],
        most: int,
        most_of_one: int,
        refuse: Answer | None = None,
        send_time: float,
    ) -> None:
        listener.setblocking(False)  # noqa: FBT003 socket's signature
        self._listener = listener
        self._answer = answer
        self._who = who
        self._most = most
        self._most_of_one = most_of_one
        self._refuse = refuse
        self._send_time = send_time
        self._refused = 0
        self._clients: dict[Client, None] = {}
        """In the order in which they began to wait for a request; busy ones are among them."""
        self._count: Counter[Hashable] = Counter()
        self._closing = Closing()

    async def run(self) -> None:
        """Answer until cancelled, then close every connection; the listener is left open."""
        try:
            async with anyio.create_task_group() as group:
                while True:
                    await self._accept(group)
        finally:
            for client in self._clients:  # whose tasks never ran
                client.close()

    @asynccontextmanager
    async def busy(self, client: Client) -> AsyncIterator[None]:
        """Keep a client's connection from being closed for another one's while the block lasts."""
        client.waits = False
        try:
            yield
        finally:
            client.waits = True
            if client in self._clients:  # moved to the end: it has waited for the shortest time
                self._clients[client] = self._clients.pop(client)

    def close(self, client: Client) -> None:
        """Close a connection as soon as its task runs, discarding what the client has not read."""
        client.resets = True
        self._forget(client)
        client.scope.cancel()

    def _forget(self, client: Client) -> None:
        if client in self._clients:
            del self._clients[client]
            self._count[client.who] -= 1
            if not self._count[client.who]:
                del self._count[client.who]

    async def _accept(self, group: TaskGroup) -> None:
        if self._closing.is_full:
            await anyio.sleep(RETRY)
            return
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        except OSError as error:
            if error.errno in _NO_ROOM:
                log.warning("cannot accept connections", problem=error.strerror)
                self._close_one(lambda _client: True)
                await anyio.sleep(RETRY)
            return
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            client = Client(connection, self._who(connection), self._closing, send_time=self._send_time)
        except OSError:  # it has disconnected already
            self._closing.close(connection)
            return
        if self._has_room(client.who):
            self._clients[client] = None
            self._count[client.who] += 1
            group.start_soon(self._serve, client, self._answer)
        elif self._refuse is not None and self._refused < MAX_REFUSED:
            group.start_soon(self._serve_no_more, client, self._refuse)
        else:
            client.close()
        await anyio.lowlevel.checkpoint()

    def _has_room(self, who: Hashable) -> bool:
        """Make room for one more connection if necessary; return whether there is room."""
        if self._count[who] >= self._most_of_one:
            return self._close_one(lambda client: client.who == who)
        return len(self._clients) < self._most or self._close_one(lambda _client: True)

    def _close_one(self, condition: Callable[[Client], bool]) -> bool:
        victim = next((client for client in self._clients if client.waits and condition(client)), None)
        if victim is not None:
            self.close(victim)
        return victim is not None

    async def _serve_no_more(self, client: Client, refuse: Answer) -> None:
        self._refused += 1
        try:
            await self._serve(client, refuse)
        finally:
            self._refused -= 1

    async def _serve(self, client: Client, answer: Answer) -> None:
        try:
            with client.scope:
                await answer(client)
        except OSError as error:
            client.resets = True
            log.debug("client disconnected", problem=str(error) or "the client does not read")
        except Exception:  # noqa: BLE001 a bug that a client has found must not end the agent
            log.exception("cannot answer a client")
        finally:
            self._forget(client)
            client.close()
