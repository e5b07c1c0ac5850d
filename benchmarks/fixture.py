"""What is to be made: veth pairs whose ends are in two namespaces each, as every contender wants them told.

One pair: both ends with MAC, MTU, up, one IPv4 and one IPv6 address.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from ifagent import Interface, Veth, named

MTU = 1400
GROUP = 77
"""The link group of what is made here by others than the agent, so that it can be swept away."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a pair; ``peer`` is the other's name."""

    name: str
    peer: str
    space: str
    mac: str
    ipv4: str
    ipv6: str
    mtu: int = MTU

    @property
    def value(self) -> dict[str, object]:
        """The end as etcd has it, in the words of ligato v1.4.1."""
        return {
            "name": self.name,
            "type": 0,
            "enabled": True,
            "mtu": self.mtu,
            "phys_address": self.mac,
            "ip_addresses": [self.ipv4, self.ipv6],
            "namespace": {"type": 2, "name": self.space},
            "veth": {"peer_if_name": self.peer},
        }

    @property
    def interface(self) -> Interface:
        """The end as a Python program declares it."""
        return Interface(
            name=self.name,
            kind=Veth(peer_if_name=self.peer),
            namespace=named(self.space),
            enabled=True,
            mtu=self.mtu,
            phys_address=self.mac,
            ip_addresses=(ip_interface(self.ipv4), ip_interface(self.ipv6)),
        )


Pair = tuple[End, End]


def pairs(count: int, spaces: list[str], *, letters: str = "ab") -> list[Pair]:
    """Return pairs between neighbours of a ring of namespaces."""
    return [(_end(number, 0, spaces, letters), _end(number, 1, spaces, letters)) for number in range(count)]


def _end(number: int, side: int, spaces: list[str], letters: str) -> End:
    high, low = number >> 8, number & 255
    return End(
        name=f"{letters[side]}{number}",
        peer=f"{letters[1 - side]}{number}",
        space=spaces[(number + side) % len(spaces)],
        mac=f"02:00:0{side}:00:{high:02x}:{low:02x}",
        ipv4=f"10.{high}.{low}.{side + 1}/24",
        ipv6=f"2001:db8:{number + 1:x}::{side + 1}/64",
    )


def values(ends: Iterable[End], label: str) -> dict[bytes, bytes]:
    """Return what etcd is to hold, by key."""
    return {key(label, end.name): json.dumps(end.value).encode() for end in ends}


def key(label: str, name: str) -> bytes:
    """Return the key of an interface's value."""
    return f"/vnf-agent/{label}/linux/config/v1/interface/{name}".encode()


def both(made: Iterable[Pair]) -> list[End]:
    """Return all ends."""
    return [end for pair in made for end in pair]


def write_batches(made: Iterable[Pair], folder: Path) -> list[tuple[str, Path]]:
    """Write one file for ``ip -n NAMESPACE -batch`` for every namespace and step: create pairs, then the rest."""
    create: dict[str, list[str]] = {}
    settle: dict[str, list[str]] = {}
    for near, far in made:
        create.setdefault(near.space, []).append(
            f"link add name {near.name} address {near.mac} mtu {near.mtu} group {GROUP} type veth peer name "
            f"{far.name} address {far.mac} mtu {far.mtu} group {GROUP} netns {far.space}"
        )
        for end in (near, far):
            lines = settle.setdefault(end.space, [])
            lines.append(f"link set dev {end.name} up")
            lines += [f"addr add {address} dev {end.name}" for address in (end.ipv4, end.ipv6)]
    files: list[tuple[str, Path]] = []
    for step, group in (("create", create), ("settle", settle)):
        for space, lines in group.items():
            path = folder / f"{step}-{space}"
            path.write_text("\n".join(lines) + "\n")
            files.append((space, path))
    return files
