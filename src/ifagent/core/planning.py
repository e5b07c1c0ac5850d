"""What is planned next, and what has to wait: for something to be known, or for what is under way. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ifagent.core.agenda import Node
from ifagent.core.host_routes import given
from ifagent.core.index import HOST_ROUTES, Index
from ifagent.core.interface import Interface
from ifagent.core.link import LinkId, NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.ownership import Owner
from ifagent.core.policy import Policy
from ifagent.core.resources import Key, interface_key
from ifagent.core.scope import Scope, ScopeFinder


class Planning:
    """Hands out what is to be planned of what was touched in ``index``. Used by rounds only.

    Nothing is planned that has to do with what is under way (:meth:`begin`), with a namespace that is being listed or,
    where an interface may take links or traffic of the host's, before the host's routes are known.
    """

    def __init__(self, index: Index, owner: Owner, policy: Policy) -> None:
        self._index = index
        self._owner = owner
        self._policy = policy
        self._under_way: dict[Node | NamespaceRef, Hashable] = {}

    def begin(self, work: Hashable, keys: Iterable[Key], others: Iterable[Node | NamespaceRef]) -> None:
        """Have nothing planned that has to do with these until :meth:`end`: something is being done for them."""
        for node in (*keys, *others):
            self._under_way[node] = work
        for key in keys:
            self._index.agenda.park(key, work)

    def end(self, work: Hashable, keys: Iterable[Key], others: Iterable[Node | NamespaceRef]) -> None:
        """Have interfaces planned next for which something has been done."""
        for node in (*keys, *others):
            if self._under_way.get(node) is work:
                del self._under_way[node]
        self._index.agenda.release(work, next=keys)

    def await_listing(self, keys: Iterable[Key], namespace: NsId) -> None:
        """Have interfaces planned as soon as a namespace has been listed again, and not before."""
        for key in keys:
            if self._index.agenda.put_off(key):
                self._index.agenda.park(key, namespace)

    def slow_down(self, keys: Iterable[Key]) -> None:
        """Have interfaces planned as their turn comes that would be next."""
        for key in keys:
            if self._index.agenda.put_off(key):
                self._index.touching.keys((key,))

    def take_scope(self, now: float, most: int) -> Scope:
        """Return what to plan now of what was touched, and what hangs together with it: about ``most`` links and such.

        What is known of a namespace that is ``behind`` counts once for each listing.
        """
        agenda, held = self._index.agenda, frozenset(self._index.behind - self._index.current)
        finder = ScopeFinder(
            self._index.desired(),
            self._index.observed(),
            self._index.graph,
            self._index.namespaces,
            self._owner,
            self._waits,
        )
        for node in agenda.take(now):
            place = self._place_of(node)
            waits = place if place in held else finder.add(node)
            if waits is not None:
                agenda.park(node, waits)
            if finder.size >= most:
                break
        agenda.planned((n for n in finder.nodes() if not held or self._place_of(n) not in held), now)
        self._index.current.clear()
        self._index.host.known_of = frozenset()
        return finder.scope(held)

    def _waits(self, node: Node) -> Hashable | None:
        """Return what has to be known, or to be done, before anything can be decided about something."""
        if (work := self._under_way.get(node)) is not None:
            return work
        interface = self._index.graph.interfaces.get(node.name) if isinstance(node, Key) else None
        if interface is None:
            return None
        place = self._index.namespaces.place(interface.namespace)
        if isinstance(place, NamespaceRef):
            return self._under_way.get(place)
        if not self._index.is_attached(place) and place not in self._index.unreachable:
            return place
        of = {n for n in {self._index.own, place} & self._index.host.namespaces if self._index.is_attached(n)}
        if not of <= self._index.host.known_of and self._may_take_from_the_host(interface, place):
            return HOST_ROUTES
        return None

    def _may_take_from_the_host(self, interface: Interface, place: NsId | NamespaceRef) -> bool:
        """Tell whether it matters for an interface how the host is connected."""
        index, kind = self._index, interface.kind
        if kind.changes_link(interface) and self._policy.asks_for_uplinks:
            return True
        links = [
            link for id in index.graph.links_of(interface_key(interface.name)) if (link := index.link(id)) is not None
        ]
        if (made_as := kind.made_as(interface)) and not links and index.graph.link_at(index.own, made_as) is not None:
            return True
        has = {address for link in links if link.id.namespace == place for address in given(link)}
        return place in index.host.namespaces and not interface.link_only and not has.issuperset(interface.ip_addresses)

    def _place_of(self, node: Node) -> NsId | None:
        if isinstance(node, LinkId):
            return node.namespace
        if not isinstance(node, Key):
            return None
        interface = self._index.graph.interfaces.get(node.name)
        place = None if interface is None else self._index.namespaces.place(interface.namespace)
        return None if isinstance(place, NamespaceRef) else place
