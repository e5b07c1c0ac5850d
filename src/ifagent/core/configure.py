"""The smallest changes that make one link what one interface says."""

from __future__ import annotations

from dataclasses import dataclass

from ifagent.core.addresses import address_changes, managed
from ifagent.core.interface import HostName, Interface
from ifagent.core.link import Link
from ifagent.core.operations import AddAddress, DeleteAddress, LinkOperation, SetLink, Target


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, and what was different, in words.

    ``attributes`` come first. Then the chains of ``addresses``, one per family, each in its order: what is
    refused in one family does not hold up the other.
    """

    attributes: tuple[SetLink, ...] = ()
    addresses: tuple[tuple[LinkOperation, ...], ...] = ()
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a link is to have beside what its interface says: MAC and MTU, given or by default, and the marks."""

    mac: str
    mtu: int
    alias: str
    group: int


def configure(
    interface: Interface, target: Target, link: Link, attributes: Attributes, *, newest_first: bool = True
) -> Changes:
    """Return what makes ``link`` as ``interface`` says; nothing where it is so already.

    ``target`` is how operations are to name the link. ``newest_first`` says how the kernel lists IPv6 addresses.
    """
    wanted: dict[str, tuple[object, object]] = {
        "host_name": (link.host_name, interface.host_name),
        "mac": (link.mac, attributes.mac),
        "mtu": (link.mtu, attributes.mtu),
        "up": (link.up, interface.enabled),
        "alias": (link.alias, attributes.alias),
        "group": (link.group, attributes.group),
    }
    different = {name: value for name, (has, value) in wanted.items() if has != value}
    differences = [f"{name} is {wanted[name][0]!r}, wanted {value!r}" for name, value in different.items()]
    change = (SetLink(target=target, **different),) if different else ()  # type: ignore[arg-type]  # fields by name
    if "host_name" in different and target.ifindex is not None:
        target = Target(target.namespace, HostName(interface.host_name), target.ifindex)

    have = managed(link.addresses, interface.ip_addresses)
    changes = address_changes(have, interface.ip_addresses, newest_first=newest_first)
    pointed = [address for address in link.addresses if address.peer is not None]
    chains: list[list[LinkOperation]] = [
        [
            *(DeleteAddress(target, address) for address in changes.early if address.version == version),
            *(AddAddress(target, address) for address in changes.add if address.version == version),
            *(DeleteAddress(target, address) for address in changes.late if address.version == version),
            *(DeleteAddress(target, a.interface, a.peer) for a in pointed if a.interface.version == version),
        ]
        for version in (4, 6)
    ]
    differences += [f"address {address} is missing" for address in changes.add if address not in have]
    differences += [
        f"address {address} is {'not in its place' if address in interface.ip_addresses else 'not wanted'}"
        for address in (*changes.early, *changes.late, *(f"{a.interface} peer {a.peer}" for a in pointed))
    ]
    return Changes(change, tuple(tuple(chain) for chain in chains if chain), tuple(differences))
