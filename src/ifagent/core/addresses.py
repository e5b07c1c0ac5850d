"""How the kernel keeps the addresses of one link, and how to get from one list to another.

IPv4: the first address of a subnet (same network, same prefix length) is its *primary*, later ones are
*secondaries*. The kernel lists the primaries in the order they were added, those of 127/8 first, then the
secondaries likewise; deleting a primary drops its secondaries (``promote_secondaries`` is off by default). IPv6:
addresses are listed by scope, global, site-local, link-local, within one newest first (some kernels: newest last);
one address cannot be there twice with different prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TypeVar

from ifagent.core.interface import IPInterface
from ifagent.core.link import Address

T = TypeVar("T", IPv4Interface, IPv6Interface)


@dataclass(frozen=True, slots=True)
class AddressChanges:
    """What to delete first, what to add then, and what to delete last, each in order.

    What is deleted ``early`` is in the way of an addition; everything else is added before anything is deleted.
    """

    early: tuple[IPInterface, ...] = ()
    add: tuple[IPInterface, ...] = ()
    late: tuple[IPInterface, ...] = ()

    def __add__(self, other: AddressChanges) -> AddressChanges:
        return AddressChanges(self.early + other.early, self.add + other.add, self.late + other.late)


def managed(addresses: Iterable[Address], wanted: Sequence[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses that can be as wanted: no automatic fe80 ones that nobody listed, none with a peer."""
    return tuple(a.interface for a in addresses if a.peer is None and (not a.made_by_kernel or a.interface in wanted))


def in_kernel_order(wanted: Iterable[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses as a link lists them to which these were given in this order of preference."""
    wanted = tuple(wanted)
    primaries, secondaries = _split([a for a in wanted if isinstance(a, IPv4Interface)])
    ipv6 = [address for scope in _by_scope(wanted) for address in scope]
    return (*primaries, *secondaries, *ipv6)


def address_changes(
    have: Iterable[IPInterface], wanted: Iterable[IPInterface], *, newest_first: bool = True
) -> AddressChanges:
    """Return what turns ``have``, in the kernel's order, into ``wanted``; nothing if it is that already.

    ``newest_first`` says how this kernel lists IPv6 addresses of one scope.
    """
    have, wanted = tuple(have), tuple(wanted)
    if have == in_kernel_order(wanted):
        return AddressChanges()
    ipv4 = _ipv4_changes(*([a for a in side if isinstance(a, IPv4Interface)] for side in (have, wanted)))
    order = -1 if newest_first else 1
    scopes = zip(_by_scope(have), _by_scope(wanted), strict=True)
    return sum((_ipv6_changes(has[::order], wants[::order]) for has, wants in scopes), ipv4)


def _ipv4_changes(have: Sequence[IPv4Interface], wanted: Sequence[IPv4Interface]) -> AddressChanges:
    primaries, secondaries = _split(have)
    wanted_primaries, wanted_secondaries = _split(wanted)
    stay = _kept(primaries, wanted_primaries)
    subnets = {address.network for address in stay}
    # A secondary whose primary goes, goes with it.
    dependants = [address for address in secondaries if address.network in subnets]
    stay |= _kept(dependants, wanted_secondaries)
    leaving = [address for address in (*primaries, *dependants) if address not in stay]
    wanted_subnets = {address.network for address in wanted_primaries}
    early = [a for a in leaving if a in wanted or (a in primaries and a.network in wanted_subnets)]
    return AddressChanges(
        tuple(early),
        tuple(a for a in (*wanted_primaries, *wanted_secondaries) if a not in stay),
        tuple(a for a in leaving if a not in early),
    )


def _ipv6_changes(have: Sequence[IPv6Interface], wanted: Sequence[IPv6Interface]) -> AddressChanges:
    """Return the changes within one scope; both lists have the oldest address first."""
    stay = _kept(have, wanted)
    leaving = [address for address in have if address not in stay]
    blocked = {address.ip for address in wanted}
    early = [address for address in leaving if address.ip in blocked]
    return AddressChanges(
        tuple(early), tuple(a for a in wanted if a not in stay), tuple(a for a in leaving if a not in early)
    )


def _split(addresses: Iterable[IPv4Interface]) -> tuple[list[IPv4Interface], list[IPv4Interface]]:
    """Return primaries and secondaries, those of host scope first."""
    addresses = sorted(addresses, key=lambda address: not address.ip.is_loopback)
    primaries = {address.network: address for address in reversed(addresses)}
    first = set(primaries.values())
    return [a for a in addresses if a in first], [a for a in addresses if a not in first]


def _by_scope(addresses: Iterable[IPInterface]) -> tuple[list[IPv6Interface], ...]:
    """Return the global, the site-local and the link-local IPv6 addresses."""
    scopes: tuple[list[IPv6Interface], ...] = ([], [], [])
    for address in addresses:
        if isinstance(address, IPv6Interface):
            scopes[2 if address.ip.is_link_local else 1 if address.ip.is_site_local else 0].append(address)
    return scopes


def _kept(have: Sequence[T], wanted: Sequence[T]) -> frozenset[T]:
    """Return the longest start of ``wanted`` that ``have`` holds in this order: these can stay."""
    remaining = iter(have)
    kept: list[T] = []
    for address in wanted:
        if address not in remaining:  # consumes up to and with the address
            break
        kept.append(address)
    return frozenset(kept)
