"""Which link belongs to which interface, and who has which place.

A *place* is a namespace and a host name. A link is claimed by the interface that its alias names; failing
that, a link of ours without a name is claimed by the interface whose place it has. Nothing else is ever
taken for an interface's link.
"""

from __future__ import annotations

from ifagent.core.index import Desired, Observed
from ifagent.core.interface import HostName, Interface, Name, NamespaceRef, NamespaceType
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.operations import Place, Target
from ifagent.core.ownership import Owner


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
        self.by: dict[LinkId, Name] = {link.id: name for name, link in self.of.items()}

    def _is_place_of(self, place: tuple[NsId, HostName], name: Name) -> bool:
        interface = self.desired.interfaces.get(name)
        return interface is not None and place == (self.place(interface), interface.host_name)

    def place(self, interface: Interface) -> Place:
        """Return the namespace that the interface wants to be in; the reference if it does not exist."""
        ref = interface.namespace
        if ref.type is NamespaceType.OWN:
            return self.observed.own
        return self.observed.namespaces.get(ref, ref)

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
