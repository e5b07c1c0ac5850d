"""Files that a client of a unix socket passes along (``SCM_RIGHTS``). They are never wanted here.

The kernel closes a file in the thread that lets go of it last. A client can have that wait: a TCP socket with
``SO_LINGER`` and unsent data takes as long to close as the client said. So such files must not come to the event loop,
neither when a message with them is received nor when a connection is closed that has one unread.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

import anyio

SO_PASSRIGHTS: Final = 83
"""Whether a socket takes files, from Linux 6.16 on; whoever tries to pass some is told ``EPERM``."""

MAX_CLOSING: Final = 64
"""Most connections that threads are closing at a time, after which no more are to be accepted."""

_LOOKED_AT: Final = 64 * 1024
"""Bytes that are looked at for files among them."""


def refuse_files(listener: socket.socket) -> None:
    """Have a unix socket, before it listens, and its connections take no files, where the kernel can do that."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


async def receive(connection: socket.socket, most: int) -> bytes:
    """Receive as :meth:`asyncio.loop.sock_recv` does; raises ``ConnectionAbortedError`` if files come with it."""
    while True:
        try:
            data, _, flags, _ = connection.recvmsg(most, 0, socket.MSG_PEEK)
        except BlockingIOError:
            await anyio.wait_readable(connection)
            continue
        if flags & socket.MSG_CTRUNC:
            raise ConnectionAbortedError("the client sent file descriptors")
        return connection.recv(len(data)) if data else b""


class Closing:
    """Closes connections without waiting."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0

    @property
    def is_full(self) -> bool:
        """True while so many connections are being closed that no further one should be accepted."""
        return self._count >= MAX_CLOSING

    def close(self, connection: socket.socket) -> None:
        """Close a connection; one to a unix socket in a thread if files may be in it that nobody has received."""
        if connection.family != socket.AF_UNIX:
            connection.close()
            return
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)  # nothing more comes
        if not _may_hold_files(connection):
            connection.close()
            return
        with self._lock:
            self._count += 1
        Thread(target=self._close, args=(connection,), name="closing", daemon=True).start()

    def _close(self, connection: socket.socket) -> None:
        try:
            connection.close()
        finally:
            with self._lock:
                self._count -= 1


def _may_hold_files(connection: socket.socket) -> bool:
    """Tell whether files may come with what is unread: the kernel says so of the first of it."""
    try:
        data, _, flags, _ = connection.recvmsg(_LOOKED_AT, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    return bool(flags & socket.MSG_CTRUNC) or len(data) == _LOOKED_AT
