"""Who has to do with whom: interfaces, links and places, looked up from any of them.

Kept up to date with every change, so that a round can look at what a change concerns and leave the rest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ifagent.core.interface import HostName, Interface, Name, NamespaceRef
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.ownership import Owner
from ifagent.core.remembered import Remembered

K = TypeVar("K")
V = TypeVar("V")


class Relations:
    """Look-ups. Every change is told by :meth:`redeclare`, :meth:`relink` and :meth:`lead`.

    ``interfaces`` are those in force. ``references`` and ``marked`` count changes: whoever remembers one of them can
    tell whether anything has happened to the references that are made, or to which namespaces have marks of ours.
    """

    def __init__(self, own: NsId, owner: Owner) -> None:
        self.interfaces: dict[Name, Interface] = {}
        self.references: int = 0
        self.marked: int = 0
        self.without_checksums: set[LinkId] = set()
        self._own = own
        self._owner = owner
        self._names_in: dict[NamespaceRef, set[Name]] = {}
        self._changing_links: set[Name] = set()
        self._referring_to: dict[Name, set[Name]] = {}
        self._wanting: dict[tuple[NamespaceRef, HostName], set[Name]] = {}
        self._waiting_for_tap: dict[HostName, set[Name]] = {}
        self._links_of: dict[Name, set[LinkId]] = {}
        self._at: dict[tuple[NsId, HostName], Link] = {}
        self._altnamed: dict[tuple[NsId, HostName], Link] = {}
        self._marks_in: dict[NsId, set[LinkId]] = {}
        self._leading_to: dict[NsId, set[NamespaceRef]] = {}
        self._uppers: dict[LinkId, set[LinkId]] = {}
        self._adopted: dict[LinkId, Name] = {}
        self._borrowed: set[LinkId] = set()

    # What is told

    def redeclare(self, name: Name, interface: Interface | None) -> None:
        """Take note of the interface that is in force under a name, ``None`` if none is."""
        before = self.interfaces.pop(name, None)
        self._changing_links.discard(name)
        if before is not None:
            _take(self._names_in, before.namespace, name)
            for reference in before.kind.references():
                _take(self._referring_to, reference.to, name)
            _take(self._wanting, (before.namespace, before.host_name), name)
            _take(self._waiting_for_tap, before.kind.made_as(before), name)
        if interface is not None:
            self.interfaces[name] = interface
            if interface.kind.changes_link(interface):
                self._changing_links.add(name)
            _put(self._names_in, interface.namespace, name)
            for reference in interface.kind.references():
                _put(self._referring_to, reference.to, name)
            _put(self._wanting, (interface.namespace, interface.host_name), name)
            _put(self._waiting_for_tap, interface.kind.made_as(interface), name)
        refs = [each.namespace for each in (before, interface) if each is not None]
        if len(refs) < 2 or refs[0] != refs[1]:
            self.references += 1

    def relink(self, before: Link | None, after: Link | None) -> None:
        """Take note of a link that came, changed or went."""
        if before is not None:
            for name in self.names_on(before):
                _take(self._links_of, name, before.id)
            if (at := self._at.get((before.id.namespace, before.host_name))) is not None and at.id == before.id:
                del self._at[before.id.namespace, before.host_name]
            for altname in before.altnames:
                if (at := self._altnamed.get((before.id.namespace, altname))) is not None and at.id == before.id:
                    del self._altnamed[before.id.namespace, altname]
            self.without_checksums.discard(before.id)
            self._borrowed.discard(before.id)
            if before.lower is not None:
                _take(self._uppers, before.lower, before.id)
        if after is not None:
            for name in self.names_on(after):
                _put(self._links_of, name, after.id)
            self._at[after.id.namespace, after.host_name] = after
            self._altnamed.update(((after.id.namespace, altname), after) for altname in after.altnames)
            if after.lower is not None:
                _put(self._uppers, after.lower, after.id)
            if self._owner.borrowing(after) is not None:
                self._borrowed.add(after.id)
            if self._owner.without_checksums(after):
                self.without_checksums.add(after.id)
        link = after or before
        if link is not None:
            self._remark(link.id, marked=after is not None and self._is_marked(after))

    def lead(self, ref: NamespaceRef, before: NsId | None, after: NsId | None) -> None:
        """Take note of where a reference leads."""
        if before is not None:
            _take(self._leading_to, before, ref)
        if after is not None:
            _put(self._leading_to, after, ref)

    def remember(self, remembered: Remembered) -> None:
        """Take note of which links the agent remembers to have adopted."""
        for id, name in self._adopted.items():
            _take(self._links_of, name, id)
        self._adopted = {a.link: a.name for a in remembered.adoptions.values() if a.link is not None}
        for id, name in self._adopted.items():
            _put(self._links_of, name, id)

    def _remark(self, id: LinkId, *, marked: bool) -> None:
        there = self._marks_in.get(id.namespace, set())
        if marked and id not in there:
            _put(self._marks_in, id.namespace, id)
            self.marked += 1
        elif not marked and id in there:
            _take(self._marks_in, id.namespace, id)
            self.marked += 1

    def _is_marked(self, link: Link) -> bool:
        if link.id.ifindex == LOOPBACK_IFINDEX and self._owner.made_namespace(link):
            return True
        return self.is_ours(link)

    # What is asked

    def concerns(self, link: Link) -> bool:
        """Tell whether an interface has anything to do with a link, as far as links and interfaces are told.

        It is ours, is at a place that an interface wants, or is the other end of one that is ours, or sits on it.
        """
        id = link.id
        return (
            self._is_known_as_ours(id)
            or (link.peer is not None and self._is_known_as_ours(link.peer))
            or (link.lower is not None and self._is_known_as_ours(link.lower))
            or bool(self.wanting_a_name_of(link))
            or (id.namespace == self._own and link.host_name in self._waiting_for_tap)
        )

    def _is_known_as_ours(self, id: LinkId) -> bool:
        return id in self._marks_in.get(id.namespace, ()) or id in self._adopted

    def marked_links(self) -> list[LinkId]:
        """Return every link with a mark of ours."""
        return [*(id for ids in self._marks_in.values() for id in ids), *self._adopted]

    def made_in(self, namespaces: Iterable[NsId]) -> set[LinkId]:
        """Return the links in some namespaces that this agent has made or adopted; those of others it only borrows."""
        marked = {id for namespace in namespaces for id in self._marks_in.get(namespace, ())}
        return {id for id in marked.union(self._adopted) - self._borrowed if id.ifindex != LOOPBACK_IFINDEX}

    def marked_names(self) -> frozenset[Name]:
        """Return every name in the alias of a link."""
        return frozenset(self._links_of)

    def changes_links(self, name: Name) -> bool:
        """Tell whether an interface changes a link of somebody else's."""
        return name in self._changing_links

    def changing_links(self) -> frozenset[Name]:
        """Return the interfaces that change links of somebody else's."""
        return frozenset(self._changing_links)

    def is_ours(self, link: Link) -> bool:
        """Tell whether this agent has made, adopted or borrowed a link."""
        owner = self._owner
        return owner.owns(link) or link.id in self._adopted or bool(owner.adoption(link) or owner.borrowing(link))

    def names_on(self, link: Link) -> Iterator[Name]:
        """Yield the interfaces that a link's alias names, or that are remembered to have adopted it."""
        if (adopter := self._adopted.get(link.id)) is not None:
            yield adopter
        if not link.alias:
            return
        if (name := self._owner.name_of(link)) is not None:
            yield name
        elif (mark := self._owner.adoption(link) or self._owner.borrowing(link)) is not None:
            yield mark.name

    def links_of(self, name: Name) -> frozenset[LinkId]:
        """Return the links whose alias names an interface, and the one that it is remembered to have adopted."""
        return frozenset(self._links_of.get(name, ()))

    def uppers_of(self, id: LinkId) -> frozenset[LinkId]:
        """Return the links that sit on a link."""
        return frozenset(self._uppers.get(id, ()))

    def referring_to(self, name: Name) -> frozenset[Name]:
        """Return the interfaces that refer to one."""
        return frozenset(self._referring_to.get(name, ()))

    def wanting(self, place: NsId | NamespaceRef, host_name: HostName) -> set[Name]:
        """Return the interfaces that want a place."""
        refs = (place,) if isinstance(place, NamespaceRef) else self.leading_to(place)
        return {name for ref in refs for name in self._wanting.get((ref, host_name), ())}

    def wanting_a_name_of(self, link: Link) -> set[Name]:
        """Return the interfaces that want a place which a link has, under whichever name."""
        return {name for host_name in link.names for name in self.wanting(link.id.namespace, host_name)}

    def waiting_for_tap(self, host_name: HostName) -> frozenset[Name]:
        """Return the interfaces that adopt a TAP of this name in the agent's own namespace."""
        return frozenset(self._waiting_for_tap.get(host_name, ()))

    def adopting_from(self, namespace: NsId) -> set[Name]:
        """Return the interfaces that adopt a TAP of a namespace, which can only be the agent's own."""
        return set().union(*self._waiting_for_tap.values()) if namespace == self._own else set()

    def link_at(self, namespace: NsId, host_name: HostName) -> Link | None:
        """Return the link with this host name."""
        return self._at.get((namespace, host_name))

    def link_called(self, namespace: NsId, name: HostName) -> Link | None:
        """Return the link that has this host name or altname."""
        return self._at.get((namespace, name)) or self._altnamed.get((namespace, name))

    def leading_to(self, namespace: NsId) -> frozenset[NamespaceRef]:
        """Return the references that lead to a namespace."""
        return frozenset(self._leading_to.get(namespace, ()))

    def names_in(self, ref: NamespaceRef) -> frozenset[Name]:
        """Return the interfaces that make a reference."""
        return frozenset(self._names_in.get(ref, ()))

    def made_references(self) -> frozenset[NamespaceRef]:
        """Return every reference that an interface makes."""
        return frozenset(self._names_in)

    def is_wanted(self, namespace: NsId) -> bool:
        """Tell whether an interface refers to a namespace."""
        return any(ref in self._names_in for ref in self._leading_to.get(namespace, ()))

    def has_marks(self, namespace: NsId) -> bool:
        """Tell whether a namespace was made by this agent, or has links that it made or configures."""
        return namespace in self._marks_in


def _put(groups: dict[K, set[V]], key: K, member: V) -> None:
    if key:
        groups.setdefault(key, set()).add(member)


def _take(groups: dict[K, set[V]], key: K, member: V) -> None:
    group = groups.get(key)
    if group is not None:
        group.discard(member)
        if not group:
            del groups[key]
