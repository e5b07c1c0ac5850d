"""TAPs: links that another program makes, that the agent adopts while they are declared, and then gives back."""

from __future__ import annotations

from ifagent.core.claims import Claims
from ifagent.core.configure import Attributes
from ifagent.core.interface import Interface
from ifagent.core.link import Link
from ifagent.core.operations import DeleteAddress, MoveLink, Operation, SetLink, Target
from ifagent.core.ownership import Adoption
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState


def tap_attributes(claims: Claims, interface: Interface, link: Link) -> Attributes:
    """Return what an adopted TAP is to have; what the interface leaves open is as its creator had it."""
    before = claims.adopted.get(link.id)
    mac = interface.phys_address or (before.mac if before else "") or link.mac
    return Attributes(
        mac=None if interface.link_only else mac,
        mtu=interface.mtu or (before.mtu if before else 0) or link.mtu,
        up=interface.enabled,
        alias=claims.owner.adopted_alias(interface.name, before or link),
        addresses=None if interface.link_only else interface.ip_addresses,
    )


def tap_missing(claims: Claims, interface: Interface) -> Obstacle:
    """Say what a declared TAP waits for."""
    name = claims.tap_name(interface)
    there = claims.at_target(Target(claims.observed.own, name))
    reason = f"no program has made the TAP {name} in the agent's own namespace"
    if there is not None:
        reason = f"{there} is in the agent's own namespace, but it is not a TAP that can be adopted"
    return Obstacle(ConfigState.PENDING, reason, (f"tap {name}",))


def give_back(claims: Claims, link: Link, before: Adoption) -> list[Operation]:
    """Return what makes an adopted TAP what it was, each operation to be carried out after the one before it.

    Where somebody else has its old name by now, or that is not known, it keeps the one it has.
    """
    own = claims.observed.own
    here = Target(link.id.namespace, link.host_name, link.id.ifindex)
    home = Target(own, before.host_name or link.host_name)
    occupant = claims.at_target(home)
    if occupant is not None and occupant.id != link.id:
        home = Target(own, link.host_name)
    operations: list[Operation] = []
    if link.id.namespace != own:
        # Moving takes the addresses off.
        operations.append(MoveLink(here, own, home.host_name))
        here = home
    else:
        operations += [DeleteAddress(here, a.interface, a.peer) for a in link.addresses if not a.made_by_kernel]
    operations.append(
        SetLink(
            target=here,
            host_name=home.host_name if home.host_name != here.host_name else None,
            mac=before.mac if before.mac not in {"", link.mac} else None,
            mtu=before.mtu if before.mtu not in {0, link.mtu} else None,
            alias="",
        )
    )
    return operations
