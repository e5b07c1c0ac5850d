"""How the host is connected, and which of its links have addresses of the agent's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from ifagent.core.graph import Graph
from ifagent.core.host_routes import HostRoutes
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.resources import interface_key
from ifagent.core.touching import Touching


class HostView:
    """``namespaces`` are those of the host: the agent's own and that of the first process.

    ``routes`` is how it is connected; ``known_of`` are the namespaces whose routes were listed since something was
    planned last.
    """

    def __init__(
        self,
        own: NsId,
        links: Mapping[NsId, Mapping[int, Link]],
        graph: Graph,
        marks: MarkedLinks,
        touching: Touching,
    ) -> None:
        self.namespaces: frozenset[NsId] = frozenset({own})
        self.routes: HostRoutes = HostRoutes()
        self.known_of: frozenset[NsId] = frozenset()
        self._own = own
        self._links = links
        self._graph = graph
        self._marks = marks
        self._touching = touching

    def attached(self) -> tuple[frozenset[NsId], AbstractSet[LinkId]]:
        """Return the namespaces of the host that are listened to, and links there whose addresses are the agent's."""
        attached = self.namespaces & self._links.keys()
        return attached, self._with_own_addresses(attached)

    def set_routes(self, routes: HostRoutes, namespaces: frozenset[NsId]) -> None:
        """Take note of the routes as these namespaces have them; have planned what that changes."""
        before, own = self.routes, self._own
        if routes.uplinks != before.uplinks or routes.problems.get(own) != before.problems.get(own):
            interfaces = self._graph.interfaces.values()
            self._touching.interfaces(each.name for each in interfaces if each.kind.changes_link(each))
            self._touching.interfaces(each.name for each in interfaces if each.kind.made_as(each))
        for namespace in self.namespaces:
            if routes.problems.get(namespace) != before.problems.get(namespace):
                self._touching.all_in(namespace)
        ours = self._with_own_addresses(self.namespaces)
        links = (link for id in self.namespaces for link in self._links.get(id, {}).values())
        self.routes = routes.with_links((link for link in links if link.id not in ours), ours=ours)
        self.known_of = namespaces

    def _with_own_addresses(self, namespaces: AbstractSet[NsId]) -> AbstractSet[LinkId]:
        """Return the links that the agent made or adopted, but for those whose addresses are left to others."""
        link_only = (name for name, interface in self._graph.interfaces.items() if interface.link_only)
        left = {id for name in link_only for id in self._graph.links_of(interface_key(name))}
        return self._marks.made_in(namespaces) - left
