"""The kernel's own order of one link's addresses, followed without asking again. Pure.

IPv4, as in ``net/ipv4/devinet.c``: primary addresses by scope, in the order they came; secondary ones after
everything. When a primary goes and ``promote_secondaries`` is on, the first secondary of its subnet becomes
primary and moves behind the last primary before it. IPv6, as in ``net/ipv6/addrconf.c``: by scope, and within
one scope the newest first; some kernels (6.19, and stable ones of that time) put the newest last.
"""

from __future__ import annotations

from ipaddress import IPv6Interface

from ifagent.core.link import Address
from ifagent.kernel.messages import AddressMessage
from ifagent.kernel.rtnetlink import AF_INET, IFA_F_SECONDARY, IFA_F_TENTATIVE

_IPV4_BITS = 32
_SITE_LOCAL = 0xFEC0 >> 6
_SCOPE_LINK, _SCOPE_SITE, _SCOPE_GLOBAL = 0x2, 0x5, 0xE


def insert(addresses: list[AddressMessage], new: AddressMessage, *, newest_first: bool) -> bool:
    """Put an address where the kernel has it; one that is there already is replaced in its place.

    All of ``addresses`` are of one link and of the family of ``new``. False if the place is a guess: the
    kernel tells of an IPv6 address only when it is usable if it made it, or if it need not look for
    duplicates, and others of its scope may have come meanwhile.
    """
    for at, have in enumerate(addresses):
        if _same(have, new):
            addresses[at] = new
            return True
    if new.family == AF_INET:
        addresses.insert(_ipv4_place(addresses, new), new)
        return True
    scope = _ipv6_scope(new.address)
    scopes = [_ipv6_scope(have.address) for have in addresses]
    addresses.insert(sum(s > scope or (s == scope and not newest_first) for s in scopes), new)
    return bool(new.address.flags & IFA_F_TENTATIVE) or scope not in scopes


def remove(addresses: list[AddressMessage], gone: AddressMessage) -> None:
    """Take an address away, and move the one that takes its place, if any; no matter if it is not there."""
    for at, have in enumerate(addresses):
        if _same(have, gone):
            if gone.family == AF_INET and not have.address.flags & IFA_F_SECONDARY:
                _promote(addresses, at)
            addresses.remove(have)
            return


def _promote(addresses: list[AddressMessage], at: int) -> None:
    """Move the first secondary address of the subnet whose primary address, at ``at``, goes.

    Without promotion the kernel has told of the secondaries' end before, so none is left here.
    """
    primary = addresses[at]
    behind = at
    for place in range(at + 1, len(addresses)):
        have = addresses[place]
        if have.address.flags & IFA_F_SECONDARY:
            if _subnet(have) == _subnet(primary):
                addresses.insert(behind + 1, addresses.pop(place))
                return
        elif primary.scope <= have.scope:
            behind = place


def _ipv4_place(addresses: list[AddressMessage], new: AddressMessage) -> int:
    if new.address.flags & IFA_F_SECONDARY:
        return len(addresses)
    place = 0
    for at, have in enumerate(addresses):
        if not have.address.flags & IFA_F_SECONDARY and new.scope <= have.scope:
            place = at + 1
    return place


def _same(one: AddressMessage, other: AddressMessage) -> bool:
    """Tell whether two messages are of one address: IPv4 may have it in several subnets, IPv6 may not."""
    if one.address.interface.ip != other.address.interface.ip:
        return False
    return one.family != AF_INET or _subnet(one) == _subnet(other)


def _subnet(message: AddressMessage) -> tuple[int, int]:
    prefix = message.address.interface.network.prefixlen
    return prefix, message.far >> (_IPV4_BITS - prefix)


def _ipv6_scope(address: Address) -> int:
    """Return the scope by which the kernel sorts (``ipv6_addr_src_scope``)."""
    interface = address.interface
    if isinstance(interface, IPv6Interface):
        if interface.ip.is_link_local or interface.ip.is_loopback:
            return _SCOPE_LINK
        if int(interface.ip) >> 118 == _SITE_LOCAL:
            return _SCOPE_SITE
    return _SCOPE_GLOBAL
