"""What has to be planned together after something has changed.

An island is everything that hangs together with something: the other end of a pair, whoever names it as a peer, who
wants or has its place, whatever is in a namespace that is about to be removed. What is not of the islands that were
touched would be planned just as before, so it is left out, and a change costs what it concerns and not what there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ifagent.core.interface import Interface, Name, NamespaceRef, NamespaceType
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.operations import Place
from ifagent.core.ownership import Owner
from ifagent.core.relations import Relations, tap_name
from ifagent.core.veths import peer_name_of
from ifagent.core.views import Desired, Observed


@dataclass(slots=True)
class Touched:
    """What has changed since it was last planned; ``everything`` where that cannot be told."""

    everything: bool = True
    names: set[Name] = field(default_factory=set)
    links: set[LinkId] = field(default_factory=set)
    namespaces: set[NsId] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everything or bool(self.names or self.links or self.namespaces)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one planning looks at; ``names`` are all those it decides about, declared or not.

    ``namespaces`` are those that may be removed.
    """

    names: frozenset[Name]
    namespaces: frozenset[NsId]
    desired: Desired
    observed: Observed


class Islands:
    """Finds the islands of what was touched; used once."""

    def __init__(self, desired: Desired, observed: Observed, relations: Relations, owner: Owner) -> None:
        self._desired = desired
        self._observed = observed
        self._relations = relations
        self._owner = owner
        self._names: set[Name] = set()
        self._links: set[LinkId] = set()
        self._waiting: list[Name | LinkId] = []

    def scope(self, touched: Touched) -> Scope:
        """Return what to plan."""
        self._waiting = [*touched.names, *touched.links]
        emptied = {id for id in touched.namespaces | {link.namespace for link in touched.links} if self._may_go(id)}
        for namespace in emptied:
            self._waiting += [LinkId(namespace, ifindex) for ifindex in self._observed.links[namespace]]
        while self._waiting:
            node = self._waiting.pop()
            if isinstance(node, LinkId):
                if node not in self._links:
                    self._links.add(node)
                    self._follow_link(node)
            elif node not in self._names:
                self._names.add(node)
                self._follow_name(node)
        return self._restricted(frozenset(emptied))

    def _may_go(self, namespace: NsId) -> bool:
        """Tell whether a namespace is one to be removed as soon as it is empty."""
        links = self._observed.links.get(namespace)
        if links is None or namespace == self._observed.own or self._relations.is_wanted(namespace):
            return False
        return self._owner.made_namespace(links.get(LOOPBACK_IFINDEX))

    def _follow_name(self, name: Name) -> None:
        self._waiting += self._relations.links_of(name)
        self._waiting += self._relations.naming_as_peer(name)
        if (before := self._observed.moved.get(name)) is not None:
            self._waiting += self._relations.uppers_of(before)
        if (adoption := self._observed.remembered.adoptions.get(name)) is not None and adoption.master:
            self._waiting.append(LinkId(self._observed.own, adoption.master))
        interface = self._desired.interfaces.get(name)
        if interface is None:
            return
        if peer := peer_name_of(interface):
            self._waiting.append(peer)
        place = self._place(interface)
        self._waiting += self._relations.wanting(place, interface.host_name)
        self._add_link(None if isinstance(place, NamespaceRef) else self._relations.link_at(place, interface.host_name))
        if tap := tap_name(interface):
            self._waiting += self._relations.waiting_for_tap(tap)
            self._add_link(self._relations.link_at(self._observed.own, tap))

    def _follow_link(self, id: LinkId) -> None:
        link = self._observed.link(id)
        if link is None:
            return
        self._waiting += self._relations.names_on(link)
        self._waiting += self._relations.wanting(id.namespace, link.host_name)
        if id.namespace == self._observed.own:
            self._waiting += self._relations.waiting_for_tap(link.host_name)
        self._waiting += self._relations.uppers_of(id)
        self._waiting += [other for other in (link.peer, link.lower) if other is not None]

    def _add_link(self, link: Link | None) -> None:
        if link is not None:
            self._waiting.append(link.id)

    def _place(self, interface: Interface) -> Place:
        if interface.namespace.type is NamespaceType.OWN:
            return self._observed.own
        return self._observed.namespaces.get(interface.namespace, interface.namespace)

    def _restricted(self, emptied: frozenset[NsId]) -> Scope:
        everywhere = self._observed.links
        found = {name: self._desired.interfaces.get(name) for name in self._names}
        interfaces = {name: interface for name, interface in found.items() if interface is not None}
        refs = {interface.namespace for interface in interfaces.values()}
        refs |= {ref for id in emptied for ref in self._relations.leading_to(id)}
        namespaces = {ref: self._observed.namespaces[ref] for ref in refs if ref in self._observed.namespaces}
        links: dict[NsId, dict[int, Link]] = {id: {} for id in namespaces.values() if id in everywhere}
        if self._observed.own in everywhere:
            links.setdefault(self._observed.own, {})
        for id in self._links:
            link = self._observed.link(id)
            if link is not None:
                links.setdefault(id.namespace, {})[id.ifindex] = link
        remembered = self._observed.remembered
        adoptions = {name: a for name, a in remembered.adoptions.items() if name in self._names}
        return Scope(
            names=frozenset(self._names),
            namespaces=emptied,
            desired=replace(self._desired, interfaces=interfaces),
            observed=replace(
                self._observed, namespaces=namespaces, links=links, remembered=replace(remembered, adoptions=adoptions)
            ),
        )
