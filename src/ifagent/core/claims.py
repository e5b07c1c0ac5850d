"""Which link belongs to which interface, and who has which place.

A *place* is a namespace and a host name. A link is claimed by the interface that its alias names; failing
that, a link of ours without a name is claimed by the interface whose place it has. An AUTO_TAP also claims a TAP
that nobody has adopted, in the agent's own namespace under the name that its creator gives it. An interface for
a link of somebody else's claims the one at its place, unless an agent has made or claimed that. Nothing else is
ever taken for an interface's link.
"""

from __future__ import annotations

from ifagent.core.interface import (
    AutoTap,
    Existing,
    HostName,
    Interface,
    Loopback,
    Name,
    NamespaceRef,
    NamespaceType,
)
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.operations import Place, Target
from ifagent.core.ownership import Adoption, Borrowing, Owner
from ifagent.core.views import Desired, Observed


def is_existing(interface: Interface) -> bool:
    """Tell whether an interface is for a link that is somebody else's for good."""
    return isinstance(interface.kind, Existing | Loopback)


class Claims:
    """Look-ups that every rule of the planner shares; made once per planning."""

    def __init__(self, desired: Desired, observed: Observed, owner: Owner) -> None:
        self.desired = desired
        self.observed = observed
        self.owner = owner
        self.at: dict[tuple[NsId, HostName], Link] = {
            (namespace, link.host_name): link for namespace, links in observed.links.items() for link in links.values()
        }
        self.of: dict[Name, Link] = {}
        self._places: dict[Name, Place] = {}
        unnamed: list[tuple[tuple[NsId, HostName], Link]] = []
        for place, link in self.at.items():
            name = owner.name_of(link)
            if name is None:
                if owner.owns(link):
                    unnamed.append((place, link))
            elif name not in self.of or self._is_place_of(place, name):
                self.of[name] = link
        if unnamed:
            wanted = {(self.place(i), i.host_name): i.name for i in desired.interfaces.values()}
            for place, link in unnamed:
                if (name := wanted.get(place)) is not None:
                    self.of.setdefault(name, link)
        self._claim_taps()
        self._claim_existing()
        self.by: dict[LinkId, Name] = {link.id: name for name, link in self.of.items()}

    def _claim_taps(self) -> None:
        self.adopted: dict[LinkId, Adoption] = {}
        for link in self.at.values():
            if (adoption := self.owner.adoption(link)) is not None:
                self.adopted[link.id] = adoption
                if self.is_tap(adoption.name):
                    self.of.setdefault(adoption.name, link)
        taken: set[LinkId] = set()
        for name in sorted(name for name in self.desired.interfaces if self.is_tap(name) and name not in self.of):
            found = self.at.get((self.observed.own, self.tap_name(self.desired.interfaces[name])))
            if found is not None and self.owner.may_adopt(found) and found.id not in taken:
                taken.add(found.id)
                self.of[name] = found

    def _claim_existing(self) -> None:
        self.borrowed: dict[LinkId, Borrowing] = {}
        for link in self.at.values():
            if (borrowing := self.owner.borrowing(link)) is not None:
                self.borrowed[link.id] = borrowing
        taken = {link.id for link in self.of.values()}
        for interface in self.desired.interfaces.values():
            if is_existing(interface):
                there = self.at_target(Target(self.place(interface), interface.host_name))
                if there is not None and there.id not in taken and self.owner.may_borrow(there):
                    self.of[interface.name] = there

    def is_tap(self, name: Name) -> bool:
        """Tell whether an AUTO_TAP of this name is declared."""
        interface = self.desired.interfaces.get(name)
        return interface is not None and isinstance(interface.kind, AutoTap)

    def tap_name(self, interface: Interface) -> HostName:
        """Return the host name under which an AUTO_TAP's creator makes it."""
        temporary = interface.kind.temp_if_name if isinstance(interface.kind, AutoTap) else ""
        return HostName(temporary or interface.host_name)

    def _is_place_of(self, place: tuple[NsId, HostName], name: Name) -> bool:
        interface = self.desired.interfaces.get(name)
        return interface is not None and place == (self.place(interface), interface.host_name)

    def place(self, interface: Interface) -> Place:
        """Return the namespace that the interface wants to be in; the reference if it does not exist."""
        place = self._places.get(interface.name)
        if place is None:
            ref = interface.namespace
            place = self.observed.own if ref.type is NamespaceType.OWN else self.observed.namespaces.get(ref, ref)
            self._places[interface.name] = place
        return place

    def is_at_place(self, interface: Interface) -> bool:
        """Tell whether the interface's link is where it is wanted."""
        link = self.of.get(interface.name)
        return link is not None and self._is_place_of((link.id.namespace, link.host_name), interface.name)

    def occupant(self, interface: Interface) -> Link | None:
        """Return the link at the interface's place, unless it is its own."""
        link = self.at_target(Target(self.place(interface), interface.host_name))
        return None if link is None or self.by.get(link.id) == interface.name else link

    def at_target(self, target: Target) -> Link | None:
        """Return the link that has this host name in this namespace."""
        return None if isinstance(target.namespace, NamespaceRef) else self.at.get((target.namespace, target.host_name))
