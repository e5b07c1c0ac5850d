"""How the kernel keeps the addresses of one link.

IPv4: the first address of a subnet (same network, same prefix length) is its *primary*, later ones are *secondaries*.
The kernel lists the primaries by scope, those of host scope (127/8) before global ones, within one scope in the order
they came, then the secondaries in the order they came. Deleting a primary drops its secondaries, unless the link's
``promote_secondaries`` is on: then the first of them takes its place, behind the other primaries of its scope. What has
a peer is in the peer's subnet, and a subnet takes addresses of one scope only.

IPv6: addresses are listed by scope, global, site-local, link-local with ``::1``, within one newest first (some kernels:
newest last); one address cannot be there twice with different prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal, NamedTuple

from ifagent.core.link import Address, usual_scope
from ifagent.core.names import IPInterface

MAX_IPV6_SCOPE = 0xF
"""The widest scope by which the kernel sorts IPv6 addresses; the narrowest is 0."""

_GLOBAL, _SITE_LOCAL, _LINK_LOCAL = 0xE, 0x5, 0x2
_LINK_LOCAL_PREFIX, _SITE_LOCAL_PREFIX, _MULTICAST_PREFIX = 0xFE80 >> 6, 0xFEC0 >> 6, 0xFF
_IPV4_BITS = 32


def ipv6_scope(number: int) -> int:
    """Return the scope by which the kernel sorts an IPv6 address (``ipv6_addr_src_scope``), wider ones first."""
    prefix = number >> 118
    if prefix == _LINK_LOCAL_PREFIX or number == 1:  # ::1 is the loopback address
        return _LINK_LOCAL
    if prefix == _SITE_LOCAL_PREFIX:
        return _SITE_LOCAL
    if number >> 120 == _MULTICAST_PREFIX:
        return number >> 112 & MAX_IPV6_SCOPE
    return _GLOBAL


class AddressStep(NamedTuple):
    """One change of a link's addresses.

    ``replace`` is about an address that is there, and gives it what ``add`` would. ``promote`` has no address: from
    then on the first secondary address takes the place of a primary that goes. ``peer`` tells which one to delete.
    """

    action: Literal["add", "replace", "delete", "promote"]
    address: IPInterface | None = None
    peer: IPv4Address | IPv6Address | None = None


class Key(NamedTuple):
    """What tells IPv4 addresses of one link apart: the subnet's prefix length and number, and the address."""

    prefix: int
    network: int
    address: int


class Blocked(Exception):
    """The kernel would refuse an address as something else is in its subnet, or it is there already."""


class Ipv4List:
    """The IPv4 addresses of one link as the kernel keeps them while they are changed, and the steps that do it.

    Anybody may give a link in his namespace tens of thousands: what is done costs time in proportion to their number.
    """

    def __init__(self, listed: Iterable[Address]) -> None:
        """Start with addresses as the kernel lists them."""
        self.steps: list[AddressStep] = []
        self._addresses: dict[Key, Address] = {}
        self._scopes: dict[tuple[int, int], int] = {}
        self._primaries: dict[int, dict[Key, None]] = {}
        self._secondaries: dict[Key, None] = {}
        self._promotes = False
        for address in listed:
            self._put(ipv4_key(address), address)

    @property
    def listed(self) -> list[Key]:
        """The addresses in the kernel's order."""
        primaries = [key for scope in sorted(self._primaries, reverse=True) for key in self._primaries[scope]]
        return [*primaries, *self._secondaries]

    def add(self, interfaces: Iterable[IPv4Interface]) -> None:
        """Add addresses in this order. Raises :class:`Blocked`."""
        for interface in interfaces:
            address = Address(interface)
            key = ipv4_key(address)
            if key in self._addresses or self._scopes.get(key[:2], usual_scope(interface)) != usual_scope(interface):
                raise Blocked
            self.steps.append(AddressStep("add", interface))
            self._put(key, address)

    def delete(self, keys: Iterable[Key]) -> None:
        """Delete addresses, secondaries first: nothing takes the place of a primary that is to go itself."""
        keys = list(keys)
        going = [key for key in keys if key in self._secondaries]
        for key in going:
            del self._secondaries[key]
            self._delete(key)
        if len(going) == len(keys):
            return
        heirs: dict[tuple[int, int], Key] = {}
        for key in reversed(self._secondaries):
            heirs[key[:2]] = key
        for key in keys:
            if key not in self._addresses:
                continue
            primaries = self._primaries[self._scopes[key[:2]]]
            del primaries[key]
            heir = heirs.get(key[:2])
            if heir is None:
                del self._scopes[key[:2]]
            else:
                self._promote()
                del self._secondaries[heir]
                primaries[heir] = None
            self._delete(key)

    def _put(self, key: Key, address: Address) -> None:
        self._addresses[key] = address
        if key[:2] in self._scopes:
            self._secondaries[key] = None
            return
        scope = usual_scope(address.interface) if address.scope is None else address.scope
        self._scopes[key[:2]] = scope
        self._primaries.setdefault(scope, {})[key] = None

    def _delete(self, key: Key) -> None:
        address = self._addresses.pop(key)
        self.steps.append(AddressStep("delete", address.interface, address.peer))

    def _promote(self) -> None:
        if not self._promotes:
            self._promotes = True
            self.steps.append(AddressStep("promote"))


def ipv4_key(address: Address) -> Key:
    """Return what tells an IPv4 address from others on its link."""
    interface = address.interface
    prefix, number = interface.network.prefixlen, int(interface)
    far = number if address.peer is None else int(address.peer)
    return Key(prefix, far >> _IPV4_BITS - prefix, number)


def in_kernel_order(wanted: Iterable[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses as a link lists them to which these were given in this order of preference."""
    wanted = tuple(wanted)
    ipv4 = Ipv4List(Address(interface) for interface in wanted if isinstance(interface, IPv4Interface))
    by_key = {ipv4_key(Address(a)): a for a in wanted if isinstance(a, IPv4Interface)}
    ipv6 = sorted((a for a in wanted if isinstance(a, IPv6Interface)), key=lambda a: -ipv6_scope(int(a)))
    return (*(by_key[key] for key in ipv4.listed), *ipv6)
