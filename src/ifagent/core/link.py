"""Observed: what the kernel has, as it reported it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import NamedTuple, NewType

from ifagent.core.names import HostName, IPInterface

NsId = NewType("NsId", int)
"""A network namespace's identity: the inode number of its nsfs file, unique while the namespace lives."""

IFA_F_DADFAILED = 0x08
"""Duplicate address detection has found another holder of an IPv6 address."""

IFA_F_TENTATIVE = 0x40
"""Duplicate address detection has not ended yet."""

RT_SCOPE_HOST = 254
"""The scope of addresses that are good on this host only."""

_LOOPBACK_NET = 127

LOOPBACK_ADDRESSES = frozenset({IPv4Interface("127.0.0.1/8"), IPv6Interface("::1/128")})
"""What the kernel gives the loopback link when it comes up."""

OUTLIVES_ITS_LOWER = frozenset(
    {
        *("ipip", "gre", "gretap", "erspan", "sit", "vti", "xfrm"),
        *("ip6tnl", "ip6gre", "ip6gretap", "ip6erspan", "vti6"),
    }
)
"""Kinds of links that stay when the link that they name as below them goes: tunnels, which only send by it.

The kernel deletes a vlan, macvlan, macsec, vxlan, amt and the like together with the link that they sit on. Of a kind
that nobody has thought of here that is taken for granted.
"""

FALLBACK_LINKS = frozenset({"tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip_vti0", "ip6_vti0", "ip6gre0"})
"""Links that the kernel makes by itself in every new namespace when their modules are loaded, and does not delete."""

LOOPBACK_IFINDEX = 1
"""The ifindex that the loopback link has in every namespace."""


Scalar = bool | int | str | tuple[str, ...]
"""The value of one setting."""

LinkData = tuple[tuple[str, Scalar], ...]
"""Settings that only one kind of link has (``IFLA_INFO_DATA``), or of its ports (``IFLA_INFO_SLAVE_DATA``), by name.

Names and units are those of the interface's fields; the order is always the same.
"""


class OperState(IntEnum):
    """``IFLA_OPERSTATE``, the values of RFC 2863."""

    UNKNOWN = 0
    NOTPRESENT = 1
    DOWN = 2
    LOWERLAYERDOWN = 3
    TESTING = 4
    DORMANT = 5
    UP = 6


class LinkId(NamedTuple):
    """Where a link is: an ifindex is unique only within its namespace."""

    namespace: NsId
    ifindex: int


@dataclass(frozen=True, slots=True)
class Address:
    """One address on a link.

    ``flags`` are ``IFA_F_*``; ``made_by_kernel`` is true for what the kernel makes by itself or because a router says
    so: automatic fe80 addresses, those of ``lo``, and those of SLAAC with the temporary ones. The rest is about what
    the agent never gives an address, and is as here where nobody else does. ``peer`` is the other end's address
    (``ip addr add ADDRESS peer PEER``). ``scope`` is ``RT_SCOPE_*`` where it is not the usual one of such an IPv4
    address, ``broadcast`` its broadcast address where that is not the last of the subnet. ``lasts`` is false if one of
    its lifetimes ends. ``metric`` is that of the route to its subnet. ``contested`` is true from when somebody else was
    found to have it until a later detection of duplicates has ended well.
    """

    interface: IPInterface
    flags: int = 0
    made_by_kernel: bool = False
    peer: IPv4Address | IPv6Address | None = None
    scope: int | None = None
    broadcast: IPv4Address | None = None
    lasts: bool = True
    metric: int = 0
    contested: bool = False

    @property
    def is_duplicate(self) -> bool:
        """True if duplicate address detection found another host with this IPv6 address: it is there and not used."""
        return self.contested or bool(self.flags & IFA_F_DADFAILED)


def usual_scope(interface: IPInterface) -> int:
    """Return the scope that an address gets unless somebody says otherwise; IPv6 takes no other."""
    return RT_SCOPE_HOST if interface.version == 4 and int(interface) >> 24 == _LOOPBACK_NET else 0


class Duplex(IntEnum):
    """Whether a link sends and receives at the same time; the numbers are those of ligato v1."""

    UNKNOWN = 0
    HALF = 1
    FULL = 2


class Speed(NamedTuple):
    """How fast a link says it is, in bits a second; 0 where its driver does not say."""

    bits: int = 0
    duplex: Duplex = Duplex.UNKNOWN


UNKNOWN_SPEED = Speed()


class Checksums(NamedTuple):
    """Whether the kernel leaves checksums of what is received and of what is sent to be computed later, or never."""

    rx: bool = True
    tx: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link with its addresses, complete and consistent at the moment it was reported.

    ``kind`` is ``IFLA_INFO_KIND``, empty for links without one (lo, hardware). ``peer`` is the other end
    of a veth where its namespace is known to the agent; ``lower`` is the link that this one sits on (``IFLA_LINK``),
    such as a vlan's or a macvlan's, on the same condition. ``master`` is the ifindex of the link that it is a port of,
    in its own namespace, 0 for none. ``data`` are the settings of its kind, ``port`` those that it has as a port of its
    master, as far as the agent knows them.
    ``altnames`` are other names that it can be called by, only those that a host name can be, and only some where it
    has very many. ``addresses`` are in the kernel's order, IPv4 first. MTUs are in bytes, ``mac`` is lower case with
    colons; ``min_mtu`` and ``max_mtu`` are what its driver takes, 0 where that has no limit. ``checksums`` are told of
    links that the agent asked about, ``speed`` of every link as far as its driver says.
    """

    id: LinkId
    host_name: HostName
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    carrier: bool = False
    operstate: OperState = OperState.UNKNOWN
    group: int = 0
    alias: str = ""
    peer: LinkId | None = None
    lower: LinkId | None = None
    master: int = 0
    data: LinkData = ()
    port: LinkData = ()
    min_mtu: int = 0
    max_mtu: int = 0
    speed: Speed = UNKNOWN_SPEED
    checksums: Checksums | None = None
    altnames: tuple[HostName, ...] = ()
    addresses: tuple[Address, ...] = ()

    @property
    def names(self) -> tuple[HostName, ...]:
        """Everything that it is called in its namespace, and that nothing else there can be called."""
        return (self.host_name, *self.altnames)

    def with_contested(self, before: Link | None) -> Link:
        """Return this link with the duplicates of ``before`` as contested as long as they are looked for again."""
        known = {a.interface for a in before.addresses if a.is_duplicate} if before else None
        if not known:
            return self
        addresses = tuple(
            replace(a, contested=True) if a.interface in known and a.flags & IFA_F_TENTATIVE else a
            for a in self.addresses
        )
        return replace(self, addresses=addresses)

    def surroundings(self, peer: Link | None) -> object:
        """Return what has to be different for duplicates to be found no more; ``peer`` is the other end of a veth."""
        there = None if peer is None else (peer.up, peer.mac, tuple(address.interface for address in peer.addresses))
        return self.up, self.carrier, self.mac, self.master, self.peer, there

    def __str__(self) -> str:
        """Host name, kind and ifindex, for messages."""
        return f"{self.host_name} ({self.kind or 'link'}, ifindex {self.id.ifindex})"
