"""What the simulated world is made of: links, namespaces and refusals."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from ifagent.core.counters import LinkCounters
from ifagent.core.kinds.contract import DEFAULT_MTU
from ifagent.core.link import LOOPBACK_IFINDEX, Address, Checksums, Link, LinkId, NsId, OperState, Scalar, Speed
from ifagent.core.names import HostName
from ifagent.kernel.simulated.kinds import traits_of


class Refused(Exception):
    """The simulated kernel refuses: an errno and the text of the extended acknowledgement."""

    def __init__(self, errno_: int, text: str = "") -> None:
        """Keep both."""
        self.errno = errno_
        self.text = text
        super().__init__(errno_, text)


MTU_LIMIT = 1 << 31
"""One more than the largest possible MTU in bytes."""


def mtus_of(kind: str) -> range:
    """Return the MTUs that links of a kind accept."""
    traits = traits_of(kind)
    return range(traits.min_mtu, traits.max_mtu + 1 if traits.max_mtu else MTU_LIMIT)


@dataclass(slots=True, eq=False)
class WorldLink:
    """One link of the world. ``ipv6_ready`` is ``IF_READY``: its automatic address has been made since it came up.

    ``has_own_mac`` is false while it has that of its lower link, ``has_own_mtu`` of a bridge while it has that of its
    ports.
    """

    namespace: WorldNamespace
    ifindex: int
    host_name: HostName
    kind: str
    mac: str
    mtu: int = DEFAULT_MTU
    group: int = 0
    alias: str = ""
    up: bool = False
    carrier: bool = True
    lost_carrier_as: OperState = OperState.DOWN
    ipv6_ready: bool = False
    promotes: bool = False
    checksums: Checksums = field(default_factory=Checksums)
    counters: LinkCounters = field(default_factory=LinkCounters)
    peer: WorldLink | None = None
    lower: WorldLink | None = None
    uppers: list[WorldLink] = field(default_factory=list)
    has_own_mac: bool = True
    has_own_mtu: bool = False
    master: int = 0
    data: dict[str, Scalar] = field(default_factory=dict)
    port: dict[str, Scalar] = field(default_factory=dict)
    altnames: list[HostName] = field(default_factory=list)
    ipv4: list[Address] = field(default_factory=list)
    ipv6: list[Address] = field(default_factory=list)

    @property
    def id(self) -> LinkId:
        """Namespace and ifindex at present."""
        return LinkId(self.namespace.id, self.ifindex)

    @property
    def operstate(self) -> OperState:
        """``IFLA_OPERSTATE``: a link without carrier detection, such as ``lo``, is unknown while it is up."""
        if not self.up:
            return OperState.DOWN
        if not self.carrier:
            return self.lost_carrier_as
        return traits_of(self.kind).with_carrier

    @property
    def mtus(self) -> range:
        """The MTUs that the link accepts."""
        return range(MTU_LIMIT) if self.ifindex == LOOPBACK_IFINDEX else mtus_of(self.kind)

    @property
    def speed(self) -> Speed:
        """What the driver reports, if anything."""
        return traits_of(self.kind).speed

    @property
    def ports(self) -> list[WorldLink]:
        """The links that this is the master of."""
        if not traits_of(self.kind).is_master:
            return []
        return [link for link in self.namespace.links.values() if link.master == self.ifindex]

    def send(self, packets: int, size: int) -> None:
        """Count packets of so many bytes that are sent; without carrier they are dropped."""
        if not self.up:
            raise Refused(errno.ENETDOWN)
        mine = self.counters
        if not self.carrier:
            self.counters = mine._replace(out_dropped=mine.out_dropped + packets)
            return
        more = packets * size
        self.counters = mine._replace(out_packets=mine.out_packets + packets, out_bytes=mine.out_bytes + more)
        if self.peer is not None:
            there = self.peer.counters
            self.peer.counters = there._replace(in_packets=there.in_packets + packets, in_bytes=there.in_bytes + more)

    def seen(self, peer: LinkId | None, checksums: Checksums | None = None) -> Link:
        """Return the link as the kernel reports it, with ``peer`` as the other end."""
        limits = self.mtus
        return Link(
            id=self.id,
            host_name=self.host_name,
            kind=self.kind,
            mac=self.mac,
            mtu=self.mtu,
            up=self.up,
            carrier=self.carrier,
            operstate=self.operstate,
            group=self.group,
            alias=self.alias,
            peer=peer,
            lower=self.lower.id if self.lower is not None and self.lower.namespace.attached else None,
            master=self.master,
            data=tuple(self.data.items()),
            port=tuple(self.port.items()),
            min_mtu=limits.start,
            max_mtu=limits.stop - 1 if limits.stop < MTU_LIMIT else 0,
            speed=self.speed,
            checksums=checksums,
            altnames=tuple(self.altnames),
            addresses=(*self.ipv4, *self.ipv6),
        )


@dataclass(slots=True, eq=False)
class WorldNamespace:
    """One network namespace; it lives while a path leads to it or the agent is attached."""

    id: NsId
    path: str
    name: str = ""
    attached: bool = False
    ipv6_disabled: bool = False
    last_ifindex: int = 0
    links: dict[int, WorldLink] = field(default_factory=dict)

    def named(self, host_name: str) -> WorldLink | None:
        """Return the link of this host name."""
        return next((link for link in self.links.values() if link.host_name == host_name), None)

    def called(self, name: str) -> WorldLink | None:
        """Return the link that has this host name or altname."""
        return next((link for link in self.links.values() if name in {link.host_name, *link.altnames}), None)

    def free_ifindex(self, wanted: int = 0) -> int:
        """Return ``wanted`` if it is free, else the next one never used."""
        if wanted and wanted not in self.links:
            return wanted
        self.last_ifindex += 1
        while self.last_ifindex in self.links:
            self.last_ifindex += 1
        return self.last_ifindex


def lose_carrier(*ends: WorldLink) -> None:
    """Take the carrier of a veth, and note the operstate that Linux derives then.

    ``default_operstate`` in ``net/core/link_watch.c`` looks the peer's ifindex up in the link's *own* namespace,
    so for a peer elsewhere the result depends on an unrelated link, and is down where there is none.
    """
    for end in ends:
        end.carrier = False
    for end in ends:
        lower = end.peer.ifindex if end.peer else 0
        other = end.namespace.links.get(lower) if lower != end.ifindex else None
        blocked = other is not None and not other.carrier
        end.lost_carrier_as = OperState.LOWERLAYERDOWN if blocked else OperState.DOWN
