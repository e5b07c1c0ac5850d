"""Which links keep the host connected: those that the way to a distant address, and to given hosts, leads out of."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ifagent.kernel.messages import parse_route
from ifagent.kernel.requests import get_route
from ifagent.kernel.sockets import RequestSocket

_DISTANT: Final = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))
"""Addresses of documentation (RFC 5737, RFC 3849), which only a default route leads to."""


def find_uplinks(hosts: Iterable[str]) -> frozenset[int]:
    """Return ifindexes in the calling thread's namespace; what leads nowhere has none.

    ``hosts`` are names or addresses; names are looked up, which may take long.
    """
    found = set()
    with closing(RequestSocket()) as route_socket:
        for address in (*_DISTANT, *_addresses(hosts)):
            with suppress(OSError):
                found.add(parse_route(*route_socket.ask(get_route(address))))
    return frozenset(found - {0})


def _addresses(hosts: Iterable[str]) -> Iterator[IPv4Address | IPv6Address]:
    for host in hosts:
        with suppress(OSError):
            for *_, (address, *_) in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                yield ip_address(str(address).partition("%")[0])
