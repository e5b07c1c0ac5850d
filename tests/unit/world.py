"""Short ways to write down small worlds for tests of the pure core."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from ifagent.core.desired import Desired
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.core.link import Address, Link, LinkId, NsId, OperState
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.core.observed import Observed
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.planner import plan

OWNER = Owner("test", b"seed")
OWN = NsId(1)
NS = {named(f"ns{n}"): NsId(100 + n) for n in range(1, 6)}


def veth(name: str, peer: str, namespace: str = "", **fields: Any) -> Interface:
    """Declare one end of a veth."""
    ref = named(namespace) if namespace else NamespaceRef()
    return Interface(name=name, kind=Veth(peer_if_name=peer), namespace=ref, **fields)


def lo(namespace: NsId, alias: str = "") -> Link:
    """Return the loopback of a namespace."""
    return Link(id=LinkId(namespace, 1), host_name=HostName("lo"), alias=alias)


def realised(interface: Interface, ifindex: int, peer: LinkId | None = None, **other: Any) -> Link:
    """Return the link that is exactly as declared, but for ``other``."""
    link = Link(
        id=LinkId(NS.get(interface.namespace, OWN), ifindex),
        host_name=interface.host_name,
        kind="veth",
        mac=interface.phys_address or OWNER.default_mac(interface.name),
        mtu=interface.mtu or 1500,
        up=interface.enabled,
        operstate=OperState.UP,
        group=OWNER.group,
        alias=OWNER.alias(interface.name),
        peer=peer,
        addresses=tuple(Address(ip_interface(a)) for a in interface.ip_addresses),
    )
    return replace(link, **other)


def pair(a: Interface, b: Interface, first: int = 2) -> tuple[Link, Link]:
    """Return the two links of a pair that is exactly as declared."""
    near, far = realised(a, first), realised(b, first + 1)
    return replace(near, peer=far.id), replace(far, peer=near.id)


def observed(links: Iterable[Link] = (), *, namespaces: Iterable[str] = ("ns1", "ns2", "ns3")) -> Observed:
    """Return a world of the own namespace and some named ones, each with lo and the given links."""
    refs = {named(name): NS[named(name)] for name in namespaces}
    picture: dict[NsId, dict[int, Link]] = {id: {1: lo(id)} for id in (OWN, *refs.values())}
    for link in links:
        picture[link.id.namespace][link.id.ifindex] = link
    return Observed(OWN, refs, picture)


def planned(interfaces: Iterable[Interface], world: Observed, **desired: Any) -> Plan:
    """Plan for these interfaces."""
    return plan(Desired({i.name: i for i in interfaces}, **desired), world, OWNER)


def operations(result: Plan) -> list[str]:
    """Return the class names of a plan's operations, in a possible order."""
    return [type(operation).__name__ for wave in result.waves() for operation in wave]
