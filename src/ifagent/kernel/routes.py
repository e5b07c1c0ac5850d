"""The routes of a namespace that may carry traffic of the host."""

from __future__ import annotations

import errno
from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import count
from typing import Final

from ifagent.core.host_routes import IPAddress, Route
from ifagent.core.link import LOOPBACK_IFINDEX, LinkId, NsId
from ifagent.kernel.attributes import AttributeReader, MalformedMessage
from ifagent.kernel.messages import parse_route
from ifagent.kernel.netlink import Message
from ifagent.kernel.requests import dump_routes, get_route
from ifagent.kernel.rtnetlink import (
    AF_INET,
    AF_INET6,
    NEXT_HOP,
    ROUTE,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_VIA,
    RTN_ANYCAST,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTPROT_KERNEL,
    U32,
)
from ifagent.kernel.sockets import RequestSocket
from ifagent.kernel.threads import pause_after

_FAILURES: Final = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.EBADMSG, errno.EPERM})
"""Errnos with which the kernel fails to answer; others say that there is no route."""

_DISTANT: Final = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))
"""Addresses for documentation (RFC 5737, RFC 3849), which only a default route leads to."""

_WANTED: Final = AttributeReader({RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA})
_TYPES: Final = (RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_LOCAL, RTN_ANYCAST)
"""Types of routes that forward traffic, drop it, or deliver it to the host itself."""

_EVERYWHERE: Final = {AF_INET: ip_network("0.0.0.0/0"), AF_INET6: ip_network("::/0")}
_SIZES: Final = {AF_INET: 4, AF_INET6: 16}


def find_uplinks(hosts: Iterable[IPAddress]) -> frozenset[int]:
    """Return the ifindexes, in the calling thread's namespace, that distant addresses and ``hosts`` are reached by.

    Raises ``OSError`` where the query fails.
    """
    found = set()
    with closing(RequestSocket()) as route_socket:
        for address in (*_DISTANT, *hosts):
            try:
                found.add(parse_route(*route_socket.ask(get_route(address))))
            except OSError as error:
                if error.errno in _FAILURES:  # else there is no route
                    raise
    return frozenset(found - {0})


def list_routes(
    requests: RequestSocket, namespace: NsId, ours: Container[LinkId], *, most: int = 10_000
) -> list[Route]:
    """Return the routes of the namespace that a socket is in, those that lead nowhere too.

    Of each family and type they are at most ``most``; the rest of them counts as one default route. What the
    kernel has made by itself for links of ``ours`` is left out, and so is what means something else on every link.
    Raises one of :data:`UNREADABLE`, or another ``OSError``.
    """
    found: list[Route] = []
    read = count(1)

    def links_of(data: bytes, message: Message) -> Route | None:
        route = take(data, message)
        if route is not None:
            links.update(route.links)
        return None

    def take(data: bytes, message: Message) -> Route | None:
        pause_after(next(read))
        return _parse(namespace, ours, data, message)

    for family, everywhere in _EVERYWHERE.items():
        for kind in _TYPES:
            routes = requests.pick(dump_routes(family, kind), take, most=most + 1)
            if len(routes) > most:
                links = {LinkId(namespace, LOOPBACK_IFINDEX)}
                requests.pick(dump_routes(family, kind), links_of, most=most)
                routes[most:] = [Route(everywhere, (), tuple(sorted(links)))]
            found += routes
    return found


def _parse(namespace: NsId, ours: Container[LinkId], data: bytes, message: Message) -> Route | None:
    if message.end - message.start < ROUTE.size:
        raise MalformedMessage("route message without its header")
    family, bits, _, _, _, protocol, _, kind, _ = ROUTE.unpack_from(data, message.start)
    made_by_kernel = protocol == RTPROT_KERNEL
    if kind not in _TYPES or family not in _SIZES or (made_by_kernel and kind != RTN_UNICAST):
        return None
    if kind in {RTN_LOCAL, RTN_ANYCAST} and not bits:  # for packets with a mark, as a transparent proxy has them
        return None
    found = _WANTED.read(data, message.start + ROUTE.size, message.end)
    if made_by_kernel and _link(namespace, found.get(RTA_OIF, b"")) in ours:
        return None
    size = _SIZES[family]
    destination = found.get(RTA_DST, bytes(size))
    if len(destination) != size or bits > 8 * size:
        raise MalformedMessage(f"route with prefix length {bits} and a destination of {len(destination)} bytes")
    network = ip_network((destination, bits), strict=False)
    if made_by_kernel and (network.is_loopback or (family == AF_INET6 and network.is_link_local)):
        return None
    hops = [(found.get(RTA_OIF, b""), found)]
    if RTA_MULTIPATH in found:
        hops = list(_next_hops(found[RTA_MULTIPATH]))
    return Route(
        network,
        tuple(gateway for _, hop in hops if (gateway := _gateway(hop)) is not None),
        tuple(link for payload, _ in hops if (link := _link(namespace, payload)) is not None)
        or (LinkId(namespace, LOOPBACK_IFINDEX),),  # what leads nowhere does so by lo, as IPv6 says
        made_by_kernel=made_by_kernel,
    )


def _link(namespace: NsId, payload: bytes) -> LinkId | None:
    return LinkId(namespace, U32.unpack(payload)[0]) if len(payload) == U32.size else None


def _next_hops(data: bytes) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    offset = 0
    while len(data) - offset >= NEXT_HOP.size:
        length, _, _, ifindex = NEXT_HOP.unpack_from(data, offset)
        if length < NEXT_HOP.size or offset + length > len(data):
            raise MalformedMessage(f"next hop of {length} bytes")
        yield U32.pack(ifindex & 0xFFFF_FFFF), _WANTED.read(data, offset + NEXT_HOP.size, offset + length)
        offset += length + 3 & ~3


def _gateway(hop: dict[int, bytes]) -> IPAddress | None:
    """Return the gateway of a route; ``None`` for an IPv6 link-local one, which means something else on every link."""
    packed = hop.get(RTA_GATEWAY) or hop.get(RTA_VIA, b"")[2:]
    address = ip_address(packed) if len(packed) in _SIZES.values() else None
    return None if address is None or (address.version == 6 and address.is_link_local) else address
