"""Notifications of starting processes from the kernel's process connector (``linux/cn_proc.h``).

It works only in the initial network namespace, for processes in the initial user and pid namespace: requests from
others are refused, or not answered at all. A process in another network namespace creates its socket in the initial
one.

A message is a ``nlmsghdr`` (16 bytes), a ``cn_msg`` (20) and a ``proc_event``: what happened, on which CPU, when
(16), and then thread and process ids in pairs.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from contextlib import suppress
from typing import Final

from ifagent.nsfs import in_netns_at

_NETLINK_CONNECTOR: Final = 11
_CN_IDX_PROC: Final = 1
_LISTEN: Final = 1
_IGNORE: Final = 2
_ACK: Final = 0
_FORK: Final = 0x1
_EXEC: Final = 0x2

_NLMSGHDR: Final = struct.Struct("=IHHII")
_CN_MSG: Final = struct.Struct("=IIIIHH")
_WHAT: Final = struct.Struct("=I")
_IDS: Final = struct.Struct("=IIII")
_CN_AT: Final = _NLMSGHDR.size
_WHAT_AT: Final = _CN_AT + _CN_MSG.size
_IDS_AT: Final = _WHAT_AT + 16
_NLMSG_DONE: Final = 3

_BATCH: Final = 1000


class Connector:
    """Reports processes that have started or executed another program since its creation.

    ``initial`` is a path of the initial network namespace; init is in it. ``buffer`` is the size of the socket's
    receive buffer in bytes: events that do not fit are lost.
    """

    def __init__(self, initial: str = "/proc/1/ns/net", *, buffer: int = 1 << 20) -> None:
        """Start listening; call it in a worker thread, because it may enter another network namespace.

        Raises ``OSError`` if the connector is unavailable, as it is where ``initial`` may not be accessed.
        """
        self._socket = _open(initial, buffer)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events."""
        return self._socket.fileno()

    def read(self) -> set[int] | None:
        """Return the process ids in pending events, ``None`` if events were lost. Never blocks."""
        pids: set[int] = set()
        try:
            for _ in range(_BATCH):
                message, sender = self._socket.recvfrom(512)
                if sender[0] == 0:  # the kernel
                    pids.update(named_pids(message))
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: the receive buffer overflowed
            return None
        return pids

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            _send(self._socket, _IGNORE)  # closing the socket does not decrement the kernel's count of listeners
        self._socket.close()


def named_pids(message: bytes) -> tuple[int, ...]:
    """Return the processes that a message says have started, or forked, or executed another program."""
    if len(message) < _IDS_AT + _IDS.size:
        return ()
    (what,) = _WHAT.unpack_from(message, _WHAT_AT)
    _, first, second_thread, second = _IDS.unpack_from(message, _IDS_AT)
    if what == _EXEC:
        return (first,)
    if what == _FORK and second == second_thread:  # else a thread
        return (first, second)
    return ()


def _open(initial: str, buffer: int) -> socket.socket:
    try:
        return _listen(buffer)
    except ConnectionRefusedError as refused:
        try:
            with in_netns_at(initial):
                return _listen(buffer)
        except OSError as error:
            raise error from refused


def _listen(buffer: int) -> socket.socket:
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
    try:
        listening.settimeout(0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listening.bind((0, _CN_IDX_PROC))
        mark = _send(listening, _LISTEN)
        _expect_acknowledgement(listening, mark)
        # From Linux 6.6 on this limits the events to these types; older kernels ignore it.
        _send(listening, _LISTEN, only=_FORK | _EXEC)
    except BaseException:
        listening.close()
        raise
    return listening


def _send(connector: socket.socket, operation: int, *, only: int | None = None) -> int:
    """Send a request, for all events or ``only`` those; return its mark, one less than that of its answer."""
    mark = secrets.randbelow(1 << 31)
    data = struct.pack("=I", operation) if only is None else struct.pack("=II", operation, only)
    request = _CN_MSG.pack(_CN_IDX_PROC, _CN_IDX_PROC, 0, mark, len(data), 0) + data
    header = _NLMSGHDR.pack(_NLMSGHDR.size + len(request), _NLMSG_DONE, 0, 0, 0)
    connector.send(header + request)
    return mark


def _expect_acknowledgement(connector: socket.socket, mark: int) -> None:
    """Read events until the answer, which is available as soon as the request is sent."""
    while True:
        try:
            message, sender = connector.recvfrom(512)
        except BlockingIOError:
            raise OSError(errno.EPERM, "the process connector does not answer in this pid or user namespace") from None
        if sender[0] or len(message) < _IDS_AT + _WHAT.size:  # not from the kernel, or too short
            continue
        _, _, _, acknowledged, _, _ = _CN_MSG.unpack_from(message, _CN_AT)
        (what,) = _WHAT.unpack_from(message, _WHAT_AT)
        if what == _ACK and acknowledged == mark + 1:
            (failure,) = _WHAT.unpack_from(message, _IDS_AT)
            if failure:
                raise OSError(failure, "the process connector refused to speak")
            return
