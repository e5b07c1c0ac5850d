"""What is ours and what is not: the marks that live in the kernel, and what they say.

A link of ours is born in a link group of the agent's own (``IFLA_GROUP``, set atomically by the creating
request) and gets an alias that names the agent and the interface. So whoever looks at the kernel alone, even
after a kill at any instant, can tell whose a link is; no file is needed. A namespace that the agent made
carries its mark as the alias of its ``lo``. A link that the agent did not make but adopted, a TAP, stays in the
group it is in, so that it is never deleted; its alias also says what it was before, for the day it is given back. So
it is with a link that is somebody else's for good and that the agent only configures, of which only the alias is kept.
A link of ours whose checksum offloading is not the kernel's default says so in its alias, because nothing else in
what the kernel tells of links does.

Whoever is root where a link is can write any alias and group there, so a mark is a hint and no proof. How far it is
believed is said in :mod:`ifagent.core.matches`; what must not be forged is in :mod:`ifagent.core.remembered`.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache

from ifagent.core.link import LOOPBACK_IFINDEX, Link
from ifagent.core.names import HostName, Name, check_host_name
from ifagent.core.remembered import Adoption

_PREFIX = "ifagent/"
_ADOPTED = "ifagent-tap/"
_BORROWED = "ifagent-link/"
_WITHOUT_CHECKSUMS = "ifagent-nosum/"
MAX_ALIAS_BYTES = 255
"""``IFALIASZ`` less the final zero byte."""
_GROUP_BITS = 28
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MTU = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class ConfiguredMark:
    """By which interface somebody else's link is configured, and the alias that it had before."""

    name: Name
    alias: str


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
        return _group(self.label)

    @property
    def last_group(self) -> int:
        """The link group that a link of ours is put into to be deleted."""
        return self.group | 1 << _GROUP_BITS + 1

    @property
    def namespace_mark(self) -> str:
        """The alias of ``lo`` in a namespace that this agent made."""
        return f"{_PREFIX}{self.label}"

    def alias(self, name: Name, *, checksums: bool = True) -> str:
        """Return the alias of the link of interface ``name``.

        ``checksums`` false says that not all of its checksum offloading is to be as the kernel has it by default.
        """
        return f"{_PREFIX if checksums else _WITHOUT_CHECKSUMS}{self.label}/{name}"

    def name_of(self, link: Link) -> Name | None:
        """Return the interface that the link's alias names, ``None`` if it is not an alias of this agent."""
        mark = _read(self.label, link.alias)
        return mark.name if isinstance(mark, _Made) else None

    def without_checksums(self, link: Link) -> bool:
        """Tell whether the checksum offloading of a link of ours may differ from the kernel's default."""
        mark = _read(self.label, link.alias)
        return isinstance(mark, _Made) and not mark.checksums

    def configured_alias(self, name: Name, before: str) -> str:
        """Return the alias of somebody else's link that interface ``name`` configures.

        It keeps the alias that was there ``before`` where both fit; else that one is lost.
        """
        kept = before.replace("%", "%25").replace("/", "%2F")
        alias = f"{_BORROWED}{self.label}/{kept}/{name}"
        return alias if len(alias.encode()) <= MAX_ALIAS_BYTES else f"{_BORROWED}{self.label}//{name}"

    def configured_mark(self, link: Link) -> ConfiguredMark | None:
        """Return what the alias of somebody else's link says, ``None`` if this agent does not configure it."""
        mark = _read(self.label, link.alias)
        return mark if isinstance(mark, ConfiguredMark) else None

    def may_configure(self, link: Link) -> bool:
        """Tell whether a link is neither of an agent's making nor configured by another agent."""
        if self.configured_mark(link) is not None or link.alias == self.namespace_mark:
            return True
        marks = (_PREFIX, _ADOPTED, _BORROWED, _WITHOUT_CHECKSUMS)
        return not self.owns(link) and not link.alias.startswith(marks)

    def adopted_alias(self, before: Adoption) -> str:
        """Return the alias of an adopted TAP, with the interface that has adopted it and what it was before."""
        return f"{_ADOPTED}{self.label}/{before.host_name}/{before.mac}/{before.mtu}/{before.name}"

    def alias_before(self, link: Link) -> str:
        """Return the alias of a link without what this agent has put into it."""
        if self.adoption(link) is not None:
            return ""
        configured_mark = self.configured_mark(link)
        return configured_mark.alias if configured_mark else link.alias

    def adoption(self, link: Link) -> Adoption | None:
        """Return what the alias of a TAP says, ``None`` if this agent has not adopted it."""
        mark = _read(self.label, link.alias) if link.kind == "tun" else None
        return mark if isinstance(mark, Adoption) else None

    def may_adopt(self, link: Link) -> bool:
        """Tell whether a link is a TAP, not a tun for packets without Ethernet, that no agent has made or adopted."""
        if link.kind != "tun" or not link.mac or link.alias.startswith((_ADOPTED, _PREFIX)) or self.owns(link):
            return False
        return self.configured_mark(link) is not None or not link.alias.startswith(_BORROWED)

    def owns(self, link: Link) -> bool:
        """Tell whether this agent made the link, and so may delete it."""
        if link.group not in {self.group, self.last_group} or link.id.ifindex == LOOPBACK_IFINDEX:
            return False
        if link.kind == "tun" and link.alias.startswith((_ADOPTED, _BORROWED)):
            return False
        return self.name_of(link) is not None or not link.alias.startswith((_PREFIX, _WITHOUT_CHECKSUMS))

    def made_namespace(self, loopback: Link | None) -> bool:
        """Tell from its ``lo`` whether this agent made a namespace."""
        if loopback is None:
            return False
        configured_mark = self.configured_mark(loopback)
        return (configured_mark.alias if configured_mark else loopback.alias) == self.namespace_mark

    def default_mac(self, name: Name) -> str:
        """Return the MAC of an interface that asks for none.

        It is locally administered and the same whenever the link is recreated in this boot, so that
        clearing ``phys_address`` has one right result and neighbours keep their caches.
        """
        digest = hashlib.blake2b(f"{self.label}/{name}".encode(), key=self.seed[:64], digest_size=6).digest()
        return bytes([digest[0] & 0xFC | 0x02, *digest[1:]]).hex(":")


@dataclass(frozen=True, slots=True)
class _Made:
    """What the alias of a link of this agent's making says."""

    name: Name
    checksums: bool


@lru_cache(maxsize=16)
def _group(label: str) -> int:
    return 1 << _GROUP_BITS | zlib.crc32(label.encode()) & (1 << _GROUP_BITS) - 1


@lru_cache(maxsize=1 << 16)
def _read(label: str, alias: str) -> _Made | Adoption | ConfiguredMark | None:
    """Return what an alias says if it is one of the agent called ``label``."""
    prefix, slash, rest = alias.partition("/")
    theirs, slash, rest = rest.partition("/")
    if not slash or theirs != label:
        return None
    prefix += "/"
    if prefix in {_PREFIX, _WITHOUT_CHECKSUMS}:
        return _Made(rest, checksums=prefix == _PREFIX)
    if prefix == _ADOPTED:
        return _read_adoption(rest)
    if prefix == _BORROWED:
        kept, slash, name = rest.partition("/")
        if slash:
            return ConfiguredMark(name, kept.replace("%2F", "/").replace("%25", "%"))
    return None


def _read_adoption(text: str) -> Adoption | None:
    parts = text.split("/", 3)
    if len(parts) < 4:
        return None
    host_name, mac, mtu, name = parts
    return Adoption(
        name=name,
        host_name=_host_name(host_name),
        mac=mac if _MAC.fullmatch(mac) else "",
        mtu=int(mtu) if _MTU.fullmatch(mtu) else 0,
    )


def _host_name(text: str) -> HostName:
    try:
        return HostName(check_host_name(text))
    except ValueError:
        return HostName("")
