"""How to get from the addresses that a link has to those that it is to have.

What the kernel has made by itself stays as it is, and counts in its order: of 127/8 the primary of ``lo`` is the
kernel's own 127.0.0.1/8. An address that is there, but not as the agent would have given it, is put right where it is
as far as the kernel can do that. An IPv6 address that another host on the link has is taken off and added again until
nobody has it; each time it comes to another place in the list, so its place does not count until then.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Interface
from itertools import islice
from typing import NamedTuple, TypeVar

from ifagent.core.address_lists import AddressStep, Blocked, Ipv4List, Key, ipv4_key, ipv6_scope
from ifagent.core.link import Address
from ifagent.core.names import IPInterface

_FLAGS = {
    0x02: "nodad",
    0x10: "home",
    0x20: "deprecated",
    0x100: "mngtmpaddr",
    0x200: "noprefixroute",
}
"""``IFA_F_*`` that somebody gives an address, by the words of ``ip address``; the others are the kernel's business."""

_ANY_FLAG = sum(_FLAGS)
_NOPREFIXROUTE = 0x200

_ONE_ORDER: tuple[list[int], ...] = ([], [4], [6], [4, 6])
"""The versions of IP of addresses that can be in one order only."""

CROWD = 1024
"""Addresses of one link from which on the first thing is to have fewer: how to get to what is wanted takes too long."""

PORTION = 250
"""Most addresses that are taken off a link in one go where it has a crowd of them."""

T = TypeVar("T")

Chain = tuple[AddressStep, ...]
"""Steps to be taken in their order."""


class AddressSteps(NamedTuple):
    """What makes the addresses of a link as wanted; nothing where they are.

    The steps of one ``family`` go together. ``replaced`` are put right where they are, each by itself. ``contested``
    are taken off and added again, each by itself, when it is time to see whether somebody else still has them.
    """

    ipv4: Chain = ()
    ipv6: Chain = ()
    replaced: Chain = ()
    contested: tuple[IPInterface, ...] = ()


def managed(addresses: Iterable[Address], wanted: Sequence[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses that can be as wanted: none with a peer, of the kernel's own only those that are listed."""
    _, ours = _sort_out(addresses, wanted)
    return tuple(address.interface for address in ours if address.peer is None)


def oddities(address: Address) -> tuple[str, ...]:
    """Return in words what an address has that the agent would not have given it, apart from a peer."""
    if not _is_odd(address):
        return ()
    words = [f"the flag {word}" for flag, word in _FLAGS.items() if address.flags & flag]
    if not address.lasts:
        words.append("a limited lifetime")
    if address.scope is not None:
        words.append(f"scope {address.scope}")
    if address.broadcast is not None:
        words.append(f"the broadcast address {address.broadcast}")
    if address.metric:
        words.append(f"metric {address.metric}")
    return tuple(words)


def address_steps(have: Iterable[Address], wanted: Sequence[IPInterface], *, newest_first: bool = True) -> AddressSteps:
    """Return what turns ``have``, in the kernel's order, into ``wanted``.

    New addresses come before old ones go, and an address that is there and wanted stays there all the time, unless the
    wanted order, another prefix of an IPv6 address, or what else is wrong with it cannot be had otherwise.
    ``newest_first`` says how this kernel lists IPv6 addresses of one scope.
    """
    have = tuple(have)
    if len(have) > CROWD and any(fewer := _thin_out(have, frozenset(wanted))):
        return fewer
    fixed, ours = _sort_out(have, wanted)
    if _is_as_wanted(ours, wanted) and not fixed:
        return AddressSteps()
    listed = frozenset(wanted)
    contested = {a.interface for a in ours if a.is_duplicate and a.interface in listed and a.peer is None}
    fixed4, have4 = ([a for a in some if a.interface.version == 4] for some in (fixed, have))
    ipv4 = _ipv4_steps(fixed4, have4, wanted)
    ipv6 = _ipv6_steps(
        [a for a in ours if a.interface.version == 6 and a.interface not in contested],
        [a for a in wanted if a.version == 6 and a not in contested],
        newest_first=newest_first,
    )
    anew = contested.union(step.address for step in (*ipv4, *ipv6) if step.address and step.action == "delete")
    odd = [a.interface for a in ours if a.interface in listed and a.interface not in anew and _is_odd(a)]
    replaced = tuple(AddressStep("replace", interface) for interface in odd)
    return AddressSteps(ipv4, ipv6, replaced, tuple(a for a in wanted if a in contested))


def _thin_out(have: Sequence[Address], wanted: frozenset[IPInterface]) -> AddressSteps:
    """Return the deletion of some that are not wanted, from the end, so that secondaries go before primaries."""
    going = (a for a in reversed(have) if not a.made_by_kernel and (a.interface not in wanted or a.peer is not None))
    steps = [AddressStep("delete", a.interface, a.peer) for a in islice(going, PORTION)]
    ipv4, ipv6 = ([s for s in steps if s.address and s.address.version == version] for version in (4, 6))
    return AddressSteps((AddressStep("promote"), *ipv4) if ipv4 else (), tuple(ipv6))


def _is_as_wanted(have: Sequence[Address], wanted: Sequence[IPInterface]) -> bool:
    """Tell whether the addresses are those that are wanted and none can be out of its place; the usual case."""
    if len(have) != len(wanted) or any(a.interface != b for a, b in zip(have, wanted, strict=True)):
        return False
    return not any(map(_is_unusual, have)) and [a.version for a in wanted] in _ONE_ORDER


def _sort_out(addresses: Iterable[Address], wanted: Iterable[IPInterface]) -> tuple[list[Address], list[Address]]:
    """Return the kernel's own addresses, which are left alone unless they are listed, and all others."""
    addresses = list(addresses)
    if not any(address.made_by_kernel for address in addresses):
        return [], addresses
    # An IPv6 address that is wanted with another prefix is in the way with its own one.
    listed = {_identity(interface) for interface in wanted}
    fixed = [a for a in addresses if a.made_by_kernel and _identity(a.interface) not in listed]
    return fixed, [a for a in addresses if not a.made_by_kernel or _identity(a.interface) in listed]


def _identity(interface: IPInterface) -> Hashable:
    """Return what the kernel tells addresses of one link apart by: IPv6 may not have one with two prefixes."""
    return int(interface) if interface.version == 6 else interface


def _is_unusual(address: Address) -> bool:
    return address.peer is not None or address.is_duplicate or _is_odd(address)


def _is_odd(address: Address) -> bool:
    """Tell whether an address has what the agent would not have given it; what the kernel has made is as it is."""
    if address.made_by_kernel:
        return False
    odd = address.flags & _ANY_FLAG or address.metric or not address.lasts
    return bool(odd) or address.scope is not None or address.broadcast is not None


def _can_stay(address: Address) -> bool:
    """Tell whether an address is right or the kernel can put it right where it is."""
    if address.made_by_kernel:
        return True
    if address.peer is not None or address.scope is not None or address.broadcast is not None:
        return False
    return not (address.flags & _NOPREFIXROUTE if address.interface.version == 4 else address.metric)


def _ipv4_steps(fixed: Sequence[Address], have: Sequence[Address], wanted: Iterable[IPInterface]) -> Chain:
    """Return the gentlest steps that end right, by the kernel's rules; ``have`` is everything that is there."""
    wants = {ipv4_key(Address(a)): a for a in wanted if isinstance(a, IPv4Interface)}
    target, refused = _ipv4_target(fixed, wants.values())
    before = [key for key in target if key in wants]
    untouchable = set(map(ipv4_key, fixed))
    ours = [key for address in have if (key := ipv4_key(address)) not in untouchable]
    stays = {key for address in have if (key := ipv4_key(address)) in wants and _can_stay(address)}
    old = [key for key in ours if key not in stays]
    new = [key for key in before if key not in stays]
    if not (old or new or refused) and target == list(map(ipv4_key, have)):
        return ()
    left = Ipv4List(have)
    left.delete(old)
    kept = _kept([key for key in left.listed if key in stays], before)
    moved = [key for key in left.listed if key in stays and key not in kept]
    rest = [key for key in before if key not in kept]
    for deletes_first, adds, deletes_last in (
        ([], new, old),
        (old, new, []),
        ([*old, *moved], rest, []),
        (ours, before, []),
    ):
        trial = Ipv4List(have)
        with suppress(Blocked):
            trial.delete(deletes_first)
            trial.add(wants[key] for key in adds)
            trial.delete(deletes_last)
            if trial.listed == target:
                break
    return (*trial.steps, *(AddressStep("add", interface) for interface in refused))


def _ipv4_target(fixed: Iterable[Address], wanted: Iterable[IPv4Interface]) -> tuple[list[Key], list[IPv4Interface]]:
    """Return the list that these addresses make beside the kernel's own, and those that it will refuse there."""
    made, refused = Ipv4List(fixed), []
    for interface in wanted:
        try:
            made.add([interface])
        except Blocked:
            refused.append(interface)
    return made.listed, refused


def _ipv6_steps(have: Sequence[Address], wanted: Sequence[IPInterface], *, newest_first: bool) -> Chain:
    """Return the steps of all scopes; within one, what is listed last is added first or the other way round."""
    steps: list[AddressStep] = []
    order = -1 if newest_first else 1
    has, wants = _by_scope(have, lambda a: a.interface), _by_scope(wanted, lambda a: a)
    blocked = {int(interface) for interface in wanted}
    for scope in sorted(has.keys() | wants.keys(), reverse=True):
        oldest_first, target = has.get(scope, [])[::order], wants.get(scope, [])[::order]
        stays = [a.interface for a in oldest_first if _can_stay(a)]
        if stays == target and len(stays) == len(oldest_first):
            continue
        listed = frozenset(target)
        kept = _kept([interface for interface in stays if interface in listed], target)
        leaving = [a for a in oldest_first if a.interface not in kept]
        early = [AddressStep("delete", a.interface, a.peer) for a in leaving if int(a.interface) in blocked]
        late = [AddressStep("delete", a.interface, a.peer) for a in leaving if int(a.interface) not in blocked]
        steps += [*early, *(AddressStep("add", a) for a in target if a not in kept), *late]
    return tuple(steps)


def _by_scope(things: Iterable[T], interface: Callable[[T], IPInterface]) -> dict[int, list[T]]:
    scopes: dict[int, list[T]] = {}
    for thing in things:
        scopes.setdefault(ipv6_scope(int(interface(thing))), []).append(thing)
    return scopes


def _kept(have: Iterable[T], wanted: Iterable[T]) -> frozenset[T]:
    """Return the longest start of ``wanted`` that ``have`` holds in this order: these can stay."""
    remaining = iter(have)
    kept: list[T] = []
    for each in wanted:
        if each not in remaining:  # consumes up to and with it
            break
        kept.append(each)
    return frozenset(kept)
