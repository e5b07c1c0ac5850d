"""What is ours and what is not: the marks that live in the kernel.

A link of ours is born in a link group of the agent's own (``IFLA_GROUP``, set atomically by the creating
request) and gets an alias that names the agent and the interface. So whoever looks at the kernel alone, even
after a kill at any instant, can tell whose a link is; no file is needed. A namespace that the agent made
carries its mark as the alias of its ``lo``. A link that the agent did not make but adopted, a TAP, stays in the
group it is in, so that it is never deleted; its alias also says what it was before, for the day it is given back.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from ifagent.core.interface import HostName, Name
from ifagent.core.link import LOOPBACK_IFINDEX, Link

_PREFIX = "ifagent/"
_ADOPTED = "ifagent-tap/"
_GROUP_BITS = 28


@dataclass(frozen=True, slots=True)
class Adoption:
    """By which interface a link is adopted, and what it was like before."""

    name: Name
    host_name: HostName
    mac: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Owner:
    """One agent, as its marks in the kernel tell it from others.

    ``label`` is the agent's label, without a slash. ``seed`` is anything that differs between machines and
    boots; it keeps default MACs of equally named interfaces on two machines apart.
    """

    label: str
    seed: bytes = b""

    @property
    def group(self) -> int:
        """The link group of this agent's links: 2^28 and a checksum of the label."""
        return 1 << _GROUP_BITS | zlib.crc32(self.label.encode()) & (1 << _GROUP_BITS) - 1

    @property
    def namespace_mark(self) -> str:
        """The alias of ``lo`` in a namespace that this agent made."""
        return f"{_PREFIX}{self.label}"

    def alias(self, name: Name) -> str:
        """Return the alias of the link that realises interface ``name``."""
        return f"{_PREFIX}{self.label}/{name}"

    def name_of(self, link: Link) -> Name | None:
        """Return the interface that the link's alias names, ``None`` if it is not an alias of this agent."""
        prefix = f"{_PREFIX}{self.label}/"
        return Name(link.alias.removeprefix(prefix)) if link.alias.startswith(prefix) else None

    def adopted_alias(self, name: Name, before: Link | Adoption) -> str:
        """Return the alias of a TAP that interface ``name`` has adopted, with what it was ``before``."""
        return f"{_ADOPTED}{self.label}/{before.host_name}/{before.mac}/{before.mtu}/{name}"

    def adoption(self, link: Link) -> Adoption | None:
        """Return what the alias of a TAP says, ``None`` if this agent has not adopted it."""
        prefix = f"{_ADOPTED}{self.label}/"
        if link.kind != "tun" or not link.alias.startswith(prefix):
            return None
        parts = link.alias.removeprefix(prefix).split("/", 3)
        if len(parts) < 4 or not parts[2].isdecimal():
            return None
        return Adoption(parts[3], HostName(parts[0]), parts[1], int(parts[2]))

    def may_adopt(self, link: Link) -> bool:
        """Tell whether a link is a TAP, not a tun for packets without Ethernet, that no agent has adopted."""
        return link.kind == "tun" and bool(link.mac) and not link.alias.startswith(_ADOPTED)

    def owns(self, link: Link) -> bool:
        """Tell whether this agent made the link, and so may delete it."""
        if link.group != self.group or link.id.ifindex == LOOPBACK_IFINDEX:
            return False
        return self.name_of(link) is not None or not link.alias.startswith(_PREFIX)

    def made_namespace(self, loopback: Link | None) -> bool:
        """Tell from its ``lo`` whether this agent made a namespace."""
        return loopback is not None and loopback.alias == self.namespace_mark

    def default_mac(self, name: Name) -> str:
        """Return the MAC of an interface that asks for none.

        It is locally administered and the same whenever the link is made anew in this boot, so that
        clearing ``phys_address`` has one right result and neighbours keep their caches.
        """
        digest = hashlib.blake2b(f"{self.label}/{name}".encode(), key=self.seed[:64], digest_size=6).digest()
        return bytes([digest[0] & 0xFC | 0x02, *digest[1:]]).hex(":")
