"""rtnetlink sockets: one for requests and their answers, one for notifications.

Both are in a namespace where somebody else may be root and send to them. Only messages from the kernel are used.

The kernel executes a request within ``send()``, and its answer can be read when that returns.
So a request blocks its thread while the kernel works, and reading the answer never blocks.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from ifagent.kernel.attributes import UNREADABLE
from ifagent.kernel.netlink import Ack, Message, parse_ack, split
from ifagent.kernel.requests import set_sequence
from ifagent.kernel.rtnetlink import NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR

T = TypeVar("T")

SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_DROP_MEMBERSHIP: Final = 2
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
SO_RCVBUFFORCE: Final = 33
SO_NETNS_COOKIE: Final = 71

RTNLGRP_LINK: Final = 1
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV6_IFADDR: Final = 9
RTNLGRP_NSID: Final = 28

RECEIVE_SIZE: Final = 65536
"""Bytes offered to one receive: the kernel fills a dump's datagram with up to 32 KiB."""

MAX_DATAGRAM: Final = 1 << 20
"""Bytes of the longest datagram that is read. A link message is longer than 64 KiB if the link has hundreds of
altnames, and hardly longer than several times that."""

BATCH_MESSAGES: Final = 64
"""Most requests in one send. Each acknowledgement takes about 1 KiB of a receive buffer of 208 KiB."""

BATCH_BYTES: Final = 32768
"""Most bytes in one send, well below the kernel's default send buffer."""

DUMP_TRIES: Final = 5
"""How often a dump is repeated because something changed during it."""

_CUT_OFF: Final = int(socket.MSG_TRUNC)  # as a member of an enum it costs more than to receive
_GROUPS: Final = (RTNLGRP_NSID, RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR)


class RequestSocket:
    """Sends requests in the namespace that it was made in; to be used by one thread at a time.

    ``max_listed`` is how many messages a dump may have: a namespace with more links or addresses is not listed.
    """

    def __init__(self, *, max_listed: int = 100_000) -> None:
        """Open the socket in the calling thread's namespace. Raises ``OSError``."""
        self._max_listed = max_listed
        self._socket = _open()
        self._sequence = self._oldest = 0
        self._peek = bytearray(1)
        try:
            for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
            self._socket.connect((0, 0))  # from now on only the kernel can send to it
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for ioctls."""
        return self._socket.fileno()

    def request(self, messages: Sequence[bytes]) -> list[Ack]:
        """Execute requests in order, and return the kernel's answer to each.

        A refused request does not stop those after it. An error of the socket itself is the answer to all requests
        that are still unanswered.
        """
        acks: list[Ack] = []
        for batch in _batches(messages):
            acks += self._request(batch)
        return acks

    def dump(self, message: bytes) -> list[tuple[bytes, Message]]:
        """Return all messages that answer a dump request, with the datagrams that contain them.

        Where the kernel says that something changed meanwhile the dump is repeated, a few times; whoever reads
        notifications too knows every change and can use the last answer. Raises ``OSError``, also for more
        messages than ``max_listed``.
        """
        most = self._max_listed
        found = self.pick(message, lambda data, answer: (data, answer), most=most + 1)
        if len(found) > most:
            raise OSError(errno.E2BIG, f"more than {most} entries")
        return found

    def pick(self, message: bytes, take: Callable[[bytes, Message], T | None], *, most: int) -> list[T]:
        """Return the results of ``take`` for the messages of a dump: all but ``None``, and no more than ``most``.

        Repeated as in :meth:`dump`, and raises what that and ``take`` raise.
        """
        for _ in range(DUMP_TRIES):
            found, interrupted = self._dump(message, take, most)
            if not interrupted:
                break
        return found

    def ask(self, message: bytes) -> tuple[bytes, Message]:
        """Return the one message that answers a request. Raises ``OSError`` with the kernel's refusal."""
        self._send([message])
        for data, answer in self._answers():
            if answer.type == NLMSG_ERROR:
                raise _refusal(parse_ack(data, answer))
            return data, answer
        raise OSError(errno.ENOBUFS, "the answer was lost")

    def _request(self, batch: Sequence[bytes]) -> list[Ack]:
        found: dict[int, Ack] = {}
        first = self._sequence + 1
        try:
            self._send(batch)
            for data, answer in self._answers():
                if answer.type == NLMSG_ERROR:
                    found[answer.sequence] = parse_ack(data, answer)
                if len(found) == len(batch):
                    break
            lost = Ack(errno.ENOBUFS, "the acknowledgement was lost")
        except OSError as error:
            lost = Ack(error.errno or errno.EIO, error.strerror or str(error))
        return [found.get(first + i, lost) for i in range(len(batch))]

    def _dump(self, message: bytes, take: Callable[[bytes, Message], T | None], most: int) -> tuple[list[T], bool]:
        self._send([message])
        found: list[T] = []
        interrupted = False
        problem: Exception | None = None
        for data, answer in self._answers():
            interrupted = interrupted or bool(answer.flags & NLM_F_DUMP_INTR)
            if answer.type in {NLMSG_DONE, NLMSG_ERROR}:
                ack = parse_ack(data, answer)
                if ack.errno:
                    raise _refusal(ack)
                if problem is not None:
                    raise problem
                return found, interrupted
            # The rest is read all the same, or the next request would get it, or be refused.
            if len(found) == most or problem is not None:
                continue
            try:
                taken = take(data, answer)
            except UNREADABLE as error:
                problem = error
            else:
                found += [] if taken is None else [taken]
        raise OSError(errno.ENOBUFS, "the end of a listing was lost")

    def _send(self, batch: Sequence[bytes]) -> None:
        data = bytearray(b"".join(batch))
        offset = 0
        if self._sequence + len(batch) >= 1 << 32:
            self._sequence = 0
        self._oldest = self._sequence + 1
        for message in batch:
            self._sequence += 1
            set_sequence(data, offset, self._sequence)
            offset += len(message)
        self._socket.send(data)

    def _answers(self) -> Iterator[tuple[bytes, Message]]:
        """Yield the answers to the last send, until there are no more."""
        while True:
            try:
                # How long it is, without taking it; in one step, a longer one would be cut off.
                size = self._socket.recv_into(self._peek, 0, socket.MSG_PEEK | socket.MSG_TRUNC)
                data, _, _, (sender, _) = self._socket.recvmsg(min(max(size, RECEIVE_SIZE), MAX_DATAGRAM))
            except BlockingIOError:
                return
            if sender:  # sent before the socket was connected
                continue
            for message in split(data):
                if self._oldest <= message.sequence <= self._sequence:
                    yield data, message


class ListenSocket:
    """Receives the notifications about links, addresses and nsids of the namespace in which it was opened."""

    def __init__(self, *, buffer: int) -> None:
        """Open in the calling thread's namespace and subscribe; see :meth:`resize`. Raises ``OSError``."""
        self._socket = _open()
        try:
            self.resize(buffer)
            self._socket.bind((0, 0))
            self._socket.connect((0, 0))  # only the kernel can send to it, except to a multicast group
            self.subscribe()
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    @property
    def cookie(self) -> int:
        """A number that is unique to the socket's namespace since boot, unlike its inode number; 0: unsupported."""
        try:
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:  # before Linux 5.14
            return 0

    def resize(self, buffer: int) -> None:
        """Set the size of the receive buffer in bytes; the kernel doubles it, and limits it for non-root processes."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

    def subscribe(self) -> None:
        """Receive notifications from now on. Raises ``OSError``."""
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def unsubscribe(self) -> None:
        """Receive no more notifications, so that none are buffered. Raises ``OSError``."""
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)

    def receive(self, buffer: Sequence[memoryview]) -> bytes:
        """Return one datagram, read into ``buffer``; an empty one where it was not from the kernel.

        Raises ``BlockingIOError`` when there is none, and ``OSError`` after some were lost.
        """
        # Into an existing buffer: allocating one for each datagram costs more than reading it.
        size, _, flags, (sender, _) = self._socket.recvmsg_into(buffer)
        if sender:  # privileged processes can write to this socket; only the kernel is believed
            return b""
        if flags & _CUT_OFF:
            raise OSError(errno.EMSGSIZE, "a notification was cut off")
        return bytes(buffer[0][:size])

    def empty(self) -> None:
        """Discard what is pending; for a socket that is not subscribed. Raises ``OSError``."""
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost
                    raise


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.settimeout(0)  # no bearing on requests, the kernel works in send() all the same
    return opened


def _batches(messages: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == BATCH_MESSAGES or size + len(message) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message)
    if batch:
        yield batch


def _refusal(ack: Ack) -> OSError:
    text = os.strerror(ack.errno)
    return OSError(ack.errno, f"{text} ({ack.text})" if ack.text else text)
