"""The sockets for notifications, one per namespace, and how much of each is read.

Each has a buffer of its own in the kernel, so notifications of one namespace cannot displace those of another. One
epoll waits for all. A namespace whose notifications take more time than its :class:`Allowance` falls *behind*: its
notifications are dropped until it has been listed and there are fewer of them.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from ifagent.core.link import NsId
from ifagent.kernel.allowance import Allowance
from ifagent.kernel.link_cache import Notification
from ifagent.kernel.netlink import Message, split
from ifagent.kernel.rtnetlink import IFINFO, RTM_DELLINK, RTM_DELNSID, RTM_NEWLINK, RTM_NEWNSID
from ifagent.kernel.sockets import MAX_DATAGRAM, ListenSocket

BUFFERS: Final = 128 << 20
"""Bytes of all receive buffers together; the kernel uses twice as many once they are full."""

SMALLEST_BUFFER: Final = 64 << 10
"""Bytes for some 50 notifications of links, or 150 of addresses."""

LARGEST_BUFFER: Final = 4 << 20
"""Bytes for 3,600 notifications of links: of the agent's own namespace, and of others while they are few."""

BURST: Final = 0.02
"""Seconds of the loop's time that a namespace may take at once, for some hundred notifications."""

RATE: Final = 0.1
"""Share of the loop's time that a namespace may take permanently. A link that flaps as fast as possible takes half of
that in the namespace of its peer, which must not fall behind."""

OWN_SHARE: Final = 4
"""Factor for the agent's own namespace, which may contain the peers of all containers' links."""

ALL_BURST, ALL_RATE = 0.1, 0.3
"""The same for all namespaces together: once it is used up, those that have used much of their own lately wait."""

COMPLETE: Final = 512
"""Minimal size in bytes of a complete link message; a partial one, such as a wireless event, is shorter."""

AT_A_TIME: Final = 32
"""Messages that are read between two checks of the time."""


class Listener:
    """The notifications of one namespace. ``behind`` tells that it is not followed."""

    def __init__(self, namespace: NsId, socket: ListenSocket, *, share: int = 1) -> None:
        """Read from a socket that outlives this object; ``share`` multiplies the allowance."""
        self.namespace = namespace
        self.socket = socket
        self.allowance: Allowance = Allowance(burst=BURST * share, rate=min(RATE * share, 1.0))
        self.behind: bool = False
        self.received: int = 0
        self.recorded: list[Notification] | None = None
        self.settled: int = 0
        self._unread: list[tuple[bytes, Message]] = []
        self._latest: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many messages were received and not parsed yet."""
        return len(self._unread)

    def gather(self, buffer: Sequence[memoryview], seconds: float, most: float = math.inf) -> bool:
        """Receive all that is pending on the socket; tell whether it was everything.

        It is not if that takes longer than ``seconds``, or there are more than ``most`` datagrams. Raises ``OSError``
        where something was lost, or cannot be read.
        """
        began, most = time.thread_time(), self.received + most
        while self.received <= most and time.thread_time() - began < seconds:
            for _ in range(AT_A_TIME):
                try:
                    data = self.socket.receive(buffer)
                except BlockingIOError:
                    return True
                self.received += 1
                for message in split(data):
                    self._keep(data, message)
        return False

    def take(self, count: int) -> Iterator[tuple[bytes, Message]]:
        """Remove and return the oldest ``count`` received messages."""
        taken, self._unread = self._unread[:count], self._unread[count:]
        self._latest = {ifindex: place - count for ifindex, place in self._latest.items() if place >= count}
        return iter(taken)

    def forget(self) -> None:
        """Forget all received messages."""
        self._unread.clear()
        self._latest.clear()

    def _keep(self, data: bytes, message: Message) -> None:
        """Keep a message until it is parsed; of several about one link, only the latest."""
        if message.type == RTM_NEWLINK and message.end - message.start >= COMPLETE:
            ifindex = IFINFO.unpack_from(data, message.start)[2]
            place = self._latest.setdefault(ifindex, len(self._unread))
            if place < len(self._unread):
                self._unread[place] = data, message
                return
        elif message.type in {RTM_DELLINK, RTM_NEWNSID, RTM_DELNSID}:
            self._latest.clear()
        self._unread.append((data, message))


class Listeners:
    """All listeners, and one descriptor that is readable when any of them is."""

    def __init__(self, own: NsId, *, buffer: int | None = None) -> None:
        """Start without any; ``own`` is the agent's namespace, ``buffer`` the bytes of each, unless shared."""
        self._own = own
        self._fixed = buffer
        self._buffer = [memoryview(bytearray(MAX_DATAGRAM))]
        self._epoll = select.epoll()
        self._allowance = Allowance(burst=ALL_BURST, rate=ALL_RATE)
        self._by_namespace: dict[NsId, Listener] = {}
        self._by_descriptor: dict[int, Listener] = {}
        self._size = self._share()

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the descriptor. The sockets belong to the lanes."""
        self._epoll.close()

    def __contains__(self, namespace: NsId) -> bool:
        return namespace in self._by_namespace

    def __getitem__(self, namespace: NsId) -> Listener:
        return self._by_namespace[namespace]

    def get(self, namespace: NsId) -> Listener | None:
        """Return the listener of a namespace."""
        return self._by_namespace.get(namespace)

    def add(self, namespace: NsId, socket: ListenSocket) -> None:
        """Follow a namespace from now on. Raises ``OSError``."""
        listener = Listener(namespace, socket, share=OWN_SHARE if namespace == self._own else 1)
        self._epoll.register(socket.fileno(), select.EPOLLIN)
        self._by_namespace[namespace] = self._by_descriptor[socket.fileno()] = listener
        self._resize()

    def remove(self, namespace: NsId) -> None:
        """Forget a namespace. Idempotent."""
        listener = self._by_namespace.pop(namespace, None)
        if listener is not None and not listener.behind:
            self._unregister(listener)
        self._resize()

    def fall_behind(self, listener: Listener) -> None:
        """Stop following a namespace until :meth:`catch_up`, and drop its notifications."""
        listener.behind = True
        listener.forget()
        self._unregister(listener)
        listener.socket.unsubscribe()

    def catch_up(self, listener: Listener, most: int) -> bool:
        """Follow a namespace again whose socket has been subscribed again.

        False where there have been more than ``most`` notifications meanwhile, or some were lost.
        """
        try:
            followed = self.gather(listener, most)
        except (OSError, ValueError):
            followed = False
        if not followed:
            listener.forget()
            listener.socket.unsubscribe()
            return False
        listener.behind = False
        self._epoll.register(listener.socket.fileno(), select.EPOLLIN)
        self._by_descriptor[listener.socket.fileno()] = listener
        return True

    def ready(self) -> Collection[Listener]:
        """Return the readable ones, those first that have used least of their allowance."""
        found = [
            self._by_descriptor[descriptor] for descriptor, _ in self._epoll.poll(0, max(len(self._by_descriptor), 1))
        ]
        if len(found) > 1:
            now = time.monotonic()
            found.sort(key=lambda listener: listener.allowance.left(now), reverse=True)
        return found

    def gather(self, listener: Listener, most: float = math.inf) -> bool:
        """Receive what is pending; False if that exceeds the allowance. See :meth:`Listener.gather`."""
        began = time.thread_time()
        try:
            return listener.gather(self._buffer, self.left(listener), most)
        finally:
            self.spend(listener, began)

    def left(self, listener: Listener) -> float:
        """Return how many seconds may be spent on a namespace now."""
        now = time.monotonic()
        left = listener.allowance.left(now)
        return min(left, self._allowance.left(now)) if listener.allowance.is_touched(now) else left

    def spend(self, listener: Listener, began: float) -> None:
        """Charge a namespace with this thread's CPU time since ``began``."""
        spent, now = time.thread_time() - began, time.monotonic()
        listener.allowance.spend(spent, now)
        self._allowance.spend(spent, now)

    def _unregister(self, listener: Listener) -> None:
        del self._by_descriptor[listener.socket.fileno()]
        self._epoll.unregister(listener.socket.fileno())

    def buffer_for(self, namespace: NsId) -> int:
        """Return the size of a namespace's receive buffer in bytes."""
        return self._size if self._fixed or namespace != self._own else LARGEST_BUFFER

    def _share(self) -> int:
        """Return the size in bytes of each receive buffer, a power of two, so that the total is not exceeded."""
        if self._fixed:
            return self._fixed
        share = BUFFERS // (len(self._by_namespace) + 1)
        return max(SMALLEST_BUFFER, min(LARGEST_BUFFER, 1 << share.bit_length() - 1))

    def _resize(self) -> None:
        if self._size != (size := self._share()):
            self._size = size
            for listener in self._by_namespace.values():
                listener.socket.resize(self.buffer_for(listener.namespace))
