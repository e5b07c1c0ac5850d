"""How Linux orders the addresses of a link; every rule was measured.

IPv4: the primaries of all subnets by scope (127.0.0.0/8 is of host scope, the narrowest, which comes first) and in the
order they came, then the secondaries. IPv6: from wide scopes to narrow, newest first in each.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network

from ifagent.core.address_lists import Key, ipv4_key, ipv6_scope
from ifagent.core.link import LOOPBACK_ADDRESSES, LOOPBACK_IFINDEX, Address, usual_scope
from ifagent.core.names import IPInterface
from ifagent.kernel.simulated.records import Refused, WorldLink

IFA_F_SECONDARY = 0x01
IFA_F_DEPRECATED = 0x20
IFA_F_PERMANENT = 0x80
IFA_F_NOPREFIXROUTE = 0x200
MIN_IPV6_MTU = 1280
_GIVEN_FLAGS = 0x02 | 0x10 | 0x100 | IFA_F_NOPREFIXROUTE
"""Flags that may be requested with an address: nodad, home, mngtmpaddr, noprefixroute."""

_UNSPECIFIED = IPv6Address("::")
_LOOPBACK = IPv6Interface("::1/128")
_MULTICAST = IPv6Network("ff00::/8")


def add_address(link: WorldLink, address: Address) -> None:
    """Add an address at the position in the list that the kernel gives it, with the requested attributes."""
    if isinstance(address.interface, IPv6Interface):
        _add_ipv6(link, _given(link, replace(address, scope=None, broadcast=None)))
    else:
        flags = address.flags & (IFA_F_DEPRECATED | IFA_F_NOPREFIXROUTE)
        _add_ipv4(link, _given(link, replace(address, flags=flags)))


def replace_address(link: WorldLink, interface: IPInterface) -> None:
    """Reset what was set on an address, as far as Linux changes that in place; add it if it is missing.

    Of IPv4 it changes lifetimes and the metric, of IPv6 lifetimes and flags; a peer, a scope and a broadcast address
    stay.
    """
    found = _find(link, Address(interface))
    if found is None:
        add_address(link, Address(interface))
        return
    addresses, place = found
    have = addresses[place]
    if interface.version == 4:
        addresses[place] = replace(have, flags=have.flags & ~IFA_F_DEPRECATED, lasts=True, metric=0)
    else:
        flags = have.flags & ~(_GIVEN_FLAGS | IFA_F_DEPRECATED)
        addresses[place] = replace(have, flags=flags, lasts=True, made_by_kernel=_is_of_loopback(link, interface))


def delete_address(link: WorldLink, address: Address) -> None:
    """Delete an address; the secondaries of an IPv4 subnet go with its primary."""
    interface = address.interface
    if interface.version == 6 and link.mtu < MIN_IPV6_MTU:
        raise Refused(errno.ENXIO, "IPv6 is disabled on this device")
    found = _find(link, address)
    if found is None:
        raise Refused(errno.EADDRNOTAVAIL, f"ipv{interface.version}: address not found")
    addresses, place = found
    gone = addresses.pop(place)
    if interface.version == 4 and not gone.flags & IFA_F_SECONDARY:
        _lose_primary(link, gone)


def make_loopback_ipv4(link: WorldLink) -> None:
    """Add the address that ``lo`` gets when it comes up."""
    with suppress(Refused):  # it exists already
        _add_ipv4(link, _given(link, Address(IPv4Interface("127.0.0.1/8"))))


def make_automatic_ipv6(link: WorldLink) -> None:
    """Make the link-local address (of ``lo`` the loopback one) that a link gets once when it becomes ready."""
    ready = link.up and link.carrier and link.mtu >= MIN_IPV6_MTU and not link.namespace.ipv6_disabled
    if not ready or link.ipv6_ready:
        return
    link.ipv6_ready = True
    loopback = link.ifindex == LOOPBACK_IFINDEX
    interface = _LOOPBACK if loopback else link_local_of(link.mac)
    if all(a.interface.ip != interface.ip for a in link.ipv6):
        _insert_ipv6(link, Address(interface, IFA_F_PERMANENT, made_by_kernel=True))


def make_router_ipv6(link: WorldLink, address: Address) -> None:
    """Make an address from a router advertisement, with flags and a lifetime that no request could have."""
    _insert_ipv6(link, replace(address, made_by_kernel=True))


def flush_ipv6(link: WorldLink) -> None:
    """Delete all IPv6 addresses of a link; it gets an automatic one when it is ready again."""
    link.ipv6.clear()
    link.ipv6_ready = False


def link_local_of(mac: str) -> IPv6Interface:
    """Return the fe80 address that Linux derives from a MAC (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Interface((IPv6Address(b"\xfe\x80" + bytes(6) + interface_id), 64))


def _add_ipv6(link: WorldLink, address: Address) -> None:
    ip = address.interface.ip
    if ip == _UNSPECIFIED or ip in _MULTICAST:
        raise Refused(errno.EADDRNOTAVAIL, "ipv6: Invalid address")
    if link.mtu < MIN_IPV6_MTU:
        raise Refused(errno.EINVAL)
    loopback = link.ifindex == LOOPBACK_IFINDEX
    if link.namespace.ipv6_disabled and not loopback:
        raise Refused(errno.EACCES, "ipv6: IPv6 is disabled on this device")
    if ip == _LOOPBACK.ip and not loopback:
        raise Refused(errno.EADDRNOTAVAIL, "ipv6: Cannot assign loopback address on this device")
    if any(a.interface.ip == ip for a in link.ipv6):
        raise Refused(errno.EEXIST, "ipv6: address already assigned")
    _insert_ipv6(link, replace(address, flags=address.flags & (_GIVEN_FLAGS | IFA_F_DEPRECATED | IFA_F_PERMANENT)))


def _add_ipv4(link: WorldLink, address: Address) -> None:
    if address.interface.ip.is_unspecified:
        return  # the kernel accepts it and does nothing
    if _find(link, address) is not None:
        raise Refused(errno.EEXIST, "ipv4: Address already assigned")
    same_subnet = [a for a in link.ipv4 if ipv4_key(a)[:2] == ipv4_key(address)[:2]]
    if not same_subnet:
        link.ipv4.insert(_primaries_before(link, address), address)
        return
    if _scope(same_subnet[0]) != _scope(address):
        raise Refused(errno.EINVAL, "ipv4: Invalid scope value")
    link.ipv4.append(replace(address, flags=address.flags | IFA_F_SECONDARY))


def _lose_primary(link: WorldLink, gone: Address) -> None:
    """Promote the first secondary of a subnet, behind the other primaries; or delete them all."""
    secondaries = [a for a in link.ipv4 if ipv4_key(a)[:2] == ipv4_key(gone)[:2]]
    if not link.promotes or not secondaries:
        link.ipv4 = [a for a in link.ipv4 if a not in secondaries]
        return
    promoted = secondaries[0]
    link.ipv4.remove(promoted)
    link.ipv4.insert(_primaries_before(link, promoted), replace(promoted, flags=promoted.flags & ~IFA_F_SECONDARY))


def _primaries_before(link: WorldLink, address: Address) -> int:
    """Return how many primaries come before a new one: those of its scope and of narrower ones."""
    return sum(_scope(a) >= _scope(address) for a in link.ipv4 if not a.flags & IFA_F_SECONDARY)


def _find(link: WorldLink, address: Address) -> tuple[list[Address], int] | None:
    """Return the list that contains an address, and its position; for IPv6 the peer does not matter."""
    interface = address.interface
    key: Key | IPInterface = interface if interface.version == 6 else ipv4_key(address)
    addresses = link.ipv6 if interface.version == 6 else link.ipv4
    keys: Sequence[Key | IPInterface] = [a.interface if interface.version == 6 else ipv4_key(a) for a in addresses]
    return (addresses, keys.index(key)) if key in keys else None


def _given(link: WorldLink, address: Address) -> Address:
    """Return a requested address as it is stored; the usual ones of ``lo`` always count as the kernel's."""
    flags = address.flags | (IFA_F_PERMANENT if address.lasts else 0)
    return replace(address, flags=flags, made_by_kernel=_is_of_loopback(link, address.interface))


def _is_of_loopback(link: WorldLink, interface: IPInterface) -> bool:
    return link.ifindex == LOOPBACK_IFINDEX and interface in LOOPBACK_ADDRESSES


def _scope(address: Address) -> int:
    return usual_scope(address.interface) if address.scope is None else address.scope


def _insert_ipv6(link: WorldLink, address: Address) -> None:
    """Insert before the others of its scope: the list runs from wide scopes to narrow, newest first in each."""
    scope = ipv6_scope(int(address.interface))
    before = sum(ipv6_scope(int(a.interface)) > scope for a in link.ipv6)
    link.ipv6.insert(before, address)
