"""The one picture of the world: what is declared, which namespaces exist, which links they have.

Only the agent's loop writes here, by folding events. What an event has changed is touched until it is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from ifagent.core.events import (
    Declaration,
    Declared,
    Event,
    LinkSeen,
    LinksListed,
    NamespaceBehind,
    NamespaceSeen,
    NamespacesListed,
    SourceHealth,
    SourceRevision,
    SourceSnapshot,
)
from ifagent.core.interface import HostName, Interface, Name, NamespaceRef, NamespaceType, named
from ifagent.core.islands import Islands, Scope, Touched
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.relations import Relations, tap_name
from ifagent.core.remembered import Remembered
from ifagent.core.veths import peer_name_of
from ifagent.core.views import Absence, Desired, Observed

MANY = 100
"""Most interfaces whose islands are looked for though they may be most of all: to plan everything costs less then."""


class Index:
    """Folds events; answers look-ups.

    ``sources`` are the names of the configured sources; where two declare the same interface, the one
    listed first counts, and is waited for at the start. ``owner`` tells what is ours.
    """

    def __init__(self, own: NsId, sources: Sequence[str], owner: Owner) -> None:
        self.own = own
        self.sources: tuple[str, ...] = tuple(sources)
        self.relations: Relations = Relations(own, owner)
        self.problems: dict[str, str] = {}
        self.declared: dict[Name, Declaration] = {}
        self.changed: set[Name] = set()
        self.ipv6_newest_first: bool = True
        self.host: frozenset[NsId] = frozenset({own})
        self.behind: set[NsId] = set()
        self._owner = owner
        self._touched = Touched()
        self._synced: set[str] = set()
        self._heard: set[str] = set()
        self._incomplete: set[str] = set()
        self._in_trouble: set[str] = set()
        self._revisions: dict[str, int] = {}
        self._said: dict[str, dict[Name, Declaration]] = {source: {} for source in self.sources}
        self._held: set[Name] = set()
        self._namespaces: dict[NamespaceRef, NsId] = {}
        self._paths: dict[NamespaceRef, str] = {}
        self._absent: dict[NamespaceRef, Absence] = {}
        self._links: dict[NsId, dict[int, Link]] = {}
        self._looked_at: set[NsId] = set()
        self._lingering: dict[NsId, str] = {}
        self._unreachable: dict[NsId, str] = {}
        self._uplinks: frozenset[LinkId] = frozenset()
        self._ways = 0
        self.remembered: Remembered = Remembered()
        self._known: set[LinkId] = set()
        self._moved: dict[Name, LinkId] = {}

    # What is said

    def fold(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case SourceSnapshot():
                self._replace(event)
            case Declared():
                self._declare(event.source, event.name, event.declaration)
            case SourceHealth():
                self._hear_of(event)
            case SourceRevision():
                self._revisions[event.source] = event.revision
            case NamespaceSeen():
                absence = Absence(event.problem, event.invalid) if event.id is None and event.problem else None
                self._see_namespace(event.ref, event.id, event.path, absence)
            case NamespacesListed():
                self._list_namespaces(event.paths)
            case LinksListed():
                self._list_links(event.namespace, event.links)
            case LinkSeen():
                self._see_link(event.id, event.link)
            case NamespaceBehind():
                (self.behind.add if event.behind else self.behind.discard)(event.namespace)
            case _:
                assert_never(event)

    def _replace(self, snapshot: SourceSnapshot) -> None:
        before, counting, complete = self._said[snapshot.source], self._counting(), self._complete
        self._said[snapshot.source] = dict(snapshot.declarations)
        self._synced.add(snapshot.source)
        if snapshot.complete or snapshot.recalled:
            self._heard.add(snapshot.source)
        if snapshot.complete:
            self._incomplete.discard(snapshot.source)
        else:
            self._incomplete.add(snapshot.source)
        for name in before.keys() | snapshot.declarations.keys():
            self._update(name)
        self._update_all_unless(counting)
        self._touched.everything |= self._complete != complete

    def _hear_of(self, health: SourceHealth) -> None:
        counting = self._counting()
        self.problems[health.source] = health.problem
        if health.problem:
            self._in_trouble.add(health.source)
        self._update_all_unless(counting)

    def _counting(self) -> tuple[str, ...]:
        """Return the sources whose word counts now, in their order.

        One that has not said yet what it has is waited for, unless it was in trouble: what those after it say may
        turn out not to count, and must not undo what the kernel has of it.
        """
        waited_for = (s for s in self.sources if s not in self._synced and s not in self._in_trouble)
        first = next(waited_for, None)
        return self.sources if first is None else self.sources[: self.sources.index(first) + 1]

    def _update_all_unless(self, counting: tuple[str, ...]) -> None:
        if self._counting() != counting:
            for name in {name for said in self._said.values() for name in said}:
                self._update(name)

    def _declare(self, source: str, name: Name, declaration: Declaration | None) -> None:
        if declaration is None:
            self._said[source].pop(name, None)
        else:
            self._said[source][name] = declaration
        self._update(name)

    def _update(self, name: Name) -> None:
        """Find out anew what counts as declared under ``name``."""
        before = self.declared.get(name)
        declaration = next(
            (self._said[source][name] for source in self._counting() if name in self._said[source]), None
        )
        if declaration == before:
            return
        self.changed.add(name)
        self._touched.names.add(name)
        interface = self.relations.interfaces.get(name)
        if declaration is None:
            self.declared.pop(name, None)
            self._held.discard(name)
            self._redeclare(name, interface, None)
            return
        self.declared[name] = declaration
        # An invalid value leaves the last valid one in force.
        if declaration.interface is not None:
            self._held.discard(name)
            self._redeclare(name, interface, declaration.interface)
        elif interface is None:
            self._held.add(name)

    def _redeclare(self, name: Name, before: Interface | None, after: Interface | None) -> None:
        if before is not None:
            self._touch_around(before)
        self.relations.redeclare(name, after)

    def _touch_around(self, interface: Interface) -> None:
        """Touch whatever an interface that may be no more has had to do with."""
        touched, relations = self._touched, self.relations
        if peer := peer_name_of(interface):
            touched.names.add(peer)
        place = self._place(interface)
        touched.names |= relations.wanting(place, interface.host_name)
        touched.names |= relations.waiting_for_tap(tap_name(interface))
        if not isinstance(place, NamespaceRef):
            touched.namespaces.add(place)
            if (link := relations.link_at(place, interface.host_name)) is not None:
                touched.links.add(link.id)
        if (tap := relations.link_at(self.own, tap_name(interface))) is not None:
            touched.links.add(tap.id)

    def _list_namespaces(self, paths: Mapping[NamespaceRef, tuple[NsId, str]]) -> None:
        for ref in [ref for ref in self._namespaces if ref.type is NamespaceType.NAMED and ref not in paths]:
            self._see_namespace(ref, None)
        for ref, (id, path) in paths.items():
            self._see_namespace(ref, id, path)
        ids = {ref.reference: id for ref, (id, _) in paths.items()}
        self.remembered = self.remembered.with_names(ids, lambda name: bool(self.relations.names_in(named(name))))

    def _see_namespace(
        self, ref: NamespaceRef, id: NsId | None, path: str = "", absence: Absence | None = None
    ) -> None:
        before = self._namespaces.get(ref)
        if before == id and self._paths.get(ref, "") == path and self._absent.get(ref) == absence:
            return
        self._ways += 1
        self._touch_reference(ref, before)
        self._absent.pop(ref, None)
        self._namespaces.pop(ref, None)
        self._paths.pop(ref, None)
        if absence is not None:
            self._absent[ref] = absence
        if id is not None:
            self._namespaces[ref] = id
            self._paths[ref] = path
            self._touched.namespaces.add(id)
        self.relations.lead(ref, before, id)
        if before is not None and not self.relations.leading_to(before):
            self._looked_at.discard(before)

    def _touch_reference(self, ref: NamespaceRef, before: NsId | None) -> None:
        names = self.relations.names_in(ref)
        self._touched.names |= names
        if before is not None:
            self._touched.namespaces.add(before)
            for name in names:
                self._touch_around(self.relations.interfaces[name])

    def _list_links(self, namespace: NsId, links: Mapping[int, Link] | None) -> None:
        before = self._links.get(namespace)
        if (before is None) != (links is None):
            self._ways += 1
            self._touch_namespace(namespace)
        for ifindex in (before or {}).keys() | (links or {}).keys():
            self._change_link((before or {}).get(ifindex), (links or {}).get(ifindex))
        if links is None:
            self._links.pop(namespace, None)
            return
        self._links[namespace] = dict(links)
        if namespace not in self._looked_at:
            self._ways += 1
            self._looked_at.add(namespace)

    def _see_link(self, id: LinkId, link: Link | None) -> None:
        links = self._links.get(id.namespace)
        if links is None:
            return  # a late word from a namespace that is no longer listened to
        self._change_link(links.get(id.ifindex), link)
        if link is None:
            links.pop(id.ifindex, None)
        else:
            links[id.ifindex] = link

    def _change_link(self, before: Link | None, after: Link | None) -> None:
        if before is after or before == after:
            return
        touched, relations = self._touched, self.relations
        if before is not None:
            touched.links.add(before.id)
            touched.names.update(relations.names_on(before))
            touched.names |= relations.wanting(before.id.namespace, before.host_name)
            if before.id.namespace == self.own:
                touched.names |= relations.waiting_for_tap(before.host_name)
            touched.links.update(other for other in (before.peer, before.lower) if other is not None)
        if after is not None:
            touched.links.add(after.id)
        elif before is not None:
            self._known.discard(before.id)
            self.remember(self.remembered.without_link(before.id))
        relations.relink(before, after)

    def _touch_namespace(self, namespace: NsId) -> None:
        self._touched.namespaces.add(namespace)
        for ref in self.relations.leading_to(namespace):
            self._touched.names |= self.relations.names_in(ref)

    # What a round notes

    def touch(self, names: Iterable[Name] = (), namespaces: Iterable[NsId] = ()) -> None:
        """Have interfaces, and namespaces that may be removed, planned anew though nothing about them has changed."""
        self._touched.names.update(names)
        self._touched.namespaces.update(namespaces)

    def touch_everything(self) -> None:
        """Have everything planned anew."""
        self._touched.everything = True

    def set_unreachable(self, namespace: NsId, problem: str) -> None:
        """Note why a namespace that exists cannot be entered; an empty ``problem``: it may be tried again."""
        if self._unreachable.get(namespace, "") == problem:
            return
        self._ways += 1
        self._touch_namespace(namespace)
        if problem:
            self._unreachable[namespace] = problem
        else:
            del self._unreachable[namespace]

    def remember(self, remembered: Remembered) -> None:
        """Note what the agent remembers from now on."""
        if remembered is not self.remembered:
            self.remembered = remembered
            self.relations.remember(remembered)

    def note(self, scope: Scope, planned: Plan) -> None:
        """Note what a plan has found out that later ones build upon."""
        self.remember(self.remembered.with_learnt(planned.learnt))
        self._known |= planned.known
        still = {name: id for name, id in self._moved.items() if name not in scope.names}
        self._moved = {**still, **planned.moved}

    def set_uplinks(self, uplinks: frozenset[LinkId]) -> None:
        """Note which links keep the host connected."""
        self._touched.everything |= uplinks != self._uplinks
        self._uplinks = uplinks

    def release(self, ref: NamespaceRef) -> None:
        """Forget where a reference leads that nobody makes any more.

        Its namespace is listened to until nothing of ours is left in it.
        """
        id, path = self._namespaces.get(ref), self._paths.get(ref, "")
        self._see_namespace(ref, None)
        if id is not None and id in self._links and not self.relations.leading_to(id):
            self._lingering[id] = path

    def take_changed(self) -> Iterable[Name]:
        """Return the names whose declaration changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    def take_scope(self) -> Scope:
        """Return what is to be planned because of all that was touched since the last call."""
        touched, self._touched = self._touched, Touched(everything=False)
        desired, observed = self.desired(), self.observed()
        most = max(MANY, len(self.declared) // 2)
        if touched.everything or len(touched.names) > most:
            names = frozenset(self.declared.keys() | touched.names)
            return Scope(names, frozenset(self._links), desired, observed)
        return Islands(desired, observed, self.relations, self._owner).scope(touched)

    # What is asked

    @property
    def synced(self) -> bool:
        """True once every configured source has said what it has at least once."""
        return self._synced.issuperset(self.sources)

    @property
    def _complete(self) -> bool:
        return self.synced and not self._incomplete

    @property
    def unheard(self) -> tuple[str, ...]:
        """The sources that have not said yet all that they have, in their order."""
        return tuple(source for source in self.sources if source not in self._heard)

    @property
    def ways(self) -> tuple[int, int, int]:
        """What changes whenever other namespaces may deserve attention, see :meth:`to_listen`."""
        return self._ways, self.relations.references, self.relations.marked

    @property
    def unreachable(self) -> Mapping[NsId, str]:
        """The namespaces that exist and cannot be entered, and why."""
        return self._unreachable

    def revision(self, source: str) -> int:
        """Return the revision of a source's store up to which it is known, 0 if nothing is."""
        declared = max((declaration.revision for declaration in self._said[source].values()), default=0)
        return max(declared, self._revisions.get(source, 0))

    def declared_by(self, source: str) -> dict[Name, Declaration]:
        """Return what counts as declared and is said by this source, by name."""
        said = self._said[source]
        return {name: declaration for name, declaration in said.items() if self.declared.get(name) == declaration}

    def desired(self) -> Desired:
        """Return what is to be; a view, valid until the next event is folded."""
        return Desired(self.relations.interfaces, self._held, self._complete)

    def observed(self) -> Observed:
        """Return what is; a view, valid until the next event is folded."""
        return Observed(
            own=self.own,
            namespaces=self._namespaces,
            links=self._links,
            unreachable=self._unreachable,
            absent=self._absent,
            ipv6_newest_first=self.ipv6_newest_first,
            host=self.host,
            uplinks=self._uplinks,
            remembered=self.remembered,
            known=self._known,
            moved=self._moved,
        )

    def namespace(self, ref: NamespaceRef) -> NsId | None:
        """Return the namespace that a reference leads to."""
        return self._namespaces.get(ref)

    def link_named(self, namespace: NsId, host_name: HostName) -> Link | None:
        """Return the link with this host name."""
        return self.relations.link_at(namespace, host_name)

    def attached(self) -> set[NsId]:
        """Return the namespaces that are listened to."""
        return set(self._links)

    def to_listen(self) -> dict[NsId, str]:
        """Return every namespace that deserves attention, with a path to open it.

        These are the agent's own, those that a declared interface refers to, those with links of ours or
        made by us, and each other one until it has been looked at once, for left-overs.
        """
        relations = self.relations
        wanted = relations.made_references()
        paths: dict[NsId, str] = {}
        for ref, id in self._namespaces.items():
            if id == self.own or ref in wanted or id not in self._looked_at or relations.has_marks(id):
                paths.setdefault(id, self._paths[ref])
        self._lingering = {id: path for id, path in self._lingering.items() if relations.has_marks(id)}
        return self._lingering | paths

    def _place(self, interface: Interface) -> NsId | NamespaceRef:
        if interface.namespace.type is NamespaceType.OWN:
            return self.own
        return self._namespaces.get(interface.namespace, interface.namespace)
