"""Links that are somebody else's for good: configured as far as their interface says, and let go of as they were."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import ANY_MTU, CommonFields, LinkKind, Origin, View
from ifagent.core.link import Link
from ifagent.core.names import check_host_name
from ifagent.core.operation import Target
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState


class ExistingKind(LinkKind):
    """The base of kinds whose links are somebody else's; what an interface says is the whole of what is done to one.

    While that is anything, the link's alias says so.
    """

    __slots__ = ()
    origin: ClassVar[Origin] = Origin.EXISTING
    mtus: ClassVar[range] = ANY_MTU

    def obstacle(self, interface: CommonFields, link: Link | None, view: View) -> Obstacle | None:
        """Say what somebody else's link waits for, or why it is not to be touched."""
        if link is None:
            return _missing(interface, view)
        observed = view.observed
        if not self.changes_link(interface) or link.id.namespace not in observed.host:
            return None
        uplink = link.id in observed.host_routes.uplinks
        problem = observed.host_routes.problems.get(observed.own)
        if view.policy.allows_existing(link.host_name, uplink=uplink or bool(problem)):
            return None
        if problem and view.policy.allows_existing(link.host_name, uplink=uplink):
            reason = f"cannot tell whether {link.host_name} keeps the host connected: {problem}"
            return Obstacle(ConfigState.PENDING, reason, ("the host's routes",))
        connects = ", which keeps the host connected" if uplink else ""
        reason = (
            f"{link.host_name} is a link of the host{connects}, and changing it is not allowed; "
            f"the agent's operator can allow it with --allow-existing {link.host_name}"
        )
        return Obstacle(ConfigState.INVALID, reason, field="host_if_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing(ExistingKind):
    """A link of somebody else's: waited for under its host name or an altname, never made, renamed, moved or deleted.

    What is done with it depends on the interface's ``link_only`` and ``ip_addresses``, as ligato v3 has it:

    ============= ================ ==========================================================================
    ``link_only`` ``ip_addresses`` meaning
    ============= ================ ==========================================================================
    false         none             wait for the link; it is to have no addresses: those from others are taken off
    false         some             wait for the link; it is to have these addresses and no others
    true          none             wait for the link; whatever addresses it has are none of our business
    true          some             wait for the link, and for somebody else to give it these addresses
    ============= ================ ==========================================================================

    Nothing else of such a link is managed, as in ligato v3: neither admin state, MTU nor MAC. v3 also wants it in its
    own namespace, which is not asked for here. Links of the host are changed only if the settings allow it.
    """

    type: Literal["existing"] = "existing"

    def check_host_name(self, value: str) -> str:
        """Allow ``lo`` too."""
        return check_host_name(value, loopback=True)

    def changes_link(self, interface: CommonFields) -> bool:
        """Tell whether its addresses are managed."""
        return not interface.link_only

    def obstacle(self, interface: CommonFields, link: Link | None, view: View) -> Obstacle | None:
        """Say what it waits for; with ``link_only`` also for the addresses that others are to give it."""
        obstacle = ExistingKind.obstacle(self, interface, link, view)
        if obstacle is not None or link is None or not interface.link_only:
            return obstacle
        has = {address.interface for address in link.addresses}
        missing = tuple(f"address {address}" for address in interface.ip_addresses if address not in has)
        if not missing:
            return None
        reason = f"{link.host_name} has not been given {', '.join(missing)} yet, and link_only leaves that to others"
        return Obstacle(ConfigState.PENDING, reason, missing)

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return which addresses it is to have, unless they are left to others."""
        if interface.link_only:
            mark = view.owner.configured_mark(link) if link else None
            return Attributes(alias=mark.alias if mark else None)
        return Attributes(alias=mark_of(interface, link, view), addresses=interface.ip_addresses)


def mark_of(interface: CommonFields, link: Link | None, view: View) -> str:
    """Return the alias that says which interface configures a link of somebody else's."""
    before = view.owner.configured_mark(link) if link else None
    return view.owner.configured_alias(interface.name, before.alias if before else link.alias if link else "")


def _missing(interface: CommonFields, view: View) -> Obstacle:
    namespace = interface.namespace
    there = view.link_at_target(Target(view.place(interface), interface.host_name))
    if there is None:
        reason = f"no link {interface.host_name} in namespace {namespace}"
        return Obstacle(ConfigState.PENDING, reason, (f"link {interface.host_name}",))
    by = view.interface_of(there)
    whose = f"interface {by}" if by else f"an agent, as {there.alias}"
    reason = f"conflict: {there} in namespace {namespace} belongs to {whose}"
    return Obstacle(ConfigState.FAILED, reason)
