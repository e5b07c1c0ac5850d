"""File descriptors that a client passes over a unix socket (``SCM_RIGHTS``): never accepted.

The kernel closes a file in the thread that drops the last reference, and a client can make that block: a TCP socket
with ``SO_LINGER`` and unsent data takes as long to close as the client has set. So such descriptors must not reach the
event loop's thread, neither by receiving a message with them nor by closing a connection with unread ones.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

import anyio

SO_PASSRIGHTS: Final = 83
"""Whether a socket accepts descriptors, from Linux 6.16 on; passing some fails with ``EPERM``."""

MAX_CLOSING: Final = 64
"""Most connections that threads are closing at a time, beyond which no more should be accepted."""

_LOOKED_AT: Final = 64 * 1024
"""Unread bytes that are checked for descriptors."""


def refuse_files(listener: socket.socket) -> None:
    """Make a unix socket, before it listens, and its connections refuse descriptors, if the kernel supports it."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


async def receive(connection: socket.socket, most: int) -> bytes:
    """Receive as :meth:`asyncio.loop.sock_recv` does; raises ``ConnectionAbortedError`` if descriptors come along."""
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
        """Close a connection; in a thread if it is of a unix socket and may hold unreceived descriptors."""
        if connection.family != socket.AF_UNIX:
            connection.close()
            return
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)  # so that no more arrive
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
    """Tell whether unread data may carry descriptors: the kernel reports that for the first message."""
    try:
        data, _, flags, _ = connection.recvmsg(_LOOKED_AT, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    return bool(flags & socket.MSG_CTRUNC) or len(data) == _LOOKED_AT
