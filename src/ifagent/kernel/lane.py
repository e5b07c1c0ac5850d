"""One lane per attached namespace: an open file that holds it, a socket for requests, and one for notifications.

A socket stays in the namespace in which it was opened, so no thread has to enter it again. The methods block while the
kernel works (deleting a veth takes some 20 ms) and are for worker threads, several of which may use one lane at a time.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from ifagent.core.counters import LinkCounters
from ifagent.core.host_routes import HostRoutes, IPAddress, Route
from ifagent.core.link import LOOPBACK_IFINDEX, Checksums, LinkId, NsId, Speed
from ifagent.core.names import HostName
from ifagent.core.operations import ChangeLink, CreateLink
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.attributes import UNREADABLE, MalformedMessage, string
from ifagent.kernel.bridge_vlans import dump_port_vlans, parse_port_vlans
from ifagent.kernel.cross_links import create_above
from ifagent.kernel.ethtool import get_checksums, get_speed, set_checksums
from ifagent.kernel.link_cache import NamespaceDump
from ifagent.kernel.messages import LinkMessage, parse_address, parse_altnames, parse_counters, parse_link
from ifagent.kernel.netlink import Ack, Message
from ifagent.kernel.netns import open_namespace
from ifagent.kernel.renames import rename_while_down
from ifagent.kernel.requests import (
    delete_group,
    dump_addresses,
    dump_counters,
    dump_links,
    get_link,
    get_link_called,
    remove_altnames,
    set_group,
)
from ifagent.kernel.routes import find_uplinks, list_routes
from ifagent.kernel.rtnetlink import IFLA_INFO_SLAVE_KIND
from ifagent.kernel.sockets import ListenSocket, RequestSocket
from ifagent.kernel.threads import pause_after
from ifagent.kernel.tun import change_device, create_device, open_device
from ifagent.limits import in_words
from ifagent.nsfs import in_netns, open_thread_namespace

T = TypeVar("T")

_PORT_OF_BRIDGE = string(IFLA_INFO_SLAVE_KIND, "bridge")
"""What is in messages about ports of bridges."""

_DIGEST = 16
"""Bytes of the hash that is kept instead of a message, which is a hundred times as long."""


class Lane:
    """The access to one namespace, from :meth:`open` to :meth:`close`."""

    def __init__(self, namespace: NsId, *, fd: int, home: int, socket: RequestSocket, listening: ListenSocket) -> None:
        """Take over an open namespace file and sockets inside; ``home`` is a file of the agent's namespace."""
        self.namespace = namespace
        self.fd = fd
        self.listening = listening
        self._home = home
        self._socket = socket
        self._free = threading.Lock()
        self._known: dict[bytes, object] = {}

    @classmethod
    def open(cls, namespace: NsId, path: str, *, home: int, buffer: int) -> Lane:
        """Open a namespace, with a receive buffer of so many bytes.

        Raises :class:`NamespaceUnavailable` if ``path`` does not lead to it.
        """
        found = open_namespace(namespace, path)
        try:
            with in_netns(found, home=home), ExitStack() as opened:
                # Opened again from inside: a file opened at a mount point would prevent unmounting that.
                fd = open_thread_namespace()
                opened.callback(os.close, fd)
                socket = RequestSocket()
                opened.callback(socket.close)
                listening = ListenSocket(buffer=buffer)
                opened.pop_all()
        except OSError as error:
            raise NamespaceUnavailable(f"{path}: cannot open sockets in this namespace: {error.strerror}") from error
        finally:
            os.close(found)
        return cls(namespace, fd=fd, home=home, socket=socket, listening=listening)

    def close(self) -> None:
        """Close the namespace, which ends if nothing else holds it. No thread may be using the lane."""
        self._socket.close()
        self.listening.close()
        os.close(self.fd)

    def request(self, messages: Sequence[bytes]) -> list[Ack]:
        """Execute requests in order; see :meth:`RequestSocket.request`.

        Another thread uses a temporary socket meanwhile: during a deletion the kernel mostly waits, and many can wait
        in parallel.
        """
        try:
            with self._any_socket() as socket:
                return socket.request(messages)
        except OSError as error:
            return [Ack(error.errno or errno.EIO, error.strerror or str(error))] * len(messages)

    def rename_while_down(self, ifindex: int, request: bytes, *, up: bool | None = None) -> Ack:
        """Repeat a request that renames a link which is up; see :func:`ifagent.kernel.renames.rename_while_down`."""
        try:
            with self._any_socket() as socket:
                return rename_while_down(socket, ifindex, request, up=up)
        except OSError as error:
            return Ack(error.errno or errno.EIO, error.strerror or str(error))

    def link_called(self, name: HostName) -> LinkMessage | None:
        """Return the link that has this host name or altname, ``None`` if there is none or the query fails."""
        with suppress(OSError), self._any_socket() as socket:
            return parse_link(*socket.ask(get_link_called(name)))
        return None

    def remove_altnames(self, link: int | HostName) -> None:
        """Remove all altnames of a link, given by ifindex or host name, as far as the kernel permits."""
        with suppress(OSError), self._any_socket() as socket:
            asked = get_link_called(link) if isinstance(link, str) else get_link(link)
            ifindex, altnames = parse_altnames(*socket.ask(asked))
            if altnames:
                socket.request([remove_altnames(ifindex, altnames)])

    def delete_by_group(self, ifindexes: Sequence[int], group: int) -> list[Ack]:
        """Delete links at once by their group, which no other link is in; return the answer for each."""
        acks = self.request([*(set_group(ifindex, group) for ifindex in ifindexes), delete_group(group)])
        return [ack if ack.errno else acks[-1] for ack in acks[:-1]]

    def set_checksums(self, ifindex: int, checksums: Checksums) -> Ack:
        """Switch a link's checksum offloading on or off."""
        try:
            with self._any_socket() as socket:
                set_checksums(socket.fileno(), ifindex, checksums)
        except OSError as error:
            return Ack(error.errno or errno.EIO, "checksum offloading cannot be switched")
        return Ack(0, "")

    def links(self, ifindexes: Iterable[int]) -> dict[LinkId, LinkMessage]:
        """Return those of these links that are there."""
        found = {}
        with suppress(OSError), self._any_socket() as socket:
            for ifindex in ifindexes:
                with suppress(OSError):  # the link is gone
                    if (link := parse_link(*socket.ask(get_link(ifindex)))) is not None:
                        found[LinkId(self.namespace, ifindex)] = link
        return found

    def create_above(self, operation: CreateLink, lower_fd: int) -> Ack:
        """Create a link on one in another namespace; see :func:`ifagent.kernel.cross_links.create_above`."""
        try:
            with self._any_socket() as socket:
                return create_above(socket, operation, own_fd=self.fd, lower_fd=lower_fd)
        except OSError as error:
            return Ack(error.errno or errno.EIO, error.strerror or str(error))

    def use_tun_device(self, operation: CreateLink | ChangeLink) -> Ack:
        """Make or change a TAP or TUN; see :mod:`ifagent.kernel.tun`."""

        def open_in_place() -> int:
            with in_netns(self.fd, home=self._home):
                return open_device()

        try:
            with self._any_socket() as socket:
                if isinstance(operation, CreateLink):
                    return create_device(socket, operation, open_in_place)
                return change_device(socket, operation, open_in_place)
        except OSError as error:
            text = f"this host has no {error.filename}" if error.filename else error.strerror or str(error)
            return Ack(error.errno or errno.EIO, text)

    def set_sysctls(self, settings: Mapping[str, str]) -> str:
        """Set what is below ``/proc/sys`` in this namespace; return why that is not possible, empty if it is."""
        try:
            with in_netns(self.fd, home=self._home):
                for path, value in settings.items():
                    Path("/proc/sys", path).write_text(value)
        except OSError as error:
            return f"cannot set {', '.join(settings)}: {in_words(error)}"
        return ""

    def checksums(self, ifindexes: Iterable[int]) -> dict[LinkId, Checksums]:
        """Return the checksum offloading of those links that support it."""
        found = {}
        with suppress(OSError), self._any_socket() as socket:
            for ifindex in ifindexes:
                with suppress(OSError):  # the link is gone
                    found[LinkId(self.namespace, ifindex)] = get_checksums(socket.fileno(), ifindex)
        return found

    def speeds(self, ifindexes: Iterable[int]) -> dict[LinkId, Speed]:
        """Return the speed of those links whose drivers report it."""
        found = {}
        with suppress(OSError), self._any_socket() as socket:
            for ifindex in ifindexes:
                with suppress(OSError):
                    found[LinkId(self.namespace, ifindex)] = get_speed(socket.fileno(), ifindex)
        return found

    def counters(self) -> dict[LinkId, LinkCounters]:
        """Return the counters of every link; nothing where they cannot be read."""
        with suppress(OSError), self._any_socket() as socket:
            messages = _with_pauses(socket.dump(dump_counters()))
            counted = [parse_counters(data, message) for data, message in messages]
            return {LinkId(self.namespace, ifindex): counters for ifindex, counters in counted}
        return {}

    def routes(self, ours: Container[LinkId]) -> list[Route]:
        """Return the namespace's routes; see :func:`list_routes`."""
        with self._any_socket() as socket:
            return list_routes(socket, self.namespace, ours)

    def dump(self, *, has_ifa_proto: bool) -> NamespaceDump:
        """List all links and addresses; ``has_ifa_proto`` as in :func:`parse_address`.

        Raises one of :data:`UNREADABLE`, or another ``OSError``.
        """
        with self._any_socket() as socket:
            links, addresses = socket.dump(dump_links()), socket.dump(dump_addresses())
            datagrams = {id(data): data for data, _ in links}.values()
            has_ports = any(_PORT_OF_BRIDGE in data for data in datagrams)
            vlans = socket.dump(dump_port_vlans()) if has_ports else []
        known, self._known = self._known, {}
        read_address = partial(parse_address, has_ifa_proto=has_ifa_proto)
        return NamespaceDump.of(
            [link for data, message in _with_pauses(links) if (link := self._read(parse_link, data, message, known))],
            (
                found
                for data, message in _with_pauses(addresses)
                if (found := self._read(read_address, data, message, known))
            ),
            (port for data, message in vlans if (port := self._read(parse_port_vlans, data, message, known))),
        )

    def _read(
        self, parse: Callable[[bytes, Message], T], data: bytes, message: Message, known: Mapping[bytes, object]
    ) -> T:
        """Parse a message, or return the result for the same bytes in the previous dump."""
        key = blake2b(memoryview(data)[message.start : message.end], digest_size=_DIGEST).digest()
        found = known[key] if key in known else parse(data, message)
        self._known[key] = found
        return cast("T", found)

    @contextmanager
    def _any_socket(self) -> Iterator[RequestSocket]:
        """Yield the lane's socket, or a temporary one while another thread uses that."""
        if self._free.acquire(blocking=False):
            try:
                yield self._socket
            finally:
                self._free.release()
            return
        with in_netns(self.fd, home=self._home):
            socket = RequestSocket()
        try:
            yield socket
        finally:
            socket.close()


def open_lanes(
    paths: Mapping[NsId, str], *, home: int, buffers: Mapping[NsId, int]
) -> dict[NsId, Lane | NamespaceUnavailable]:
    """Open lanes, or return why that is not possible; ``buffers`` as in :meth:`Lane.open`."""
    opened: dict[NsId, Lane | NamespaceUnavailable] = {}
    for namespace, path in paths.items():
        try:
            opened[namespace] = Lane.open(namespace, path, home=home, buffer=buffers[namespace])
        except NamespaceUnavailable as error:
            opened[namespace] = error
    return opened


def close_lanes(opened: Mapping[NsId, Lane | NamespaceUnavailable]) -> None:
    """Close what :func:`open_lanes` has opened."""
    for lane in opened.values():
        if isinstance(lane, Lane):
            lane.close()


class ListResult(NamedTuple):
    """The dump of a namespace or why it failed, and how many seconds of CPU time it took."""

    found: NamespaceDump | OSError
    cost: float


def list_lanes(lanes: Iterable[Lane], *, unsubscribed: Container[Lane], has_ifa_proto: bool) -> dict[Lane, ListResult]:
    """List namespaces, subscribing first to those that are ``unsubscribed``; return the error of those that fail."""
    found: dict[Lane, ListResult] = {}
    for lane in lanes:
        began = time.thread_time()
        listed: NamespaceDump | OSError
        try:
            if lane in unsubscribed:
                lane.listening.empty()
                lane.listening.subscribe()
            listed = lane.dump(has_ifa_proto=has_ifa_proto)
        except OSError as error:
            listed = error
        except UNREADABLE as error:
            listed = MalformedMessage(str(error))
        found[lane] = ListResult(listed, time.thread_time() - began)
    return found


def _with_pauses(messages: Sequence[T]) -> Iterator[T]:
    """Yield the messages of a long list with pauses, see :func:`pause_after`."""
    for place, message in enumerate(messages, start=1):
        pause_after(place)
        yield message


def by_lane(links: Iterable[LinkId], lanes: Mapping[NsId, Lane]) -> dict[Lane, list[int]]:
    """Return the ifindexes of links by the lanes of their namespaces, as far as there are any."""
    found: dict[Lane, list[int]] = {}
    for namespace, ifindex in links:
        if (lane := lanes.get(namespace)) is not None:
            found.setdefault(lane, []).append(ifindex)
    return found


def query_lanes(
    query: Callable[[Lane, list[int]], Mapping[LinkId, T]], links: Mapping[Lane, list[int]]
) -> dict[LinkId, T]:
    """Run a query on links, given by their ifindexes, in their lanes."""
    return {id_: answer for lane, ifindexes in links.items() for id_, answer in query(lane, ifindexes).items()}


def read_counters(lanes: Sequence[Lane]) -> dict[LinkId, LinkCounters]:
    """Return the counters of every link of some namespaces."""
    return {id_: counters for lane in lanes for id_, counters in lane.counters().items()}


def read_host_routes(
    own: NsId,
    lanes: Mapping[NsId, Lane | None],
    hosts: Collection[IPAddress],
    ours: Container[LinkId],
) -> HostRoutes:
    """Return the routes of namespaces, and the uplinks of ``own``, the calling thread's namespace.

    A namespace whose routes are not known, as when it has no lane, is a problem.
    """
    routes: list[Route] = []
    problems: dict[NsId, str] = {}
    uplinks: set[LinkId] = set()
    for namespace, lane in lanes.items():
        try:
            if lane is None:
                problems[namespace] = "its namespace is not attached"
                continue
            routes += lane.routes(ours)
        except OSError as error:
            problems[namespace] = f"its routes cannot be listed: {in_words(error)}"
        except UNREADABLE as error:
            problems[namespace] = f"its routes cannot be parsed: {error}"
    try:
        uplinks = {LinkId(own, ifindex) for ifindex in find_uplinks(hosts)}
    except OSError as error:
        problems.setdefault(own, f"its routes cannot be asked for: {in_words(error)}")
    # The kernel answers with one of several next hops, and never with a default route of lower priority.
    outward = (link for route in routes if not route.destination.prefixlen for link in route.links)
    uplinks.update(link for link in outward if link.ifindex != LOOPBACK_IFINDEX)
    return HostRoutes(frozenset(uplinks), frozenset(hosts), tuple(routes), problems)
