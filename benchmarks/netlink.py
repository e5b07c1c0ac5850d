"""A minimal rtnetlink sender and listener, written by hand: the floor that the agent is compared with.

It knows nothing of the agent's own code. Messages are built beforehand; several go in one send; only the last of a
send asks for an acknowledgement, as the kernel tells of refusals anyway; one thread. It decides nothing and looks at
nothing: what it costs is what the kernel costs, plus as little Python as can be.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_interface
from itertools import count
from pathlib import Path
from typing import TypeVar

from benchmarks.fixture import GROUP, End, Pair

NEWLINK, DELLINK, GETLINK, NEWADDR, GETADDR = 16, 17, 18, 20, 22
NEWNSID = 88
LINKS, LINKS_AND_ADDRESSES = 0x1, 0x111
SO_RCVBUFFORCE, SOL_NETLINK, LISTEN_ALL_NSID = 33, 270, 8
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP, CREATE = 1, 4, 0x300, 0x400 | 0x200
IFNAME, ADDRESS, MTU, LINKINFO, LINK_GROUP, NET_NS_FD, EXT_MASK = 3, 1, 4, 18, 27, 28, 29
INFO_KIND, INFO_DATA, VETH_PEER = 1, 2, 1
UP = 1
CLONE_NEWNET = 0x40000000
MOST_BYTES = 32000
RECEIVE = 1 << 16

HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
ATTRIBUTE = struct.Struct("=HH")

_libc = ctypes.CDLL(None, use_errno=True)
_ifindexes = count(1000, 2)

T = TypeVar("T")


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute that is a number."""
    return attribute(kind, struct.pack("=I", value))


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return one request."""
    return HEADER.pack(16 + len(body), kind, REQUEST | flags, 1, 0) + body


def create_pair(near: End, far: End, ifindexes: tuple[int, int], fds: dict[str, int]) -> bytes:
    """Return the request that makes a pair where it is to be, the near end up."""

    def body(end: End, ifindex: int, flags: int) -> bytes:
        return b"".join(
            (
                LINK.pack(0, 0, ifindex, flags, flags),
                attribute(IFNAME, end.name.encode() + b"\0"),
                number(NET_NS_FD, fds[end.space]),
                attribute(ADDRESS, bytes.fromhex(end.mac.replace(":", ""))),
                number(MTU, end.mtu),
                number(LINK_GROUP, GROUP),
            )
        )

    peer = attribute(INFO_DATA, attribute(VETH_PEER, body(far, ifindexes[1], 0)))
    info = attribute(LINKINFO, attribute(INFO_KIND, b"veth\0") + peer)
    return message(NEWLINK, body(near, ifindexes[0], UP) + info, CREATE)


def set_up(ifindex: int) -> bytes:
    """Return the request that sets a link up."""
    return message(NEWLINK, LINK.pack(0, 0, ifindex, UP, UP))


def set_mtu(ifindex: int, mtu: int) -> bytes:
    """Return the request that sets a link's MTU."""
    return message(NEWLINK, LINK.pack(0, 0, ifindex, 0, 0) + number(MTU, mtu))


def add_address(ifindex: int, text: str) -> bytes:
    """Return the request that adds an address."""
    address = ip_interface(text)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBi", family, address.network.prefixlen, 0, 0, ifindex)
    return message(NEWADDR, body + attribute(2, address.ip.packed) + attribute(1, address.ip.packed), CREATE)


def delete_link(ifindex: int) -> bytes:
    """Return the request that deletes a link, and so its peer."""
    return message(DELLINK, LINK.pack(0, 0, ifindex, 0, 0))


def delete_group(group: int) -> bytes:
    """Return the request that deletes all links of a group in a namespace, and their peers."""
    return message(DELLINK, LINK.pack(0, 0, 0, 0, 0) + number(LINK_GROUP, group))


def dump_links() -> bytes:
    """Return the request to list all links, without counters."""
    return message(GETLINK, LINK.pack(0, 0, 0, 0, 0) + number(EXT_MASK, 8), DUMP)


def dump_addresses() -> bytes:
    """Return the request to list all addresses."""
    return message(GETADDR, bytes(8), DUMP)


def name_space(fd: int) -> bytes:
    """Return the request that gives a namespace an id in the sender's, which is needed to hear of it."""
    return message(NEWNSID, bytes(4) + number(3, fd) + attribute(1, struct.pack("=i", -1)))


def packed(messages: Iterable[bytes]) -> list[bytes]:
    """Put messages together to what goes in one send, the last of each with the wish for an acknowledgement."""
    sends: list[list[bytes]] = [[]]
    for each in messages:
        if sum(map(len, sends[-1])) + len(each) > MOST_BYTES:
            sends.append([])
        sends[-1].append(each)
    return [b"".join((*send[:-1], _with_ack(send[-1]))) for send in sends if send]


def _with_ack(data: bytes) -> bytes:
    length, kind, flags, _, port = HEADER.unpack_from(data)
    return HEADER.pack(length, kind, flags | ACK, 2, port) + data[16:]


def entered(path: str, work: Callable[[], T]) -> T:
    """Do something inside a namespace, in a thread of its own."""
    results: list[T] = []

    def enter() -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            if _libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {path}")
        finally:
            os.close(fd)
        results.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return results[0]


class Sender:
    """A socket that sends requests, made in the namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, data: bytes, *, accept: Sequence[int] = ()) -> None:
        """Have the kernel do what :func:`packed` has put together. Raises ``OSError`` for the first refusal."""
        self._socket.send(data)
        while True:
            answer = self._socket.recv(RECEIVE)
            sequence = HEADER.unpack_from(answer)[3]
            error = -struct.unpack_from("=i", answer, 16)[0]
            if error and error not in accept:
                raise OSError(error, os.strerror(error))
            if sequence == 2:
                return

    def dump(self, request: bytes) -> list[bytes]:
        """Return all datagrams of a listing, not decoded."""
        self._socket.send(request)
        found = [self._socket.recv(RECEIVE)]
        while HEADER.unpack_from(found[-1])[1] not in {DONE, ERROR}:
            found.append(self._socket.recv(RECEIVE))
        return found


class Listener:
    """A socket that hears of links, made in the namespace that the calling thread is in.

    With ``everywhere`` it hears of addresses too, in all namespaces that :func:`name_space` has been called with.
    """

    def __init__(self, *, everywhere: bool = False) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, LINKS_AND_ADDRESSES if everywhere else LINKS))
        if everywhere:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            self._socket.setsockopt(SOL_NETLINK, LISTEN_ALL_NSID, 1)

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def wait_mtu(self, name: str, mtu: int, *, within: float = 120.0) -> None:
        """Wait until a link is said to have an MTU. Raises ``TimeoutError``."""
        self._socket.settimeout(within)
        wanted = attribute(IFNAME, name.encode() + b"\0"), number(MTU, mtu)
        while True:
            data = self._socket.recv(RECEIVE)
            if all(each in data for each in wanted):
                return

    def drain(self) -> int:
        """Read everything that is there; return how many datagrams it was."""
        self._socket.settimeout(0)
        heard = 0
        with suppress(BlockingIOError):
            while self._socket.recv(RECEIVE):
                heard += 1
        return heard


class Floor:
    """Makes pairs: everything is prepared by :meth:`prepared`, and done by :meth:`run`."""

    def __init__(self, first: Sequence[bytes], later: dict[str, list[bytes]], ifindexes: list[int]) -> None:
        self.ifindexes = ifindexes
        self._first = first
        self._later = later

    @classmethod
    @contextmanager
    def prepared(cls, made: Iterable[Pair], directory: Path) -> Iterator[Floor]:
        """Build all messages; the files of the namespaces are open meanwhile."""
        made = list(made)
        with ExitStack() as stack:
            fds: dict[str, int] = {}
            for space in {end.space for pair in made for end in pair}:
                fds[space] = os.open(directory / space, os.O_RDONLY)
                stack.callback(os.close, fds[space])
            creates: list[bytes] = []
            later: dict[str, list[bytes]] = {}
            nears: list[int] = []
            for near, far in made:
                first = next(_ifindexes)
                nears.append(first)
                creates.append(create_pair(near, far, (first, first + 1), fds))
                for end, ifindex in ((near, first), (far, first + 1)):
                    requests = later.setdefault(str(directory / end.space), [])
                    if end is far:
                        requests.append(set_up(ifindex))
                    requests += [add_address(ifindex, end.ipv4), add_address(ifindex, end.ipv6)]
            yield cls(packed(creates), {path: packed(requests) for path, requests in later.items()}, nears)

    def run(self, heard: Callable[[], object] = lambda: None) -> None:
        """Have the kernel do it all, over one socket and then one in every namespace; do ``heard`` after each send."""
        sender = Sender()
        for data in self._first:
            sender.send(data)
            heard()
        sender.close()
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            for path, sends in self._later.items():
                fd = os.open(path, os.O_RDONLY)
                _libc.setns(fd, CLONE_NEWNET)
                os.close(fd)
                sender = Sender()
                for data in sends:
                    sender.send(data)
                    heard()
                sender.close()
        finally:
            if _libc.setns(home, CLONE_NEWNET):
                os._exit(1)  # in a namespace that nobody expects
            os.close(home)
