"""How the kernel keeps the addresses of one link, and how to get from one list to another.

The kernel lists IPv4 addresses in the order they were added, and IPv6 addresses of one scope newest first.
Deleting the first IPv4 address of a subnet drops the others of that subnet (``promote_secondaries`` is off
by default). One IPv6 address cannot be there twice with different prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface

from ifagent.core.interface import IPInterface
from ifagent.core.link import Address


def managed(addresses: Iterable[Address], wanted: Sequence[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses the agent answers for: all but automatic fe80 ones that nobody listed."""
    return tuple(a.interface for a in addresses if not a.made_by_kernel or a.interface in wanted)


def in_kernel_order(wanted: Iterable[IPInterface]) -> tuple[IPInterface, ...]:
    """Return the addresses as a link lists them that has exactly these: IPv4, IPv6, IPv6 link-local."""
    return tuple(sorted(wanted, key=_rank))


def address_changes(
    have: Iterable[IPInterface], wanted: Iterable[IPInterface]
) -> tuple[tuple[IPInterface, ...], tuple[IPInterface, ...], tuple[IPInterface, ...]]:
    """Return what to delete first, what to add then, and what to delete last, each in order.

    What is deleted first is in the way of an addition: the same IPv6 address with another prefix, or an
    address that has to be added again to get its place. Everything else is added before anything is deleted.
    """
    early: list[IPInterface] = []
    add: list[IPInterface] = []
    late: list[IPInterface] = []
    have, wanted = tuple(have), tuple(wanted)
    for rank in sorted({_rank(a) for a in (*have, *wanted)}):
        mine = [a for a in have if _rank(a) == rank]
        want = [a for a in wanted if _rank(a) == rank]
        if rank:
            # Newest first: seen from the end of both lists, IPv6 is appended like IPv4.
            mine.reverse()
            want.reverse()
        keep = _kept(mine, want)
        moved = [a for a in mine if a in want and a not in keep]
        gone = [a for a in mine if a not in want]
        blocking = [a for a in gone if rank and any(a.ip == w.ip for w in want)]
        early += [*moved, *blocking]
        add += [a for a in want if a not in keep]
        late += [a for a in gone if a not in blocking]
    return tuple(early), tuple(add), tuple(late)


def _kept(have: Sequence[IPInterface], wanted: Sequence[IPInterface]) -> frozenset[IPInterface]:
    """Return the longest start of ``wanted`` that ``have`` holds in this order: these can stay."""
    remaining = iter(have)
    kept: list[IPInterface] = []
    for address in wanted:
        if address not in remaining:  # consumes up to and with the address
            break
        kept.append(address)
    return frozenset(kept)


def _rank(address: IPv4Interface | IPv6Interface) -> int:
    """Return where the kernel lists an address: IPv4, IPv6 of wide scope, IPv6 link-local."""
    if isinstance(address, IPv4Interface):
        return 0
    return 2 if address.ip.is_link_local else 1
