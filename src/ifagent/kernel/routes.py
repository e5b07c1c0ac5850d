"""The routes of a namespace, as far as it matters what of the host's traffic they carry. Pure but for the listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from ifagent.core.host_routes import IPAddress, Route
from ifagent.core.link import LOOPBACK_IFINDEX, LinkId, NsId
from ifagent.kernel.attributes import MalformedMessage, Reader
from ifagent.kernel.messages import Message, parse_route
from ifagent.kernel.requests import get_route
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
    RTN_BLACKHOLE,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTPROT_KERNEL,
    U32,
)
from ifagent.kernel.sockets import RequestSocket

MAX_ROUTES: Final = 10_000
"""Most routes of one namespace that are looked at; a router with more has a default route's worth of them."""

_DISTANT: Final = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))
"""Addresses of documentation (RFC 5737, RFC 3849), which only a default route leads to."""

_WANTED: Final = Reader({RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA})
KINDS: Final = (RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT)
"""Types of routes that say where traffic goes, or that it goes nowhere."""

_SIZES: Final = {AF_INET: 4, AF_INET6: 16}


def find_uplinks(hosts: Iterable[IPAddress]) -> frozenset[int]:
    """Return the ifindexes, in the calling thread's namespace, that distant addresses and ``hosts`` are reached by."""
    found = set()
    with closing(RequestSocket()) as route_socket:
        for address in (*_DISTANT, *hosts):
            with suppress(OSError):
                found.add(parse_route(*route_socket.ask(get_route(address))))
    return frozenset(found - {0})


def parse_routes(namespace: NsId, messages: Iterable[tuple[bytes, Message]]) -> Iterator[Route]:
    """Yield the routes of a listing that somebody has made, those that lead nowhere too, at most :data:`MAX_ROUTES`.

    Raises :class:`MalformedMessage`.
    """
    count = 0
    for data, message in messages:
        route = _parse(namespace, data, message)
        if route is not None:
            yield route
            count += 1
            if count == MAX_ROUTES:
                return


def _parse(namespace: NsId, data: bytes, message: Message) -> Route | None:
    if message.end - message.start < ROUTE.size:
        raise MalformedMessage("a route without its header")
    family, bits, _, _, _, protocol, _, kind, _ = ROUTE.unpack_from(data, message.start)
    if kind not in KINDS or protocol == RTPROT_KERNEL or family not in _SIZES:
        return None
    found = _WANTED.read(data, message.start + ROUTE.size, message.end)
    size = _SIZES[family]
    destination = found.get(RTA_DST, bytes(size))
    if len(destination) != size or bits > 8 * size:
        raise MalformedMessage(f"a route to {bits} bits of {len(destination)} bytes")
    hops = [(found.get(RTA_OIF, b""), found)]
    if RTA_MULTIPATH in found:
        hops = list(_next_hops(found[RTA_MULTIPATH]))
    return Route(
        ip_network((destination, bits), strict=False),
        tuple(gateway for _, hop in hops if (gateway := _gateway(hop)) is not None and not gateway.is_link_local),
        tuple(LinkId(namespace, U32.unpack(link)[0]) for link, _ in hops if len(link) == U32.size)
        or (LinkId(namespace, LOOPBACK_IFINDEX),),  # what leads nowhere does so by lo, as IPv6 says
    )


def _next_hops(data: bytes) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    offset = 0
    while len(data) - offset >= NEXT_HOP.size:
        length, _, _, ifindex = NEXT_HOP.unpack_from(data, offset)
        if length < NEXT_HOP.size or offset + length > len(data):
            raise MalformedMessage(f"a next hop of {length} bytes")
        yield U32.pack(ifindex & 0xFFFF_FFFF), _WANTED.read(data, offset + NEXT_HOP.size, offset + length)
        offset += length + 3 & ~3


def _gateway(hop: dict[int, bytes]) -> IPAddress | None:
    packed = hop.get(RTA_GATEWAY) or hop.get(RTA_VIA, b"")[2:]
    return ip_address(packed) if len(packed) in _SIZES.values() else None
