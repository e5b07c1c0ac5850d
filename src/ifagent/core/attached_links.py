"""The links of all namespaces that are listened to, and what has to be planned when they change. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ifagent.core.graph import Graph
from ifagent.core.in_force import InForce
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.namespaces import Namespaces
from ifagent.core.touching import Touching


class AttachedLinks:
    """``by_namespace`` has every link of every namespace that is listened to, by ifindex.

    ``marks`` and ``graph`` are told of every change. ``on_gone`` is called for a link that was there and is no more.
    """

    def __init__(
        self,
        graph: Graph,
        marks: MarkedLinks,
        namespaces: Namespaces,
        touching: Touching,
        in_force: InForce,
        *,
        on_gone: Callable[[LinkId], None],
    ) -> None:
        self.by_namespace: dict[NsId, dict[int, Link]] = {}
        self._graph = graph
        self._marks = marks
        self._namespaces = namespaces
        self._touching = touching
        self._in_force = in_force
        self._on_gone = on_gone

    def link(self, id: LinkId) -> Link | None:
        """Return a link, ``None`` if there is none or its namespace is not listened to."""
        return self.by_namespace.get(id.namespace, {}).get(id.ifindex)

    def set_listing(self, namespace: NsId, links: Mapping[int, Link] | None) -> None:
        """Take note of all links of a namespace, ``None`` if it is not listened to any more."""
        before = self.by_namespace.get(namespace)
        if (before is None) != (links is None):
            self._namespaces.doubtful.add(namespace)
            self._touching.all_in(namespace)
        after = {ifindex: link.with_contested((before or {}).get(ifindex)) for ifindex, link in (links or {}).items()}
        for ifindex in (before or {}).keys() | after.keys():
            self._change((before or {}).get(ifindex), after.get(ifindex))
        if links is None:
            self.by_namespace.pop(namespace, None)
        else:
            self.by_namespace[namespace] = after

    def set_link(self, id: LinkId, link: Link | None) -> None:
        """Take note of one link, ``None`` if it is gone."""
        links = self.by_namespace.get(id.namespace)
        if links is None:
            return  # a late word from a namespace that is no longer listened to
        before = links.get(id.ifindex)
        if link is None:
            links.pop(id.ifindex, None)
        else:
            link = links[id.ifindex] = link.with_contested(before)
        self._change(before, link)

    def _change(self, before: Link | None, after: Link | None) -> None:
        link = after or before
        if link is None or before is after or before == after:
            return
        id, graph, marked = link.id, self._graph, self._marks.generation
        concerned = before is not None and graph.concerns_interfaces(before)
        nodes = graph.nodes(id)
        if after is None:
            self._on_gone(id)
        around = list(graph.neighbours(id)) if concerned else []
        self._marks.set_link(id, after)
        graph.set_link(id, after)
        if graph.nodes(id) != nodes:
            self._touching.nodes(around)
        if after is not None:
            self._in_force.prefer_what_has_its_link(after)
        if concerned or (after is not None and graph.concerns_interfaces(after)):
            self._touching.link(id)
        if self._marks.generation != marked:
            self._namespaces.doubtful.add(id.namespace)
        if (before is None or after is None) and self._marks.is_in(id.namespace):
            # With its last link, a namespace may have to go.
            self._touching.namespace(id.namespace)
