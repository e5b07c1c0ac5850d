"""The one picture of the world: what is declared, which namespaces exist, which links they have.

Only the agent's loop writes here, by folding events. What an event has changed is touched until it is planned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import assert_never

from ifagent.core.agenda import Agenda
from ifagent.core.attached_links import AttachedLinks
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
from ifagent.core.host_view import HostView
from ifagent.core.in_force import InForce
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.core.namespaces import Namespaces
from ifagent.core.observed import Absence, Observed
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.policy import Policy
from ifagent.core.quota import Quota
from ifagent.core.remembered import Remembered
from ifagent.core.resources import Key
from ifagent.core.touching import Touching

HOST_ROUTES = "host routes"
"""What interfaces wait for that may take links or traffic of the host's: how that is connected."""

DECIDE = 500
"""Most declarations that are looked at in one go, about 5 ms of work."""


class Index:
    """Folds events; answers look-ups.

    ``sources`` are the names of the configured sources, see :class:`Declarations`. ``owner`` tells what is ours.
    ``policy`` says how many interfaces there may be. ``secluded`` says why nobody else sees the named namespaces that
    the agent makes, empty if they are seen.

    ``behind`` are the namespaces of which what is known is old, ``unreachable`` those that cannot be entered, and why.
    ``current`` are those that were listed since something was planned last. ``changed`` are the resources of which
    something else is declared.
    """

    def __init__(self, own: NsId, sources: Sequence[str], owner: Owner, policy: Policy | None = None) -> None:
        self.own = own
        self.marks: MarkedLinks = MarkedLinks(owner)
        self.namespaces: Namespaces = Namespaces(own, self.marks.is_in)
        self.graph: Graph = Graph(self.namespaces, self.marks)
        self.declarations: Declarations = Declarations(sources)
        self.agenda: Agenda = Agenda()
        self.touching: Touching = Touching(self.agenda, self.graph, self.namespaces)
        self.quota: Quota = Quota(policy or Policy())
        self.in_force: InForce = InForce(self.graph, self.namespaces, self.marks, self.touching, self.quota)
        self.links: AttachedLinks = AttachedLinks(
            self.graph, self.marks, self.namespaces, self.touching, self.in_force, on_gone=self._forget_link
        )
        self.host: HostView = HostView(own, self.links.by_namespace, self.graph, self.marks, self.touching)
        self.changed: set[Key] = set()
        self.ipv6_newest_first: bool = True
        self.secluded: str = ""
        self.behind: set[NsId] = set()
        self.unreachable: dict[NsId, str] = {}
        self.current: set[NsId] = set()
        self.remembered: Remembered = Remembered()
        self._owner = owner
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
                self.links.set_link(event.id, event.link)
            case NamespaceBehind():
                (self.behind.add if event.behind else self._catch_up)(event.namespace)
            case NamespaceUnreachable():
                self._give_up_on(event.namespace, event.problem)
            case HostRoutesSeen():
                self.host.set_routes(event.routes, event.namespaces)
                self.agenda.release(HOST_ROUTES)
            case _:
                assert_never(event)

    @property
    def unsettled(self) -> bool:
        """True while it is not decided what of that which was said counts."""
        return self.declarations.undecided

    def settle(self) -> None:
        """Decide about some of the declarations that were said."""
        for key, declaration in self.declarations.decide(DECIDE):
            self.changed.add(key)
            self.in_force.set_declaration(key, declaration)

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
        self.touching.interfaces(names, anew=True)
        if before is not None:
            for name in names:
                self.touching.around(name)
        self.namespaces.lead(ref, id, path, absence)
        for name in names:
            self.graph.update_interface(name)
        for namespace in (before, id):
            if namespace is not None:
                self.touching.namespace(namespace)
                self.agenda.release(namespace)
        if before is not None and not self.namespaces.leading_to(before):
            self.unreachable.pop(before, None)

    def _list_links(self, namespace: NsId, links: Mapping[int, Link] | None) -> None:
        self.links.set_listing(namespace, links)
        self.agenda.release(namespace)
        if links is None:
            self._cookies.pop(namespace, None)
            self._catch_up(namespace)
            return
        self.namespaces.note_listed(namespace)
        self.current.add(namespace)
        if self.unreachable.pop(namespace, None) is not None:
            self.touching.all_in(namespace)

    def _forget_link(self, id: LinkId) -> None:
        self.remember(self.remembered.without_link(id, own=self.own))

    def _catch_up(self, namespace: NsId) -> None:
        self.behind.discard(namespace)
        self.agenda.release(namespace)

    def _give_up_on(self, namespace: NsId, problem: str) -> None:
        self.agenda.release(namespace)
        if namespace in self.links.by_namespace or not self.namespaces.leading_to(namespace):
            return
        if self.unreachable.get(namespace) != problem:
            self.unreachable[namespace] = problem
            self.touching.all_in(namespace)

    # What a round notes

    def touch_everything(self) -> None:
        """Have everything planned anew."""
        self.touching.keys(self.declarations.declared)
        for id in self.marks:
            self.touching.link(id)
        for namespace in self.links.by_namespace:
            self.touching.namespace(namespace)

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
        if id is not None and id in self.links.by_namespace and not self.namespaces.leading_to(id):
            self.namespaces.drain(id, path)

    def take_changed(self) -> Collection[Key]:
        """Return the resources whose declaration changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    # What is asked

    @property
    def synced(self) -> bool:
        """True once every configured source has said what it has at least once."""
        return self.declarations.synced

    @property
    def declared(self) -> dict[Key, Declaration]:
        """What counts as declared."""
        return self.declarations.declared

    def is_about_to_change(self, key: Key) -> bool:
        """Tell whether a resource is declared otherwise since it was planned, or is planned again in any case."""
        return key in self.changed or self.agenda.will_be_published_later(key)

    def desired(self) -> Desired:
        """Return what is to be; a view, valid until the next event is folded."""
        return Desired(
            self.graph.interfaces,
            self.in_force.held,
            self.declarations.complete,
            refused=self.quota.refused,
            order=self.graph.order,
        )

    def observed(self) -> Observed:
        """Return what is; a view, valid until the next event is folded."""
        return Observed(
            own=self.own,
            namespaces=self.namespaces.ids,
            links=self.links.by_namespace,
            unreachable=self.unreachable,
            absent=self.namespaces.absent,
            ipv6_newest_first=self.ipv6_newest_first,
            host=self.host.namespaces,
            host_routes=self.host.routes,
            remembered=self.remembered,
        )

    def remark(self, ref: NamespaceRef) -> str:
        """Return what is to be said of a namespace that others do not see, though it is made to be seen."""
        if not self.secluded or ref.type is not NamespaceType.NAMED or (id := self.namespace(ref)) is None:
            return ""
        made = self._owner.made_namespace(self.links.by_namespace.get(id, {}).get(LOOPBACK_IFINDEX))
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
        return self.links.link(id)

    def is_attached(self, namespace: NsId) -> bool:
        """Tell whether a namespace is listened to."""
        return namespace in self.links.by_namespace

    @property
    def attached_count(self) -> int:
        """How many namespaces are listened to."""
        return len(self.links.by_namespace)

    def attached(self) -> set[NsId]:
        """Return the namespaces that are listened to."""
        return set(self.links.by_namespace)
