"""The one picture of the world: what is declared, which namespaces exist, which links they have.

Only the agent's loop writes here, by folding events. What an event has changed is touched until it is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import assert_never

from ifagent.core.agenda import Agenda, Node
from ifagent.core.declarations import Declarations
from ifagent.core.desired import Desired
from ifagent.core.events import (
    Declaration,
    Declared,
    Event,
    HostRoutesSeen,
    LinkSeen,
    LinksListed,
    NamespaceBehind,
    NamespaceSeen,
    NamespacesListed,
    NamespaceUnreachable,
    SourceHealth,
    SourceRevision,
    SourceSnapshot,
)
from ifagent.core.graph import Graph
from ifagent.core.host_routes import HostRoutes
from ifagent.core.interface import HostName, Interface, Name, NamespaceRef, NamespaceType, named
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.namespaces import Namespaces
from ifagent.core.observed import Absence, Observed
from ifagent.core.operations import Place
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.policy import Policy
from ifagent.core.quota import Quota
from ifagent.core.remembered import Remembered

HOST_ROUTES = "host routes"
"""What interfaces wait for that may take links or traffic of the host's: how that is connected."""

DECIDE = 500
"""Most declarations that are looked at in one go, about 5 ms of work."""


class Index:
    """Folds events; answers look-ups.

    ``sources`` are the names of the configured sources, see :class:`Declarations`. ``owner`` tells what is ours.
    ``policy`` says how many interfaces there may be. ``secluded`` says why nobody else sees the named namespaces that
    the agent makes, empty if they are seen.

    ``behind`` are the namespaces of which what is known is old, ``unreachable`` those that cannot be entered, and why;
    ``doubtful`` are those that may have to be followed from now on, or no more. ``current`` are those that were listed,
    ``routes_known_of`` those of the host whose routes were, since something was planned last.
    """

    def __init__(self, own: NsId, sources: Sequence[str], owner: Owner, policy: Policy | None = None) -> None:
        self.own = own
        self.marks: MarkedLinks = MarkedLinks(owner)
        self.namespaces: Namespaces = Namespaces(own, self.marks.is_in)
        self.graph: Graph = Graph(self.namespaces, self.marks)
        self.declarations: Declarations = Declarations(sources)
        self.agenda: Agenda = Agenda()
        self.changed: set[Name] = set()
        self.ipv6_newest_first: bool = True
        self.host: frozenset[NsId] = frozenset({own})
        self.secluded: str = ""
        self.behind: set[NsId] = set()
        self.unreachable: dict[NsId, str] = {}
        self.doubtful: set[NsId] = set()
        self.quota: Quota = Quota(policy or Policy())
        self._owner = owner
        self.current: set[NsId] = set()
        self._held: set[Name] = set()
        self._links: dict[NsId, dict[int, Link]] = {}
        self._host_routes = HostRoutes()
        self.routes_known_of: frozenset[NsId] = frozenset()
        self.remembered: Remembered = Remembered()
        self._cookies: dict[NsId, int] = {}

    # What is said

    def fold(self, event: Event) -> None:
        """Take in one event, whatever it takes."""
        self.take(event)
        while self.unsettled:
            self.settle()

    def take(self, event: Event) -> None:
        """Take in one event; as long as ``unsettled`` is true, :meth:`settle` has to follow."""
        match event:
            case SourceSnapshot() | Declared() | SourceHealth() | SourceRevision():
                complete = self.declarations.complete
                self.declarations.take(event)
                if self.declarations.complete != complete:
                    self.touch_everything()
            case NamespaceSeen():
                absence = Absence(event.problem, event.invalid) if event.id is None and event.problem else None
                self._see_namespace(event.ref, event.id, event.path, absence)
            case NamespacesListed():
                self._list_namespaces(event.paths)
            case LinksListed():
                if event.cookie:
                    self._cookies[event.namespace] = event.cookie
                    self.remember(self.remembered.with_cookies({event.namespace: event.cookie}))
                self._list_links(event.namespace, event.links)
            case LinkSeen():
                self._see_link(event.id, event.link)
            case NamespaceBehind():
                (self.behind.add if event.behind else self._catch_up)(event.namespace)
            case NamespaceUnreachable():
                self._give_up_on(event.namespace, event.problem)
            case HostRoutesSeen():
                self._see_host_routes(event.routes, event.namespaces)
            case _:
                assert_never(event)

    @property
    def unsettled(self) -> bool:
        """True while it is not decided what of that which was said counts."""
        return self.declarations.undecided

    def settle(self) -> None:
        """Decide about some of the declarations that were said."""
        for name, declaration in self.declarations.decide(DECIDE):
            self._update(name, declaration)

    def _update(self, name: Name, declaration: Declaration | None) -> None:
        """Have something else count as declared under ``name``."""
        self.changed.add(name)
        before = self.graph.interfaces.get(name) or self.quota.refused_interface(name)
        if declaration is None:
            self._held.discard(name)
            self._admit(self.quota.redeclare(name, None))
        # An invalid value leaves the last valid one in force.
        elif declaration.interface is not None:
            self._held.discard(name)
            self._admit(self.quota.redeclare(name, declaration.interface))
        elif before is None:
            self._held.add(name)
        self._touch(name, anew=True)

    def _admit(self, in_force: Mapping[Name, Interface | None]) -> None:
        """Have other interfaces in force; what the kernel has of one that is beyond the limits stays as it is."""
        for name, after in in_force.items():
            before = self.graph.interfaces.get(name)
            if before is not None:
                self._touch_around(name)
            self.namespaces.set_interface(name, before, after)
            self.graph.set_interface(name, after)
            for interface in (before, after):
                id = None if interface is None else self.namespace(interface.namespace)
                if id is not None:
                    self.doubtful.add(id)
            self._touch(name, anew=True)

    def _prefer_what_has_its_link(self, link: Link) -> None:
        """Let interfaces that have been there before the agent was started in for others that have not."""
        for name in self.marks.names_on(link):
            interface = self.quota.refused_interface(name)
            if interface is not None and link.id.namespace == self._place(interface):
                self._admit(self.quota.prefer(name, lambda other: bool(self.graph.links_of(other))))

    def _touch(self, *names: Name, anew: bool = False) -> None:
        for name in names:
            interface = self.graph.interfaces.get(name)
            self.agenda.touch(name, None if interface is None else self._place(interface), anew=anew)

    def _touch_link(self, id: LinkId) -> None:
        self.agenda.touch(id, id.namespace)

    def _touch_around(self, name: Name) -> None:
        """Touch whatever an interface has to do with that may be no more, or another one from now on."""
        self.touch_nodes(self.graph.neighbours(name))
        if isinstance(place := self._place(self.graph.interfaces[name]), int):
            self.agenda.touch(place, place)

    def _list_namespaces(self, paths: Mapping[NamespaceRef, tuple[NsId, str]]) -> None:
        for ref, id, path in self.namespaces.list_named(paths):
            self._see_namespace(ref, id, path)
        ids = {ref.reference: id for ref, (id, _) in paths.items()}
        self.remembered = self.remembered.with_names(ids, lambda name: bool(self.namespaces.names_in(named(name))))

    def _see_namespace(
        self, ref: NamespaceRef, id: NsId | None, path: str = "", absence: Absence | None = None
    ) -> None:
        if not self.namespaces.news(ref, id, path, absence):
            return
        before, names = self.namespace(ref), self.namespaces.names_in(ref)
        self._touch(*names, anew=True)
        if before is not None:
            for name in names:
                self._touch_around(name)
        self.namespaces.lead(ref, id, path, absence)
        for name in names:
            self.graph.update_interface(name)
        for namespace in (before, id):
            if namespace is not None:
                self.agenda.touch(namespace, namespace)
                self.doubtful.add(namespace)
                self.agenda.release(namespace)
        if before is not None and not self.namespaces.leading_to(before):
            self.unreachable.pop(before, None)

    def _list_links(self, namespace: NsId, links: Mapping[int, Link] | None) -> None:
        before = self._links.get(namespace)
        if (before is None) != (links is None):
            self.doubtful.add(namespace)
            self._touch_namespace(namespace)
        after = {ifindex: link.with_contested((before or {}).get(ifindex)) for ifindex, link in (links or {}).items()}
        for ifindex in (before or {}).keys() | after.keys():
            self._change_link((before or {}).get(ifindex), after.get(ifindex))
        self.agenda.release(namespace)
        if links is None:
            self._links.pop(namespace, None)
            self._cookies.pop(namespace, None)
            self._catch_up(namespace)
            return
        self._links[namespace] = after
        self.namespaces.note_listed(namespace)
        self.current.add(namespace)
        if self.unreachable.pop(namespace, None) is not None:
            self._touch_namespace(namespace)

    def _see_link(self, id: LinkId, link: Link | None) -> None:
        links = self._links.get(id.namespace)
        if links is None:
            return  # a late word from a namespace that is no longer listened to
        before = links.get(id.ifindex)
        if link is None:
            links.pop(id.ifindex, None)
        else:
            link = links[id.ifindex] = link.with_contested(before)
        self._change_link(before, link)

    def _change_link(self, before: Link | None, after: Link | None) -> None:
        link = after or before
        if link is None or before is after or before == after:
            return
        id, graph, marked = link.id, self.graph, self.marks.generation
        concerned = before is not None and graph.concerns_interfaces(before)
        nodes = graph.nodes(id)
        if before is not None and after is None:
            self.remember(self.remembered.without_link(id, own=self.own))
        around = list(graph.neighbours(id)) if concerned else []
        self.marks.set_link(id, after)
        graph.set_link(id, after)
        if graph.nodes(id) != nodes:
            self.touch_nodes(around)
        if after is not None and self.quota.refused:
            self._prefer_what_has_its_link(after)
        if concerned or (after is not None and graph.concerns_interfaces(after)):
            self._touch_link(id)
        if self.marks.generation != marked:
            self.doubtful.add(id.namespace)
        if (before is None or after is None) and self.marks.is_in(id.namespace):
            # With its last link, a namespace may have to go.
            self.agenda.touch(id.namespace, id.namespace)

    def _touch_namespace(self, namespace: NsId) -> None:
        self.agenda.touch(namespace, namespace)
        for ref in self.namespaces.leading_to(namespace):
            self._touch(*self.namespaces.names_in(ref))

    def _catch_up(self, namespace: NsId) -> None:
        self.behind.discard(namespace)
        self.agenda.release(namespace)

    def _give_up_on(self, namespace: NsId, problem: str) -> None:
        self.agenda.release(namespace)
        if namespace in self._links or not self.namespaces.leading_to(namespace):
            return
        if self.unreachable.get(namespace) != problem:
            self.unreachable[namespace] = problem
            self._touch_namespace(namespace)

    def _see_host_routes(self, routes: HostRoutes, namespaces: frozenset[NsId]) -> None:
        before = self._host_routes
        if routes.uplinks != before.uplinks or routes.problems.get(self.own) != before.problems.get(self.own):
            interfaces = self.graph.interfaces.values()
            self._touch(*(each.name for each in interfaces if each.kind.changes_link(each)))
            self._touch(*(each.name for each in interfaces if each.kind.made_as(each)))
        for namespace in self.host:
            if routes.problems.get(namespace) != before.problems.get(namespace):
                self._touch_namespace(namespace)
        ours = self._with_own_addresses(self.host)
        links = (link for id in self.host for link in self._links.get(id, {}).values())
        self._host_routes = routes.with_links((link for link in links if link.id not in ours), ours=ours)
        self.routes_known_of = namespaces
        self.agenda.release(HOST_ROUTES)

    # What a round notes

    def touch(self, names: Iterable[Name] = (), namespaces: Iterable[NsId] = ()) -> None:
        """Have interfaces, and namespaces that may be removed, planned anew though nothing about them has changed."""
        self._touch(*names)
        for namespace in namespaces:
            self.agenda.touch(namespace, namespace)

    def touch_nodes(self, nodes: Iterable[Node]) -> None:
        """Have interfaces, links and namespaces planned anew."""
        for node in nodes:
            if isinstance(node, str):
                self._touch(node)
            elif isinstance(node, LinkId):
                self._touch_link(node)
            else:
                self.agenda.touch(node, node)

    def touch_everything(self) -> None:
        """Have everything planned anew."""
        self._touch(*self.declarations.declared)
        for id in self.marks:
            self._touch_link(id)
        for namespace in self._links:
            self.agenda.touch(namespace, namespace)

    def remember(self, remembered: Remembered) -> None:
        """Note what the agent remembers from now on."""
        if remembered is not self.remembered:
            self.remembered = remembered
            for id in self.marks.set_adoptions(remembered.adoptions):
                if (link := self.link(id)) is not None:
                    self.graph.set_link(id, link)
            self.graph.set_adoptions(remembered.adoptions)

    def note(self, planned: Plan) -> None:
        """Note what a plan has found out that later ones build upon."""
        self.remember(self.remembered.with_learnt(planned.learnt).with_cookies(self._cookies))

    def release(self, ref: NamespaceRef) -> None:
        """Forget where a reference leads that nobody makes any more.

        Its namespace is listened to until nothing of ours is left in it.
        """
        id, path = self.namespace(ref), self.namespaces.path(ref)
        self._see_namespace(ref, None)
        if id is not None and id in self._links and not self.namespaces.leading_to(id):
            self.namespaces.drain(id, path)

    def take_changed(self) -> Iterable[Name]:
        """Return the names whose declaration changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    # What is asked

    @property
    def synced(self) -> bool:
        """True once every configured source has said what it has at least once."""
        return self.declarations.synced

    @property
    def declared(self) -> dict[Name, Declaration]:
        """What counts as declared, by name."""
        return self.declarations.declared

    def desired(self) -> Desired:
        """Return what is to be; a view, valid until the next event is folded."""
        return Desired(self.graph.interfaces, self._held, self.declarations.complete, refused=self.quota.refused)

    def observed(self) -> Observed:
        """Return what is; a view, valid until the next event is folded."""
        return Observed(
            own=self.own,
            namespaces=self.namespaces.ids,
            links=self._links,
            unreachable=self.unreachable,
            absent=self.namespaces.absent,
            ipv6_newest_first=self.ipv6_newest_first,
            host=self.host,
            host_routes=self._host_routes,
            remembered=self.remembered,
        )

    def remark(self, ref: NamespaceRef) -> str:
        """Return what is to be said of a namespace that others do not see, though it is made to be seen."""
        if not self.secluded or ref.type is not NamespaceType.NAMED or (id := self.namespace(ref)) is None:
            return ""
        made = self._owner.made_namespace(self._links.get(id, {}).get(LOOPBACK_IFINDEX))
        return f"only the agent sees its namespace: {self.secluded}" if made else ""

    def namespace(self, ref: NamespaceRef) -> NsId | None:
        """Return the namespace that a reference leads to."""
        return self.namespaces.ids.get(ref)

    def link_named(self, namespace: NsId, host_name: HostName) -> Link | None:
        """Return the link with this host name."""
        id = self.graph.link_at(namespace, host_name)
        return None if id is None else self.link(id)

    def link(self, id: LinkId) -> Link | None:
        """Return a link, ``None`` if there is none or its namespace is not listened to."""
        return self._links.get(id.namespace, {}).get(id.ifindex)

    def attached_of_host(self) -> tuple[frozenset[NsId], AbstractSet[LinkId]]:
        """Return the namespaces of the host that are listened to, and links there whose addresses are the agent's."""
        attached = self.host & self._links.keys()
        return attached, self._with_own_addresses(attached)

    def _with_own_addresses(self, namespaces: AbstractSet[NsId]) -> AbstractSet[LinkId]:
        """Return the links that the agent made or adopted, but for those whose addresses are left to others."""
        link_only = (name for name, interface in self.graph.interfaces.items() if interface.link_only)
        left = {id for name in link_only for id in self.graph.links_of(name)}
        return self.marks.made_in(namespaces) - left

    def is_attached(self, namespace: NsId) -> bool:
        """Tell whether a namespace is listened to."""
        return namespace in self._links

    @property
    def attached_count(self) -> int:
        """How many namespaces are listened to."""
        return len(self._links)

    def attached(self) -> set[NsId]:
        """Return the namespaces that are listened to."""
        return set(self._links)

    def _place(self, interface: Interface) -> Place:
        return self.namespaces.place(interface.namespace)
