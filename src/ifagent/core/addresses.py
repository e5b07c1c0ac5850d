"""How the kernel keeps the addresses of one link, and how to get from one list to another.

IPv4: the first address of a subnet (same network, same prefix length) is its *primary*, later ones are
*secondaries*. The kernel lists the primaries in the order they were added, those of 127/8 first, then the
secondaries likewise; deleting a primary drops its secondaries, unless the link's ``promote_secondaries`` is on: then
the first of them takes its place, behind the other primaries. IPv6:
addresses are listed by scope, global, site-local, link-local, within one newest first (some kernels: newest last);
one address cannot be there twice with different prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, NamedTuple, TypeVar

from ifagent.core.interface import IPInterface
from ifagent.core.link import Address

_ONE_ORDER: tuple[list[int], ...] = ([], [4], [6], [4, 6])
"""The versions of IP of addresses that can be in one order only."""

T = TypeVar("T", IPv4Interface, IPv6Interface)


class AddressStep(NamedTuple):
    """One change of a link's addresses.

    ``promote`` has no address: from then on the first secondary address takes the place of a primary that goes.
    """

    action: Literal["add", "delete", "promote"]
    address: IPInterface | None = None


def managed(addresses: Iterable[Address], wanted: Sequence[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses that can be as wanted: no automatic fe80 ones that nobody listed, none with a peer."""
    return tuple(a.interface for a in addresses if a.peer is None and (not a.made_by_kernel or a.interface in wanted))


def in_kernel_order(wanted: Iterable[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses as a link lists them to which these were given in this order of preference."""
    wanted = tuple(wanted)
    primaries, secondaries = _split([a for a in wanted if isinstance(a, IPv4Interface)])
    ipv6 = [address for scope in _by_scope(wanted) for address in scope]
    return (*primaries, *secondaries, *ipv6)


def address_steps(
    have: Iterable[IPInterface], wanted: Iterable[IPInterface], *, newest_first: bool = True
) -> tuple[tuple[AddressStep, ...], tuple[AddressStep, ...]]:
    """Return what turns ``have``, in the kernel's order, into ``wanted``, for IPv4 and for IPv6; nothing if it is that.

    Steps are to be taken in their order. New addresses come before old ones go, and an address that is there and
    wanted stays there all the time, unless the wanted order, or another prefix of an IPv6 address, cannot be had
    otherwise. ``newest_first`` says how this kernel lists IPv6 addresses of one scope.
    """
    have, wanted = tuple(have), tuple(wanted)
    if have == wanted and [a.version for a in wanted] in _ONE_ORDER:
        return (), ()
    ipv4 = _ipv4_steps(*([a for a in side if isinstance(a, IPv4Interface)] for side in (have, wanted)))
    order = -1 if newest_first else 1
    scopes = zip(_by_scope(have), _by_scope(wanted), strict=True)
    ipv6 = [step for has, wants in scopes for step in _ipv6_steps(has[::order], wants[::order])]
    return tuple(ipv4), tuple(ipv6)


def _ipv4_steps(have: list[IPv4Interface], wanted: list[IPv4Interface]) -> list[AddressStep]:
    """Return the gentlest steps that end right, by the kernel's rules."""
    primaries, secondaries = _split(wanted)
    target = [*primaries, *secondaries]
    if have == target:
        return []
    if not have:
        return [AddressStep("add", address) for address in target]
    new = [a for a in target if a not in have]
    old = [a for a in have if a not in target]
    left = _Ipv4List(have)
    for address in old:
        left.delete(address)
    stay = _kept(left.listed, target)
    moved = [a for a in left.listed if a not in stay]
    rest = [a for a in target if a not in stay]
    for deletes_first, adds, deletes_last in (
        ([], new, old),
        (old, new, []),
        ([*old, *moved], rest, []),
    ):
        trial = _Ipv4List(have)
        trial.delete(*deletes_first)
        trial.add(*adds)
        trial.delete(*deletes_last)
        if trial.listed == target:
            return trial.steps
    trial = _Ipv4List(have)
    trial.delete(*have)
    trial.add(*target)
    return trial.steps


class _Ipv4List:
    """The IPv4 addresses of one link as the kernel keeps them while they are changed, and the steps that do it."""

    def __init__(self, listed: Iterable[IPv4Interface]) -> None:
        self.primaries, self.secondaries = _split(listed)
        self.steps: list[AddressStep] = []
        self._promotes = False

    @property
    def listed(self) -> list[IPv4Interface]:
        return [*self.primaries, *self.secondaries]

    def add(self, *addresses: IPv4Interface) -> None:
        for address in addresses:
            self.steps.append(AddressStep("add", address))
            if any(primary.network == address.network for primary in self.primaries):
                self.secondaries.append(address)
            else:
                self.primaries.append(address)
                self._sort()

    def delete(self, *addresses: IPv4Interface) -> None:
        # Secondaries first: nothing takes the place of a primary that is to go itself.
        for address in sorted(addresses, key=self.primaries.__contains__):
            if address in self.secondaries:
                self.secondaries.remove(address)
            else:
                self._delete_primary(address)
            self.steps.append(AddressStep("delete", address))

    def _delete_primary(self, address: IPv4Interface) -> None:
        self.primaries.remove(address)
        heir = next((a for a in self.secondaries if a.network == address.network), None)
        if heir is None:
            return
        if not self._promotes:
            self._promotes = True
            self.steps.append(AddressStep("promote"))
        self.secondaries.remove(heir)
        self.primaries.append(heir)
        self._sort()

    def _sort(self) -> None:
        self.primaries.sort(key=lambda address: not address.ip.is_loopback)


def _ipv6_steps(have: Sequence[IPv6Interface], wanted: Sequence[IPv6Interface]) -> list[AddressStep]:
    """Return the steps within one scope; both lists have the oldest address first."""
    if have == wanted:
        return []
    stay = _kept([a for a in have if a in wanted], wanted)
    leaving = [address for address in have if address not in stay]
    blocked = {address.ip for address in wanted}
    early = [address for address in leaving if address.ip in blocked]
    return [
        *(AddressStep("delete", address) for address in early),
        *(AddressStep("add", address) for address in wanted if address not in stay),
        *(AddressStep("delete", address) for address in leaving if address not in early),
    ]


def _split(addresses: Iterable[IPv4Interface]) -> tuple[list[IPv4Interface], list[IPv4Interface]]:
    """Return primaries and secondaries, those of host scope first."""
    if len(addresses := list(addresses)) < 2:
        return addresses, []
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
