"""The smallest changes that make one link what one interface says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from ifagent.core.address_lists import AddressStep
from ifagent.core.addresses import CROWD, AddressSteps, address_steps, oddities
from ifagent.core.link import Checksums, Link, LinkData, Scalar
from ifagent.core.names import HostName, IPInterface
from ifagent.core.operation import LinkOperation, Target
from ifagent.core.operations import (
    AddAddress,
    ChangeLink,
    DeleteAddress,
    PromoteSecondaries,
    RenewAddress,
    ReplaceAddress,
    SetChecksums,
    SetLink,
    SetPort,
)

MAX_DIFFERENCES = 20
"""Most differences of one link that are told: anybody may give a link thousands of addresses."""


class Changes(NamedTuple):
    """What to do, and what was different, in words.

    ``attributes`` come first. Then the ``addresses``, for each family groups of operations in their order: what follows
    a group must not be done unless all of it was, and what is refused in one family does not hold up the other.
    """

    attributes: tuple[LinkOperation, ...] = ()
    addresses: tuple[tuple[tuple[LinkOperation, ...], ...], ...] = ()
    differences: tuple[str, ...] = ()


class Attributes(NamedTuple):
    """What a link is to have: given, or by default, or ``None`` for none of our business.

    ``alias`` and ``group`` are the marks. ``master`` is the ifindex of the link that it is to be a port of, 0 for none;
    with that change it ``loses_ipv6`` addresses, or is ``left_down``.
    ``data`` are settings of its kind, those ``only_down`` are changed while it is down; ``port`` are those of a port
    of its master, whose kind ``port_of`` is. ``sends_by`` is the ifindex of the link that a tunnel's packets leave by,
    0 for any; where it is given, all settings are changed at once. ``checksums`` that are not known yet are waited
    for; ``alias_last`` says that the mark in force is still needed until everything else is right.
    """

    host_name: HostName | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    alias: str | None = None
    group: int | None = None
    checksums: Checksums | None = None
    alias_last: bool = False
    addresses: tuple[IPInterface, ...] | None = None
    master: int | None = None
    loses_ipv6: bool = False
    left_down: bool = False
    data: LinkData = ()
    only_down: frozenset[str] = frozenset()
    sends_by: int | None = None
    port: LinkData = ()
    port_of: str = ""


def configure(target: Target, link: Link, attributes: Attributes, *, newest_first: bool = True) -> Changes:
    """Return what gives ``link`` its ``attributes``; nothing where it has them already.

    ``target`` is how operations are to name the link. ``newest_first`` says how the kernel lists IPv6 addresses.
    """
    different = {
        name: value
        for name, has, value in (
            ("host_name", link.host_name, attributes.host_name),
            ("mac", link.mac, attributes.mac),
            ("mtu", link.mtu, attributes.mtu),
            ("up", link.up, attributes.up),
            ("alias", link.alias, attributes.alias),
            ("group", link.group, attributes.group),
            ("master", link.master, attributes.master),
        )
        if has != value and value is not None
    }
    differences = [f"{name} is {getattr(link, name)!r}, wanted {value!r}" for name, value in different.items()]
    checksums = _checksum_differences(link, attributes)
    differences += checksums
    if checksums and attributes.alias_last:
        different.pop("alias", None)
    operations: list[LinkOperation] = []
    if different:
        operations.append(SetLink(target=target, **different))  # type: ignore[arg-type]  # fields by name
        if attributes.left_down and attributes.up:
            operations.append(SetLink(target=target, up=True))
    data_differences, change = _change_data(target, link, attributes)
    differences += data_differences
    operations += change
    if not different.get("master") and (changed := _unlike(link.port, attributes.port)):
        differences += [f"{name} of the port is {has!r}, wanted {value!r}" for name, has, value in changed]
        operations.append(SetPort(target, attributes.port_of, tuple((name, value) for name, _, value in changed)))
    if "host_name" in different and target.ifindex is not None:
        target = Target(target.namespace, attributes.host_name or link.host_name, target.ifindex)
    if checksums and attributes.checksums and link.checksums:
        operations.append(SetChecksums(target, attributes.checksums))
    goes_down = any(isinstance(operation, SetLink) and operation.up is False for operation in change)
    address_differences, addresses = _change_addresses(
        target, link, attributes, newest_first=newest_first, loses_ipv6=attributes.loses_ipv6 or goes_down
    )
    differences += address_differences
    if len(differences) > MAX_DIFFERENCES:
        differences[MAX_DIFFERENCES:] = [f"and {len(differences) - MAX_DIFFERENCES} more"]
    return Changes(tuple(operations), addresses, tuple(differences))


def _change_addresses(
    target: Target, link: Link, attributes: Attributes, *, newest_first: bool, loses_ipv6: bool
) -> tuple[list[str], tuple[tuple[tuple[LinkOperation, ...], ...], ...]]:
    """Return the differences in addresses, and what changes them; ``loses_ipv6`` what is done before."""
    if attributes.addresses is None or not (link.addresses or attributes.addresses):
        return [], ()
    steps = address_steps(link.addresses, attributes.addresses, newest_first=newest_first)
    differences = list(_address_differences(link, attributes.addresses, steps)) if any(steps) else []
    if loses_ipv6:
        left = tuple(address for address in link.addresses if address.interface.version == 4)
        steps = address_steps(left, attributes.addresses, newest_first=newest_first)
    return differences, _address_operations(target, steps) if any(steps) else ()


def _change_data(target: Target, link: Link, attributes: Attributes) -> tuple[list[str], list[LinkOperation]]:
    """Return the differences in settings of the link's kind, and what changes them."""
    changed = _unlike(link.data, attributes.data)
    differences = [f"{name} is {has!r}, wanted {value!r}" for name, has, value in changed]
    if attributes.sends_by is None:
        if not changed:
            return [], []
        data = tuple((name, value) for name, _, value in changed)
        change = ChangeLink(target, link.kind, data, before=tuple((name, has) for name, has, _ in changed))
        if not link.up or attributes.only_down.isdisjoint(name for name, _ in data):
            return differences, [change]
        up = [SetLink(target=target, up=True)] if attributes.up else []
        return differences, [SetLink(target=target, up=False), change, *up]
    sends_by = link.lower.ifindex if link.lower else 0
    if sends_by != attributes.sends_by:
        differences.append(f"it sends by the link of ifindex {sends_by}, wanted {attributes.sends_by}")
    if not differences:
        return [], []
    return differences, [ChangeLink(target, link.kind, attributes.data, attributes.sends_by, attributes.mtu)]


def _unlike(has: LinkData, wanted: LinkData) -> list[tuple[str, Scalar, Scalar]]:
    """Return the settings that differ, as they are and as they are wanted, as far as this kernel has them."""
    known = dict(has)
    return [(name, known[name], value) for name, value in wanted if name in known and known[name] != value]


def _checksum_differences(link: Link, attributes: Attributes) -> list[str]:
    if attributes.checksums is None or link.checksums == attributes.checksums:
        return []
    if link.checksums is None:
        return ["its checksum offloading is not known yet"]
    directions = zip(("rx", "tx"), link.checksums, attributes.checksums, strict=True)
    return [
        f"{name} checksum offloading is {'on' if has else 'off'}" for name, has, wants in directions if has != wants
    ]


def _address_differences(link: Link, wanted: Sequence[IPInterface], steps: AddressSteps) -> Iterator[str]:
    """Yield in words what is to be changed; an address that somebody else has is told of where it is tried again."""
    if len(link.addresses) > CROWD:
        yield f"it has {len(link.addresses)} addresses"
    there = {address.interface: address for address in link.addresses if address.peer is None}
    for step in (*steps.ipv4, *steps.ipv6):
        if step.action == "add" and step.address not in there:
            yield f"address {step.address} is missing"
        elif step.action == "delete" and step.peer is not None:
            yield f"address {step.address} peer {step.peer} is not wanted"
        elif step.action == "delete" and step.address not in wanted:
            yield f"address {step.address} is not wanted"
        elif step.action == "delete" and step.address is not None:
            odd = oddities(there[step.address])
            yield (
                f"address {step.address} has {', '.join(odd)}" if odd else f"address {step.address} is not in its place"
            )
    for step in steps.replaced:
        if step.address is not None:
            yield f"address {step.address} has {', '.join(oddities(there[step.address]))}"


def _address_operations(target: Target, steps: AddressSteps) -> tuple[tuple[tuple[LinkOperation, ...], ...], ...]:
    """Return operations in groups: for each family, and for each address that has nothing to do with the others."""
    families = [
        tuple(tuple(_operation(target, step) for step in same) for _, same in groupby(family, key=attrgetter("action")))
        for family in (steps.ipv4, steps.ipv6)
    ]
    single = [((_operation(target, step),),) for step in steps.replaced]
    again = [((RenewAddress(target, address),),) for address in steps.contested]
    return tuple(family for family in (*families, *single, *again) if family)


def _operation(target: Target, step: AddressStep) -> LinkOperation:
    if step.address is None:
        return PromoteSecondaries(target)
    match step.action:
        case "add":
            return AddAddress(target, step.address)
        case "replace":
            return ReplaceAddress(target, step.address)
        case _:
            return DeleteAddress(target, step.address, step.peer)
