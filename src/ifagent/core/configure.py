"""The smallest changes that make one link what one interface says."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from ifagent.core.addresses import AddressStep, address_steps, managed
from ifagent.core.interface import HostName, Interface, IPInterface
from ifagent.core.link import Checksums, Link
from ifagent.core.operations import (
    AddAddress,
    DeleteAddress,
    LinkOperation,
    PromoteSecondaries,
    SetChecksums,
    SetLink,
    Target,
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
    """What a link is to have beside its host name: given, or by default, or ``None`` for none of our business.

    ``alias`` and ``group`` are the marks. ``checksums`` that are not known yet are waited for; ``alias_last`` says
    that the mark in force is still needed until everything else is right, ``keeps_name`` that the link stays as it is
    called, whatever that is.
    """

    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    alias: str | None = None
    group: int | None = None
    checksums: Checksums | None = None
    alias_last: bool = False
    keeps_name: bool = False
    addresses: tuple[IPInterface, ...] | None = None


def configure(
    interface: Interface, target: Target, link: Link, attributes: Attributes, *, newest_first: bool = True
) -> Changes:
    """Return what makes ``link`` as ``interface`` says; nothing where it is so already.

    ``target`` is how operations are to name the link. ``newest_first`` says how the kernel lists IPv6 addresses.
    """
    different = {
        name: value
        for name, has, value in (
            ("host_name", link.host_name, None if attributes.keeps_name else interface.host_name),
            ("mac", link.mac, attributes.mac),
            ("mtu", link.mtu, attributes.mtu),
            ("up", link.up, attributes.up),
            ("alias", link.alias, attributes.alias),
            ("group", link.group, attributes.group),
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
    if "host_name" in different and target.ifindex is not None:
        target = Target(target.namespace, HostName(interface.host_name), target.ifindex)
    if checksums and attributes.checksums and link.checksums:
        operations.append(SetChecksums(target, attributes.checksums))
    if attributes.addresses is None:
        return Changes(tuple(operations), (), tuple(differences))

    if not (link.addresses or attributes.addresses):
        return Changes(tuple(operations), (), tuple(differences))
    have = managed(link.addresses, attributes.addresses)
    steps = address_steps(have, attributes.addresses, newest_first=newest_first)
    pointed = [address for address in link.addresses if address.peer is not None]
    if not (pointed or any(steps)):
        return Changes(tuple(operations), (), tuple(differences))
    groups = [
        tuple(tuple(_operation(target, step) for step in same) for _, same in groupby(family, key=attrgetter("action")))
        for family in steps
    ]
    unwanted = tuple(DeleteAddress(target, a.interface, a.peer) for a in pointed)
    groups += [(unwanted,)] if unwanted else []
    differences += _address_differences(have, attributes.addresses, (step for family in steps for step in family))
    differences += [f"address {a.interface} peer {a.peer} is not wanted" for a in pointed]
    if len(differences) > MAX_DIFFERENCES:
        differences[MAX_DIFFERENCES:] = [f"and {len(differences) - MAX_DIFFERENCES} more"]
    return Changes(tuple(operations), tuple(family for family in groups if family), tuple(differences))


def _checksum_differences(link: Link, attributes: Attributes) -> list[str]:
    if attributes.checksums is None or link.checksums == attributes.checksums:
        return []
    if link.checksums is None:
        return ["its checksum offloading is not known yet"]
    directions = zip(("rx", "tx"), link.checksums, attributes.checksums, strict=True)
    return [
        f"{name} checksum offloading is {'on' if has else 'off'}" for name, has, wants in directions if has != wants
    ]


def _address_differences(
    have: tuple[IPInterface, ...], wanted: tuple[IPInterface, ...], steps: Iterable[AddressStep]
) -> list[str]:
    differences = []
    for step in steps:
        if step.action == "add" and step.address not in have:
            differences.append(f"address {step.address} is missing")
        elif step.action == "delete":
            problem = "not in its place" if step.address in wanted else "not wanted"
            differences.append(f"address {step.address} is {problem}")
    return differences


def _operation(target: Target, step: AddressStep) -> LinkOperation:
    if step.address is None:
        return PromoteSecondaries(target)
    return (AddAddress if step.action == "add" else DeleteAddress)(target, step.address)
