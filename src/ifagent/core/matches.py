"""Which link belongs to which interface, and who has which place. Pure.

A *place* is a namespace and a host name. A link is claimed by the interface that its mark names; failing that, a link
of ours without a name is claimed by the interface whose place it has. An AUTO_TAP claims the TAP that the agent
remembers to have adopted for it, else one that nobody has adopted, in the agent's own namespace under the name that its
creator gives it. An interface for a link of somebody else's claims the one at its place, unless an agent has made or
claimed that. Nothing else is ever taken for an interface's link.

How far a mark is believed: whoever is root in a namespace can forge any mark there. So a mark counts where a lie stays
with the liar: in the namespace that the interface is to be in, and in the agent's own, where only the host's root
can write one. A mark that is not believed makes no difference to the interface that it names. So the end of a pair that
is to leave a namespace of others is nobody's: it is deleted and its pair made anew, with whatever root there has put
on it, seen or not.
"""

from __future__ import annotations

from ifagent.core.desired import Desired
from ifagent.core.interface import Interface
from ifagent.core.kinds.contract import CommonFields, Origin
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.names import HostName, Name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.observed import Observed
from ifagent.core.operation import Place, Target
from ifagent.core.ownership import ConfiguredMark, Owner
from ifagent.core.policy import Policy
from ifagent.core.remembered import Adoption
from ifagent.core.uppers import Uppers, find_uppers, split_uppers

Unit = tuple[Interface, ...]
"""Interfaces whose links are made by one operation: one, or the two ends of a pair."""


class LinkMatches:
    """Look-ups that every rule of the planner shares; made once per planning.

    ``link_of`` are the links of interfaces, ``interface_at`` the interfaces of links, ``own_uppers`` the links of the
    agent's making that sit on a link. ``adopted`` are TAPs that may be
    given back across namespaces, ``marked_as_adopted`` those of which only a mark says so. ``configured`` are links of
    somebody else's that interfaces configure, ``uppers`` the links of others that would go with a link.
    """

    def __init__(self, desired: Desired, observed: Observed, owner: Owner, policy: Policy) -> None:
        self.desired = desired
        self.observed = observed
        self.owner = owner
        self.policy = policy
        self.link_at: dict[tuple[NsId, HostName], Link] = {
            (namespace, link.host_name): link for namespace, links in observed.links.items() for link in links.values()
        }
        self.altnamed: dict[tuple[NsId, HostName], Link] = {
            (link.id.namespace, altname): link for link in self.link_at.values() for altname in link.altnames
        }
        self.link_of: dict[Name, Link] = {}
        self.configured: dict[LinkId, ConfiguredMark] = {}
        self._places: dict[Name, Place] = {}
        self._claim_made()
        self._sitting_on = find_uppers(self.link_at.values())
        self._claim_taps()
        self._claim_existing()
        self.interface_at: dict[LinkId, Name] = {link.id: name for name, link in self.link_of.items()}
        self.uppers: Uppers
        self.own_uppers: Uppers
        self.uppers, self.own_uppers = split_uppers(self._sitting_on, self._is_wanted_on)

    def _claim_made(self) -> None:
        unnamed: list[tuple[tuple[NsId, HostName], Link]] = []
        for place, link in self.link_at.items():
            name = self.owner.name_of(link)
            if name is not None:
                if self.is_believed(link, name) and (name not in self.link_of or self._is_place_of(place, name)):
                    self.link_of[name] = link
            elif self.owner.owns(link):
                unnamed.append((place, link))
        if unnamed:
            # Of several that want one place it is always the same that has it.
            names = sorted(self.desired.interfaces, key=self.rank, reverse=True)
            last_counts = (self.desired.interfaces[name] for name in names)
            wanted = {(self.place(interface), interface.host_name): interface.name for interface in last_counts}
            for place, link in unnamed:
                if (name := wanted.get(place)) is not None and self.is_believed(link, name):
                    self.link_of.setdefault(name, link)

    def is_believed(self, link: Link, name: Name) -> bool:
        """Tell whether a link's marks make it the link of the interface that they name, or whose place it has."""
        interface = self.desired.interfaces.get(name)
        if interface is None:  # its value is not known, so it stays as it is, or it is to go
            return True
        if interface.kind.origin is not Origin.CREATED or link.kind != interface.kind.kernel_kind:
            return False
        return link.id.namespace in {self.observed.own, self.place(interface)}

    def _claim_taps(self) -> None:
        self.adopted: dict[LinkId, Adoption] = {}
        self.marked_as_adopted: dict[LinkId, Adoption] = {}
        for adoption in self.observed.remembered.adoptions.values():
            link = self._remembered_tap(adoption)
            if link is not None:
                self.adopted[link.id] = adoption
                if self.adopts(adoption.name):
                    self.link_of[adoption.name] = link
        for link in self.link_at.values():
            marked = self.owner.adoption(link)
            if marked is None or link.id in self.adopted:
                continue
            trusted = link.id.namespace == self.observed.own
            (self.adopted if trusted else self.marked_as_adopted)[link.id] = marked
            interface = self.desired.interfaces.get(marked.name)
            if self.adopts(marked.name) and interface and (trusted or link.id.namespace == self.place(interface)):
                self.link_of.setdefault(marked.name, link)
        taken: set[LinkId] = set()
        without = [name for name in self.desired.interfaces if self.adopts(name) and name not in self.link_of]
        for name in sorted(without, key=self.rank):
            interface = self.desired.interfaces[name]
            found = self.link_at.get((self.observed.own, interface.kind.made_as(interface)))
            if found is not None and found.id not in taken and self.why_not_adoptable(found) is None:
                taken.add(found.id)
                self.link_of[name] = found

    def _remembered_tap(self, adoption: Adoption) -> Link | None:
        """Return the TAP of a remembered adoption, before or after a move that was about to be made."""
        link = self.observed.link(adoption.link)
        if link is not None and link.kind == "tun":
            return link
        for link in self.observed.links.get(self._goal(adoption), {}).values():
            marked = self.owner.adoption(link)
            if marked is not None and marked.name == adoption.name and _may_have_been(link, adoption):
                return link
        return None

    def _goal(self, adoption: Adoption) -> NsId:
        """Return the namespace that an adopted TAP was about to be moved to, one that there is not if there is none."""
        to = adoption.moving_to
        found = self.observed.namespaces.get(to) if isinstance(to, NamespaceRef) else to
        return NsId(0) if found is None else found

    def is_lost(self, adoption: Adoption) -> bool:
        """Tell whether a TAP went while it was about to be moved: it is neither where it was nor where it was to go."""
        if adoption.moving_to is None or self._remembered_tap(adoption) is not None:
            return False
        if adoption.link is not None and adoption.link.namespace not in self.observed.links:
            return False  # it may still be where it was
        goal = self._goal(adoption)
        return goal == NsId(0) or goal in self.observed.links

    def why_not_adoptable(self, link: Link) -> str | None:
        """Say why a link is none that an AUTO_TAP takes; the sentence begins with the link. ``None``: it may."""
        if not self.owner.may_adopt(link):
            return "it is not a TAP that can be adopted"
        in_use, problem = self._use_of(link), self.observed.host_routes.problems.get(link.id.namespace)
        if self.policy.allows_tap(link.host_name, in_use=bool(in_use or problem)):
            return None
        if in_use:
            return f"it is in use, {in_use}; the agent's operator can allow it with --allow-tap {link.host_name}"
        if problem and self.policy.allows_tap(link.host_name, in_use=False):
            return f"cannot tell whether it is in use: {problem}"
        return f"adopting it is not allowed; the agent's operator can allow it with --allow-tap {link.host_name}"

    def _use_of(self, link: Link) -> str:
        """Say what tells that a TAP is in use by the host, empty if nothing does."""
        addresses = [
            str(address.interface)
            for address in link.addresses
            if not (address.made_by_kernel and address.interface.ip.is_link_local)
        ]
        if addresses:
            return f"it has the address {addresses[0]}"
        if link.master:
            return "it is a port of another link"
        if any(link.id in route.links for route in self.observed.host_routes.routes):
            return "routes lead out of it"
        if on_it := self._sitting_on.get(link.id):
            return f"{on_it[0]} is on it"
        return ""

    def _is_wanted_on(self, upper: Link, lower: LinkId) -> bool:
        """Tell whether an interface is declared whose link this is, and is to sit on that one.

        Anything else may be somebody's who has forged its marks, and must not come along to where the lower link goes.
        """
        interface = self.desired.interfaces.get(self.interface_at.get(upper.id, ""))
        if interface is None or interface.kind.origin is not Origin.CREATED:
            return False
        links = (self.link_of.get(reference.to) for reference in interface.lowers)
        return any(link is not None and link.id == lower for link in links)

    def _claim_existing(self) -> None:
        for link in self.link_at.values():
            if (configured_mark := self.owner.configured_mark(link)) is not None:
                self.configured[link.id] = configured_mark
        taken = {link.id for link in self.link_of.values()}
        existing = [i for i in self.desired.interfaces.values() if i.kind.origin is Origin.EXISTING]
        # Whoever calls a link by its host name comes before whoever calls it by another one.
        for called in (self.link_at, self.altnamed):
            found = {}
            for interface in existing:
                place = self.place(interface)
                there = None if isinstance(place, NamespaceRef) else called.get((place, interface.host_name))
                if there is not None and there.id not in taken and self.owner.may_configure(there):
                    found[interface.name] = there
            self.link_of |= found
            taken |= {link.id for link in found.values()}

    def rank(self, name: Name) -> tuple[bool, int, Name]:
        """Return what tells which of several interfaces has what they all want: the smallest counts.

        That is the one which configures an existing link already, then the one that has been declared for longer.
        """
        link = self.link_of.get(name)
        mark = None if link is None else self.configured.get(link.id)
        return (mark is None or mark.name != name, self.desired.order.get(name, 0), name)

    def adopts(self, name: Name) -> bool:
        """Tell whether an interface of this name is declared that adopts a link."""
        interface = self.desired.interfaces.get(name)
        return interface is not None and interface.kind.origin is Origin.ADOPTED

    def adoption(self, link: Link) -> Adoption | None:
        """Return how a link was adopted, whether that is remembered or only its mark says so."""
        return self.adopted.get(link.id) or self.marked_as_adopted.get(link.id)

    def link_for(self, name: Name) -> Link | None:
        """Return the link of an interface; ``None`` while it has none."""
        return self.link_of.get(name)

    def interface_of(self, link: Link) -> Name | None:
        """Return the interface that a link belongs to."""
        return self.interface_at.get(link.id)

    def _is_place_of(self, place: tuple[NsId, HostName], name: Name) -> bool:
        interface = self.desired.interfaces.get(name)
        return interface is not None and place == (self.place(interface), interface.host_name)

    def place(self, interface: CommonFields) -> Place:
        """Return the namespace that the interface wants to be in; the reference if it does not exist."""
        place = self._places.get(interface.name)
        if place is None:
            ref = interface.namespace
            place = self.observed.own if ref.type is NamespaceType.OWN else self.observed.namespaces.get(ref, ref)
            self._places[interface.name] = place
        return place

    def is_at_place(self, interface: Interface) -> bool:
        """Tell whether the interface's link is where it is wanted; one of somebody else's is not wanted elsewhere."""
        link = self.link_of.get(interface.name)
        if interface.kind.origin is Origin.EXISTING:
            return link is not None
        return link is not None and self._is_place_of((link.id.namespace, link.host_name), interface.name)

    def is_intact(self, unit: Unit) -> bool:
        """Tell whether every interface of a unit has its link, which can become what is declared in place."""
        links = [link for interface in unit if (link := self.link_of.get(interface.name)) is not None]
        if len(links) < len(unit) or any(link.kind != unit[0].kind.kernel_kind for link in links):
            return False
        if any(
            interface.kind.why_recreated(interface, link, self) for interface, link in zip(unit, links, strict=True)
        ):
            return False
        return len(unit) == 1 or links[0].peer == links[1].id

    def occupant(self, interface: Interface) -> Link | None:
        """Return the link at the interface's place, unless it is its own."""
        link = self.link_at_target(Target(self.place(interface), interface.host_name))
        return None if link is None or self.interface_at.get(link.id) == interface.name else link

    def link_at_target(self, target: Target) -> Link | None:
        """Return the link that is called so in this namespace: has this host name, or this altname."""
        if isinstance(target.namespace, NamespaceRef):
            return None
        place = target.namespace, target.host_name
        return self.link_at.get(place) or self.altnamed.get(place)

    def names_of(self, link: Link) -> set[Name]:
        """Return the interface whose state tells of what is done to a link: none for one that is not believed."""
        name = self.interface_at.get(link.id) or self.owner.name_of(link)
        if name is None or (link.id not in self.interface_at and name in self.desired.interfaces):
            return set()
        return {name}


def _may_have_been(link: Link, adoption: Adoption) -> bool:
    """Tell whether a link in another namespace can be the TAP that was moved there: that has the MAC that it had."""
    return adoption.keeps_mac or adoption.mac in {"", link.mac}
