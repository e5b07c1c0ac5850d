"""Links that are somebody else's for good: configured as far as their interface says, and let go of as they were.

What the interface says of such a link is the whole of what the agent does to it; see :class:`Existing` and
:class:`Loopback`. While that is anything, the link's alias says so.
"""

from __future__ import annotations

from ifagent.core.claims import Claims
from ifagent.core.configure import Attributes
from ifagent.core.interface import Existing, Interface, Loopback
from ifagent.core.link import Link
from ifagent.core.operations import DeleteAddress, Operation, SetLink, Target
from ifagent.core.ownership import Borrowing
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.state import ConfigState


def changes_link(interface: Interface) -> bool:
    """Tell whether an interface asks for anything to be done to somebody else's link."""
    return isinstance(interface.kind, Loopback) or (isinstance(interface.kind, Existing) and not interface.link_only)


def existing_attributes(claims: Claims, interface: Interface, link: Link) -> Attributes:
    """Return what somebody else's link is to have."""
    borrowing = claims.owner.borrowing(link)
    alias: str | None = claims.owner.borrowed_alias(interface.name, borrowing.alias if borrowing else link.alias)
    addresses = None if interface.link_only else interface.ip_addresses
    if isinstance(interface.kind, Loopback):
        mtu = interface.mtu or interface.kind.default_mtu
        return Attributes(mtu=mtu, up=interface.enabled, alias=alias, addresses=addresses)
    if not changes_link(interface):
        alias = borrowing.alias if borrowing else None
    return Attributes(alias=alias, keeps_name=True, addresses=addresses)


def existing_obstacle(claims: Claims, policy: Policy, interface: Interface) -> Obstacle | None:
    """Say what somebody else's link waits for, or why it is not to be touched."""
    link = claims.of.get(interface.name)
    namespace = interface.namespace
    if link is None:
        there = claims.at_target(Target(claims.place(interface), interface.host_name))
        if there is None:
            reason = f"there is no link {interface.host_name} in namespace {namespace}"
            return Obstacle(ConfigState.PENDING, reason, (f"link {interface.host_name}",))
        by = claims.by.get(there.id)
        whose = f"interface {by}" if by else f"an agent, as {there.alias}"
        reason = f"conflict: {there} in namespace {namespace} is that of {whose}"
        return Obstacle(ConfigState.FAILED, reason)
    observed = claims.observed
    if changes_link(interface) and link.id.namespace in observed.host:
        uplink = link.id in observed.host_routes.uplinks
        problem = observed.host_routes.problems.get(observed.own)
        if not policy.allows_existing(link.host_name, uplink=uplink or bool(problem)):
            if problem and policy.allows_existing(link.host_name, uplink=uplink):
                reason = f"whether {link.host_name} keeps the host connected is not known: {problem}"
                return Obstacle(ConfigState.PENDING, reason, ("the host's routes",))
            connects = ", which keeps the host connected" if uplink else ""
            reason = (
                f"{link.host_name} is a link of the host{connects}, and the settings do not allow to change it; "
                f"the agent's operator can, with --allow-existing {link.host_name}"
            )
            return Obstacle(ConfigState.INVALID, reason, field="host_if_name")
    if interface.link_only and isinstance(interface.kind, Existing):
        has = {address.interface for address in link.addresses}
        missing = tuple(f"address {address}" for address in interface.ip_addresses if address not in has)
        if missing:
            reason = (
                f"{link.host_name} has not been given {', '.join(missing)} yet, and link_only leaves that to others"
            )
            return Obstacle(ConfigState.PENDING, reason, missing)
    return None


def let_go(link: Link, before: Borrowing) -> list[Operation]:
    """Return what takes off a link what its interface had asked for, each operation after the one before it."""
    target = Target(link.id.namespace, link.host_name, link.id.ifindex)
    addresses = [DeleteAddress(target, a.interface, a.peer) for a in link.addresses if not a.made_by_kernel]
    return [*addresses, SetLink(target=target, alias=before.alias)]
