"""What is in the way of an interface's place, and who waits for whom. Pure; rule 6 of :mod:`ifagent.core.planner`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ifagent.core.interface import Interface
from ifagent.core.link import Link, LinkId
from ifagent.core.matches import LinkMatches, Unit
from ifagent.core.names import Name
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState


class Conflicts:
    """Finds them. The collections are the planner's, and grow while it plans."""

    def __init__(
        self,
        matches: LinkMatches,
        *,
        blocked: Collection[Name],
        kept: Collection[LinkId],
        to_delete: Collection[LinkId],
        kept_for_uppers: Mapping[LinkId, Link],
    ) -> None:
        self._matches = matches
        self._blocked = blocked
        self._kept = kept
        self._to_delete = to_delete
        self._kept_for_uppers = kept_for_uppers

    def why_not_made(self, interface: Interface) -> Obstacle | None:
        """Return why the interface's link cannot be made now, ``None`` if it can."""
        return (
            self._kept_for_another(interface)
            or self._kept_for_others(interface)
            or self._lower_goes(interface)
            or self.place_conflict(interface)
        )

    def place_conflict(self, interface: Interface) -> Obstacle | None:
        """Return why the interface's place cannot be taken now, ``None`` if it is free or will be."""
        own = self._matches.link_of.get(interface.name)
        found = [link for link in (own, self._matches.occupant(interface)) if link is not None]
        for link in found:
            if link.id in self._to_delete or (link is own and link.id in self._kept):
                continue
            if link is not own and link.host_name != interface.host_name:
                return Obstacle(
                    ConfigState.FAILED,
                    f"conflict: {interface.host_name} is another name of {link.host_name}, ifindex {link.id.ifindex}, "
                    f"in namespace {interface.namespace}; take that name off it, or choose another host_if_name",
                )
            if (leaving := self._moving_away(link)) is not None and link is not own:
                reason = f"interface {leaving.name} still has the host name {interface.host_name}"
                return Obstacle(ConfigState.PENDING, reason, (f"host name {interface.host_name}",))
            if self._matches.owner.owns(link) and not self._matches.desired.complete:
                return Obstacle(ConfigState.PENDING, f"{link} can only be replaced once every source has synced")
            return Obstacle(
                ConfigState.FAILED,
                f"conflict: {link} in namespace {interface.namespace} is not managed by this agent; "
                f"rename or remove it, or choose another host_if_name",
            )
        return None

    def _kept_for_another(self, interface: Interface) -> Obstacle | None:
        """Return why an interface whose pair is to be recreated must wait: its link is the peer of a frozen one."""
        own = self._matches.link_of.get(interface.name)
        if own is None or own.id not in self._kept:
            return None
        peer = self._matches.observed.peer(own)
        rival = (self._matches.owner.name_of(peer) if peer else None) or ""
        reason = f"its link is still the peer of interface {rival}, which is invalid"
        return Obstacle(ConfigState.PENDING, reason, (f"interface {rival}",))

    def _kept_for_others(self, interface: Interface) -> Obstacle | None:
        """Return why a pair that is to be recreated stays: links of others would go with it."""
        own = self._matches.link_of.get(interface.name)
        if own is None or own.id not in self._kept_for_uppers:
            return None
        return Obstacle(ConfigState.FAILED, kept_for_uppers(own, self._kept_for_uppers[own.id], "cannot be recreated"))

    def _lower_goes(self, interface: Interface) -> Obstacle | None:
        """Return why a link must wait that is to sit on one which is made anew."""
        for reference in interface.lowers:
            lower = self._matches.link_of.get(reference.to)
            if lower is not None and lower.id in self._to_delete:
                reason = f"lower interface {reference.to} is being recreated"
                return Obstacle(ConfigState.PENDING, reason, (f"interface {reference.to}",))
        return None

    def _moving_away(self, occupant: Link) -> Interface | None:
        """Return the interface whose link this is, if that has to go to another place."""
        interface = self._matches.desired.interfaces.get(self._matches.interface_at.get(occupant.id, ""))
        if interface is None or interface.name in self._blocked or self._matches.is_at_place(interface):
            return None
        return interface

    def find_swap_cycles(self, intact: Iterable[Unit]) -> list[Unit]:
        """Return units to be recreated because their interfaces wait for each other's places in a circle."""
        if not self._matches.desired.complete:
            return []
        unit_of = {end.name: unit for unit in intact for end in unit}
        waits: dict[Name, Name] = {}
        for unit in intact:
            if any(self._matches.uppers.get(self._matches.link_of[end.name].id) for end in unit):
                continue
            for end in unit:
                occupant = self._matches.occupant(end)
                leaving = self._moving_away(occupant) if occupant and occupant.host_name == end.host_name else None
                if leaving is not None and leaving.name in unit_of:
                    waits[end.name] = leaving.name
        caught: list[Unit] = []
        for start in sorted(waits):
            name, seen = start, set[Name]()
            while name in waits and name not in seen:
                seen.add(name)
                name = waits[name]
            if seen and name == start:
                caught.append(unit_of[start])
                for end in unit_of[start]:
                    waits.pop(end.name, None)
        return caught


def kept_for_uppers(link: Link, upper: Link, what: str) -> str:
    """Say what keeps a link as it is: a link of others that sits on it, or on the other end of its pair."""
    where = "on it" if upper.lower == link.id else "on its other end"
    return f"{link} {what}: {upper}, which is not managed by this agent, is {where}; remove that first"


def duplicate_addresses(interface: Interface, link: Link) -> Obstacle | None:
    """Say which addresses are there and cannot be used, because another host on the link has them."""
    failed = [str(a.interface) for a in link.addresses if a.is_duplicate and a.interface in interface.ip_addresses]
    if not failed:
        return None
    reason = f"another host on the link of {link.host_name} has {', '.join(failed)} (duplicate address detection)"
    return Obstacle(ConfigState.FAILED, reason, field="ip_addresses")


def mtu_out_of_range(interface: Interface, link: Link) -> Obstacle | None:
    """Say that a link's driver does not take the wanted MTU."""
    if not interface.mtu or link.min_mtu <= interface.mtu <= (link.max_mtu or interface.mtu):
        return None
    reason = f"{interface.mtu} is out of range for {link}, use {link.min_mtu} to {link.max_mtu} bytes or 0"
    return Obstacle(ConfigState.INVALID, reason, field="mtu")
