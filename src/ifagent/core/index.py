"""The one picture of the world: what is declared, which namespaces exist, which links they have.

Only the agent's loop writes here, by folding events. Everything else is a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from ifagent.core.events import (
    Declaration,
    Declared,
    Event,
    LinkSeen,
    LinksListed,
    NamespaceSeen,
    NamespacesListed,
    SourceHealth,
    SourceRevision,
    SourceSnapshot,
)
from ifagent.core.interface import HostName, Interface, Name, NamespaceRef, NamespaceType
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.ownership import Owner


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be, as the planner takes it.

    ``held`` are names whose value is invalid and whose last valid value is unknown: what the kernel has of
    them stays as it is. ``complete`` is true once every source has said all it has: only then is anything of
    ours that nobody wants taken away.
    """

    interfaces: Mapping[Name, Interface]
    held: frozenset[Name] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a reference leads to no namespace; ``invalid`` if it never can as it is."""

    problem: str
    invalid: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What is, as the planner takes it.

    ``namespaces`` tells which namespace a reference leads to; ``links`` has every link of every namespace
    that is listened to, by ifindex. ``unreachable`` says why a namespace that exists cannot be entered, ``absent``
    why a reference leads to none.
    ``ipv6_newest_first`` says how this kernel lists IPv6 addresses of one scope. ``host`` are the namespaces that are
    the host's: the agent's own and that of the first process. ``uplinks`` are links that keep the host connected.
    """

    own: NsId
    namespaces: Mapping[NamespaceRef, NsId]
    links: Mapping[NsId, Mapping[int, Link]]
    unreachable: Mapping[NsId, str] = field(default_factory=dict)
    absent: Mapping[NamespaceRef, Absence] = field(default_factory=dict)
    ipv6_newest_first: bool = True
    host: frozenset[NsId] = frozenset()
    uplinks: frozenset[LinkId] = frozenset()

    def link(self, id: LinkId | None) -> Link | None:
        """Return the link, ``None`` if there is none or its namespace is not listened to."""
        return self.links.get(id.namespace, {}).get(id.ifindex) if id else None

    def peer(self, link: Link) -> Link | None:
        """Return the other end of a veth as far as it can be seen."""
        return self.link(link.peer)


class Index:
    """Folds events; answers look-ups.

    ``sources`` are the names of the configured sources; where two declare the same interface, the one
    listed first counts, and is waited for at the start.
    """

    def __init__(self, own: NsId, sources: Sequence[str]) -> None:
        self.own = own
        self.sources: tuple[str, ...] = tuple(sources)
        self._synced: set[str] = set()
        self._incomplete: set[str] = set()
        self._in_trouble: set[str] = set()
        self.problems: dict[str, str] = {}
        self.declared: dict[Name, Declaration] = {}
        self.changed: set[Name] = set()
        self.unreachable: dict[NsId, str] = {}
        self.ipv6_newest_first = True
        self.host: frozenset[NsId] = frozenset({own})
        self.uplinks: frozenset[LinkId] = frozenset()
        self._revisions: dict[str, int] = {}
        self._said: dict[str, dict[Name, Declaration]] = {source: {} for source in self.sources}
        self._interfaces: dict[Name, Interface] = {}
        self._namespaces: dict[NamespaceRef, NsId] = {}
        self._paths: dict[NamespaceRef, str] = {}
        self._absent: dict[NamespaceRef, Absence] = {}
        self._links: dict[NsId, dict[int, Link]] = {}
        self._looked_at: set[NsId] = set()
        self._lingering: dict[NsId, str] = {}

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
                self._see_namespace(event.ref, event.id, event.path)
                if event.id is None and event.problem:
                    self._absent[event.ref] = Absence(event.problem, event.invalid)
            case NamespacesListed():
                self._list_namespaces(event.paths)
            case LinksListed():
                self._list_links(event.namespace, event.links)
            case LinkSeen():
                self._see_link(event.id, event.link)
            case _:
                assert_never(event)

    def _replace(self, snapshot: SourceSnapshot) -> None:
        before, counting = self._said[snapshot.source], self._counting()
        self._said[snapshot.source] = dict(snapshot.declarations)
        self._synced.add(snapshot.source)
        if snapshot.complete:
            self._incomplete.discard(snapshot.source)
        else:
            self._incomplete.add(snapshot.source)
        for name in before.keys() | snapshot.declarations.keys():
            self._update(name)
        self._update_all_unless(counting)

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

    def _list_namespaces(self, paths: Mapping[NamespaceRef, tuple[NsId, str]]) -> None:
        for ref in [ref for ref in self._namespaces if ref.type is NamespaceType.NAMED and ref not in paths]:
            self._see_namespace(ref, None)
        for ref, (id, path) in paths.items():
            self._see_namespace(ref, id, path)

    def _list_links(self, namespace: NsId, links: Mapping[int, Link] | None) -> None:
        if links is None:
            self._links.pop(namespace, None)
        else:
            self._links[namespace] = dict(links)
            self._looked_at.add(namespace)

    def _see_link(self, id: LinkId, link: Link | None) -> None:
        links = self._links.get(id.namespace)
        if links is None:
            return  # a late word from a namespace that is no longer listened to
        if link is None:
            links.pop(id.ifindex, None)
        else:
            links[id.ifindex] = link

    def _see_namespace(self, ref: NamespaceRef, id: NsId | None, path: str = "") -> None:
        self._absent.pop(ref, None)
        if id is None:
            gone = self._namespaces.pop(ref, None)
            self._paths.pop(ref, None)
            if gone is not None and gone not in self._namespaces.values():
                self._looked_at.discard(gone)
        else:
            self._namespaces[ref] = id
            self._paths[ref] = path

    def _update(self, name: Name) -> None:
        """Find out anew what counts as declared under ``name``."""
        before = self.declared.get(name)
        said = [self._said[source][name] for source in self._counting() if name in self._said[source]]
        if not said:
            if before is not None:
                del self.declared[name]
                self._interfaces.pop(name, None)
                self.changed.add(name)
            return
        declaration = said[0]
        if declaration == before:
            return
        self.declared[name] = declaration
        if declaration.interface is not None:
            # An invalid value leaves the last valid one in force.
            self._interfaces[name] = declaration.interface
        self.changed.add(name)

    @property
    def synced(self) -> bool:
        """True once every configured source has said what it has at least once."""
        return self._synced.issuperset(self.sources)

    @property
    def unheard(self) -> tuple[str, ...]:
        """The sources that have not said yet what they have, in their order."""
        return tuple(source for source in self.sources if source not in self._synced)

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
        held = frozenset(self.declared.keys() - self._interfaces.keys())
        return Desired(self._interfaces, held, self.synced and not self._incomplete)

    def observed(self) -> Observed:
        """Return what is; a view, valid until the next event is folded."""
        return Observed(
            own=self.own,
            namespaces=self._namespaces,
            links=self._links,
            unreachable=self.unreachable,
            absent=self._absent,
            ipv6_newest_first=self.ipv6_newest_first,
            host=self.host,
            uplinks=self.uplinks,
        )

    def references(self) -> frozenset[NamespaceRef]:
        """Return every reference that a declared interface makes."""
        return frozenset(interface.namespace for interface in self._interfaces.values())

    def release(self, ref: NamespaceRef) -> None:
        """Forget where a reference leads that nobody makes any more.

        Its namespace is listened to until nothing of ours is left in it.
        """
        id, path = self._namespaces.get(ref), self._paths.get(ref, "")
        self._see_namespace(ref, None)
        if id is not None and id in self._links and id not in self._namespaces.values():
            self._lingering[id] = path

    def namespace(self, ref: NamespaceRef) -> NsId | None:
        """Return the namespace that a reference leads to."""
        return self._namespaces.get(ref)

    def link_named(self, namespace: NsId, host_name: HostName) -> Link | None:
        """Return the link with this host name."""
        return next((link for link in self._links.get(namespace, {}).values() if link.host_name == host_name), None)

    def links(self) -> Iterator[Link]:
        """Yield every link that is known."""
        for links in self._links.values():
            yield from links.values()

    def attached(self) -> set[NsId]:
        """Return the namespaces that are listened to."""
        return set(self._links)

    def to_listen(self, owner: Owner) -> dict[NsId, str]:
        """Return every namespace that deserves attention, with a path to open it.

        These are the agent's own, those that a declared interface refers to, those with links of ours or
        made by us, and each other one until it has been looked at once, for left-overs.
        """
        wanted_refs = self.references()
        paths: dict[NsId, str] = {}
        for ref, id in self._namespaces.items():
            if id == self.own or ref in wanted_refs or id not in self._looked_at or self._has_ours(id, owner):
                paths.setdefault(id, self._paths[ref])
        self._lingering = {id: path for id, path in self._lingering.items() if self._has_ours(id, owner)}
        return self._lingering | paths

    def _has_ours(self, id: NsId, owner: Owner) -> bool:
        links = self._links.get(id, {})
        if owner.made_namespace(links.get(LOOPBACK_IFINDEX)):
            return True
        return any(owner.owns(link) or owner.adoption(link) or owner.borrowing(link) for link in links.values())

    def take_changed(self) -> Iterable[Name]:
        """Return the names whose declaration changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed
