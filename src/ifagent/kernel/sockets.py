"""rtnetlink sockets: one for requests and their answers, one that listens.

Both are in a namespace where somebody else may be root and send to them. Only what the kernel sent counts.

The kernel carries a request out inside ``send()``, and its answer is there to be read when that returns.
So a request blocks its thread as long as the kernel works, and reading the answer never does.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from ifagent.kernel.attributes import UNREADABLE
from ifagent.kernel.messages import Ack, Message, parse_ack, split
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
"""Bytes of the longest datagram that is read. What one link has to say is longer than 64 KiB if somebody gives it
hundreds of alternative names, and can hardly be longer than several times that."""

BATCH_MESSAGES: Final = 64
"""Most requests in one send. Each acknowledgement takes about 1 KiB of a receive buffer of 208 KiB."""

BATCH_BYTES: Final = 32768
"""Most bytes in one send, well below the kernel's default send buffer."""

MAX_LISTED: Final = 100_000
"""Most messages that one listing may have: who has more links or addresses in a namespace is up to no good."""

DUMP_TRIES: Final = 5
"""How often a dump is begun anew because something changed under it."""

_CUT_OFF: Final = int(socket.MSG_TRUNC)  # as a member of an enum it costs more than to receive
_GROUPS: Final = (RTNLGRP_NSID, RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR)


class RequestSocket:
    """Sends requests in the namespace that it was made in; to be used by one thread at a time."""

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace. Raises ``OSError``."""
        self._socket = _open()
        self._sequence = self._oldest = 0
        self._peek = bytearray(1)
        try:
            for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
            self._socket.connect((0, 0))  # from now on the kernel alone can send to it
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for requests that are not messages."""
        return self._socket.fileno()

    def request(self, messages: Sequence[bytes]) -> list[Ack]:
        """Have requests carried out in order, and return the kernel's answer to each.

        A request that is refused does not stop those after it. An error of the socket itself is the answer
        to all requests that it leaves open.
        """
        acks: list[Ack] = []
        for batch in _batches(messages):
            acks += self._request(batch)
        return acks

    def dump(self, message: bytes) -> list[tuple[bytes, Message]]:
        """Return all that the kernel lists in answer to a dump request, as datagrams and messages in them.

        Where the kernel says that something changed meanwhile it is asked again, a few times; whoever listens
        to notifications too hears of every change and can do with the last answer. Raises ``OSError``, also where it
        is more than :data:`MAX_LISTED` messages.
        """
        most = MAX_LISTED
        found = self.pick(message, lambda data, answer: (data, answer), most=most + 1)
        if len(found) > most:
            raise OSError(errno.E2BIG, f"a listing has more than {most} entries")
        return found

    def pick(self, message: bytes, take: Callable[[bytes, Message], T | None], *, most: int) -> list[T]:
        """Return what ``take`` makes of what the kernel lists: all but ``None``, and no more than ``most``.

        Asked again as :meth:`dump` does, and raises what that and ``take`` raise.
        """
        for _ in range(DUMP_TRIES):
            found, interrupted = self._dump(message, take, most)
            if not interrupted:
                break
        return found

    def ask(self, message: bytes) -> tuple[bytes, Message]:
        """Return the one message that answers a request. Raises ``OSError`` with what the kernel said."""
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
        """Yield what answers the last send, until the kernel has nothing more to say."""
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
    """Hears of every change of links, addresses and namespace ids in the namespace that it was made in."""

    def __init__(self, *, buffer: int) -> None:
        """Open in the calling thread's namespace and subscribe; see :meth:`resize`. Raises ``OSError``."""
        self._socket = _open()
        try:
            self.resize(buffer)
            self._socket.bind((0, 0))
            self._socket.connect((0, 0))  # nobody but the kernel can send to it, unless to a group
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
        """What tells the socket's namespace from all others of this boot, unlike its inode number; 0: not told."""
        try:
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:  # before Linux 5.14
            return 0

    def resize(self, buffer: int) -> None:
        """Have so many bytes for what is not yet read; the kernel takes that twice, and less from who is not root."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

    def subscribe(self) -> None:
        """Hear what happens from now on. Raises ``OSError``."""
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def unsubscribe(self) -> None:
        """Hear nothing more, so that nothing more is kept to be read. Raises ``OSError``."""
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)

    def receive(self, buffer: Sequence[memoryview]) -> bytes:
        """Return one datagram, read by way of a buffer; an empty one where it was not the kernel's.

        Raises ``BlockingIOError`` when there is none, and ``OSError`` after some were lost.
        """
        # Into a buffer that is there already: making one for each datagram costs more than reading it.
        size, _, flags, (sender, _) = self._socket.recvmsg_into(buffer)
        if sender:  # anybody with the right to may write to this socket; only the kernel is believed
            return b""
        if flags & _CUT_OFF:
            raise OSError(errno.EMSGSIZE, "a notification was cut off")
        return bytes(buffer[0][:size])

    def empty(self) -> None:
        """Throw away what is there to be read; for a socket that is not subscribed. Raises ``OSError``."""
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
    said = os.strerror(ack.errno)
    return OSError(ack.errno, f"{said} ({ack.text})" if ack.text else said)
