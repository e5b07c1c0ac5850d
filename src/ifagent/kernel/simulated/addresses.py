"""How Linux keeps the addresses of a link; every rule measured.

IPv4: the primaries of all subnets in the order they came (127.0.0.0/8 before others), then the secondaries. IPv6:
from wide scopes to narrow, newest first in each.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network

from ifagent.core.interface import IPInterface
from ifagent.core.link import LOOPBACK_ADDRESSES, LOOPBACK_IFINDEX, Address
from ifagent.kernel.simulated.records import Refused, WorldLink

IFA_F_SECONDARY = 0x01
IFA_F_PERMANENT = 0x80
MIN_IPV6_MTU = 1280
_UNSPECIFIED = IPv6Address("::")
_LOOPBACK = IPv6Interface("::1/128")
_MULTICAST = IPv6Network("ff00::/8")
_LINK_LOCAL = IPv6Network("fe80::/10")
_SITE_LOCAL = IPv6Network("fec0::/10")


def add_address(link: WorldLink, interface: IPInterface) -> None:
    """Add an address where the kernel puts it in its list."""
    if isinstance(interface, IPv6Interface):
        _add_ipv6(link, interface)
    else:
        _add_ipv4(link, interface)


def delete_address(link: WorldLink, interface: IPInterface) -> None:
    """Delete an address; with the primary of an IPv4 subnet its secondaries go too."""
    addresses = link.ipv6 if isinstance(interface, IPv6Interface) else link.ipv4
    if addresses is link.ipv6 and link.mtu < MIN_IPV6_MTU:
        raise Refused(errno.ENXIO, "IPv6 is disabled on this device")
    address = next((a for a in addresses if a.interface == interface), None)
    if address is None:
        raise Refused(errno.EADDRNOTAVAIL, f"ipv{interface.version}: address not found")
    addresses.remove(address)
    if addresses is link.ipv4 and not address.flags & IFA_F_SECONDARY:
        _lose_primary(link, interface)


def _lose_primary(link: WorldLink, gone: IPInterface) -> None:
    """Have the first secondary of a subnet take the place of its primary, behind the others; or lose them all."""
    secondaries = [a for a in link.ipv4 if a.interface.network == gone.network]
    if not link.promotes or not secondaries:
        link.ipv4 = [a for a in link.ipv4 if a not in secondaries]
        return
    heir = secondaries[0]
    link.ipv4.remove(heir)
    primaries = [a.interface.ip for a in link.ipv4 if not a.flags & IFA_F_SECONDARY]
    before = sum(ip.is_loopback or not gone.ip.is_loopback for ip in primaries)
    link.ipv4.insert(before, replace(heir, flags=heir.flags & ~IFA_F_SECONDARY))


def make_loopback_ipv4(link: WorldLink) -> None:
    """Give ``lo`` its address, as coming up does."""
    with suppress(Refused):  # it is there already
        _add_ipv4(link, IPv4Interface("127.0.0.1/8"))


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


def flush_ipv6(link: WorldLink) -> None:
    """Take all IPv6 addresses off a link; it gets an automatic one when it is ready again."""
    link.ipv6.clear()
    link.ipv6_ready = False


def link_local_of(mac: str) -> IPv6Interface:
    """Return the fe80 address that Linux derives from a MAC (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Interface((IPv6Address(b"\xfe\x80" + bytes(6) + interface_id), 64))


def _add_ipv6(link: WorldLink, interface: IPv6Interface) -> None:
    if interface.ip == _UNSPECIFIED or interface.ip in _MULTICAST:
        raise Refused(errno.EADDRNOTAVAIL, "ipv6: Invalid address")
    if link.mtu < MIN_IPV6_MTU:
        raise Refused(errno.EINVAL)
    loopback = link.ifindex == LOOPBACK_IFINDEX
    if link.namespace.ipv6_disabled and not loopback:
        raise Refused(errno.EACCES, "ipv6: IPv6 is disabled on this device")
    if interface.ip == _LOOPBACK.ip and not loopback:
        raise Refused(errno.EADDRNOTAVAIL, "ipv6: Cannot assign loopback address on this device")
    if any(a.interface.ip == interface.ip for a in link.ipv6):
        raise Refused(errno.EEXIST, "ipv6: address already assigned")
    _insert_ipv6(link, _new(link, interface))


def _add_ipv4(link: WorldLink, interface: IPv4Interface) -> None:
    if interface.ip.is_unspecified:
        return  # the kernel says yes and does nothing
    same_subnet = [a for a in link.ipv4 if a.interface.network == interface.network]
    if any(a.interface == interface for a in same_subnet):
        raise Refused(errno.EEXIST, "ipv4: Address already assigned")
    if same_subnet:
        link.ipv4.append(_new(link, interface, IFA_F_SECONDARY))
        return
    primaries = [a.interface.ip for a in link.ipv4 if not a.flags & IFA_F_SECONDARY]
    before = sum(ip.is_loopback or not interface.ip.is_loopback for ip in primaries)
    link.ipv4.insert(before, _new(link, interface))


def _new(link: WorldLink, interface: IPInterface, flags: int = 0) -> Address:
    """Return an address that somebody gives a link; the usual ones of ``lo`` always count as the kernel's."""
    automatic = link.ifindex == LOOPBACK_IFINDEX and interface in LOOPBACK_ADDRESSES
    return Address(interface, IFA_F_PERMANENT | flags, automatic)


def _insert_ipv6(link: WorldLink, address: Address) -> None:
    """Insert before the others of its scope: the list runs from wide scopes to narrow, newest first in each."""
    scope = _ipv6_scope(address.interface)
    before = sum(_ipv6_scope(a.interface) < scope for a in link.ipv6)
    link.ipv6.insert(before, address)


def _ipv6_scope(interface: IPInterface) -> int:
    if interface.ip in _LINK_LOCAL or interface == _LOOPBACK:
        return 2
    return 1 if interface.ip in _SITE_LOCAL else 0
