"""Which links cannot have the lower link that they want, as something else uses that for itself. Pure."""

from __future__ import annotations

from functools import cached_property

from ifagent.core.interface import Interface
from ifagent.core.kinds import KINDS
from ifagent.core.kinds.contract import UpperKind
from ifagent.core.link import Link, LinkId
from ifagent.core.matches import LinkMatches
from ifagent.core.names import Name
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState

TAKERS = frozenset(kind for each in KINDS if issubclass(each, UpperKind) for kind in each.shares_lower_with)
"""The kinds that take all packets of a lower link, as the kernel calls them."""


class LowerUse:
    """Finds them. The kernel gives all packets of a link to a bridge or bond, to its macvlans or to its ipvlans."""

    def __init__(self, matches: LinkMatches) -> None:
        self._matches = matches
        self._desired = matches.desired

    def obstacle(self, interface: Interface) -> Obstacle | None:
        """Say why an interface cannot have the lower link that it names, ``None`` if it can."""
        kind = interface.kind
        if not isinstance(kind, UpperKind) or not kind.shares_lower_with:
            return None
        name = kind.lower_if_name
        lower, link = self._desired.interfaces.get(name), self._matches.link_of.get(name)
        if lower is not None and lower.master and self._is_bridge_or_bond(lower.master):
            reason = f"its lower interface {name} is a port of {lower.master}, which takes all of its packets"
            return Obstacle(ConfigState.INVALID, reason, field=f"{kind.type}.lower_if_name")
        if why_second := self._second.get(interface.name):
            return Obstacle(ConfigState.INVALID, why_second, field=f"{kind.type}.lower_if_name")
        return None if link is None else self._taken_by_others(kind, link)

    @cached_property
    def _second(self) -> dict[Name, str]:
        """Why interfaces cannot have a lower link beside others that had it before them."""
        takers: dict[Name, list[tuple[Name, UpperKind]]] = {}
        for name, interface in self._desired.interfaces.items():
            if isinstance(interface.kind, UpperKind) and interface.kind.shares_lower_with:
                takers.setdefault(interface.kind.lower_if_name, []).append((name, interface.kind))
        second: dict[Name, str] = {}
        for lower, all_of_them in takers.items():
            (first, first_kind), *others = sorted(all_of_them, key=lambda taker: self._matches.rank(taker[0]))
            for name, kind in others:  # whoever goes with the first one goes with all that do
                if why := kind.why_not_beside(first_kind):
                    second[name] = f"interface {first} is on {lower} too: {why}"
        return second

    def _is_bridge_or_bond(self, name: Name) -> bool:
        master, link = self._desired.interfaces.get(name), self._matches.link_of.get(name)
        kind = link.kind if link is not None else master.kind.kernel_kind if master is not None else ""
        return kind not in {"", "vrf"}

    def _taken_by_others(self, kind: UpperKind, lower: Link) -> Obstacle | None:
        """Say which link of others uses a lower link."""
        for upper in self._matches.uppers.get(lower.id, ()):
            if upper.lower == lower.id and upper.kind in TAKERS - kind.shares_lower_with:
                return Obstacle(ConfigState.FAILED, f"{upper}, which is not this agent's, is on its lower link {lower}")
        master = self._matches.observed.link(LinkId(lower.id.namespace, lower.master)) if lower.master else None
        if master is not None and master.kind != "vrf" and master.id not in self._matches.interface_at:
            reason = f"its lower link {lower} is a port of {master}, which takes all of its packets"
            return Obstacle(ConfigState.FAILED, reason)
        return None
