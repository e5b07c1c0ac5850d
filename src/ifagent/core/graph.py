"""Who has to do with whom: interfaces and links, and what they share. Pure.

An interface and a link are *neighbours* if both name the same thing, such as a place or the other end of a pair:

=========== ==============================================================================================
an          itself; the interfaces that its kind refers to; the place that it wants; the place where another
interface   program makes its link; what is remembered of its adoption
a link      itself; its peer and its lower; its places, one for each of its names; the interfaces that its
            mark names; the master of a TAP, which is remembered when that is adopted, and of what has a mark
=========== ==============================================================================================

Whatever hangs together by neighbours is planned together, and nothing else is: a round costs what a change concerns.
What a rule of a kind or of the planner looks at has to be a neighbour, or it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ifagent.core.interface import Interface
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.names import HostName, Name
from ifagent.core.namespaces import Namespaces
from ifagent.core.operation import Place
from ifagent.core.remembered import Adoption
from ifagent.core.resources import Key, interface_key

Vertex = Key | LinkId
"""What the graph connects: interfaces, and links by where they are."""

Node = Vertex | tuple[Place, HostName]
"""What two of them can have in common."""

FEW = 8
"""Most vertices at a node that are kept in a tuple, which takes the least memory."""


class Graph:
    """Knows what every interface in force, and every link, has in common with others.

    ``namespaces`` tells where interfaces' references lead, ``marks`` which interfaces links' marks name; both have to
    know of a change before the graph does. ``order`` tells which interface has been in force for longer: the smaller
    its number, the longer.
    """

    def __init__(self, namespaces: Namespaces, marks: MarkedLinks) -> None:
        self.interfaces: dict[Name, Interface] = {}
        self.order: dict[Name, int] = {}
        self._count = 0
        self._own = namespaces.own
        self._namespaces = namespaces
        self._marks = marks
        self._adoptions: Mapping[Name, Adoption] = {}
        self._host_names: dict[LinkId, HostName] = {}
        self._nodes: dict[Vertex, tuple[Node, ...]] = {}
        self._vertices: dict[Node, tuple[Vertex, ...] | dict[Vertex, None]] = {}

    # What is told

    def set_interface(self, name: Name, interface: Interface | None) -> None:
        """Have another interface in force under a name, ``None`` for none."""
        if interface is None:
            self.interfaces.pop(name, None)
            self.order.pop(name, None)
        else:
            self.interfaces[name] = interface
            if name not in self.order:
                self._count += 1
                self.order[name] = self._count
        self.update_interface(name)

    def update_interface(self, name: Name) -> None:
        """Take note that the reference of an interface leads to another namespace, or that its adoption changed."""
        key = interface_key(name)
        self._put(key, self._nodes_of_interface(key))

    def set_link(self, id: LinkId, link: Link | None) -> None:
        """Take note of what a link is like, ``None`` if it is gone."""
        if link is None:
            self._host_names.pop(id, None)
        else:
            self._host_names[id] = link.host_name
        self._put(id, () if link is None else self._nodes_of_link(link))

    def set_adoptions(self, adoptions: Mapping[Name, Adoption]) -> None:
        """Take note of what is remembered of adopted links."""
        before, self._adoptions = self._adoptions, adoptions
        for name in before.keys() | adoptions.keys():
            if before.get(name) != adoptions.get(name):
                self.update_interface(name)

    def _nodes_of_interface(self, key: Key) -> tuple[Node, ...]:
        nodes, name = list[Node](), key.name
        if (interface := self.interfaces.get(name)) is not None:
            nodes += (interface_key(reference.to) for reference in interface.references)
            nodes.append((self._namespaces.place(interface.namespace), interface.host_name))
            if made_as := interface.kind.made_as(interface):
                nodes.append((self._own, made_as))
        if (adoption := self._adoptions.get(name)) is not None:
            nodes.append((self._own, adoption.host_name))
            if adoption.link is not None:
                nodes.append(adoption.link)
            if adoption.master:
                nodes.append(LinkId(self._own, adoption.master))
        return tuple(dict.fromkeys((key, *nodes))) if nodes else ()

    def _nodes_of_link(self, link: Link) -> tuple[Node, ...]:
        id = link.id
        nodes: list[Node] = [id, *((id.namespace, name) for name in link.names)]
        nodes += (other for other in (link.peer, link.lower) if other is not None)
        marked = tuple(map(interface_key, self._marks.names_on(link)))
        nodes += marked
        if link.master and (marked or link.kind == "tun"):
            nodes.append(LinkId(id.namespace, link.master))
        if self._marks.is_adopted(id):  # given back, it keeps its name where that is free
            nodes.append((self._own, link.host_name))
        return tuple(dict.fromkeys(nodes))

    def _put(self, vertex: Vertex, nodes: tuple[Node, ...]) -> None:
        before = self._nodes.get(vertex, ())
        if before == nodes:
            return
        for node in before:
            if node not in nodes:
                self._discard(node, vertex)
        for node in nodes:
            if node not in before:
                self._add(node, vertex)
        if nodes:
            self._nodes[vertex] = nodes
        else:
            del self._nodes[vertex]

    def _add(self, node: Node, vertex: Vertex) -> None:
        vertices = self._vertices.get(node, ())
        if isinstance(vertices, dict):
            vertices[vertex] = None
        elif len(vertices) < FEW:
            self._vertices[node] = (*vertices, vertex)
        else:
            self._vertices[node] = dict.fromkeys((*vertices, vertex))

    def _discard(self, node: Node, vertex: Vertex) -> None:
        vertices = self._vertices[node]
        if isinstance(vertices, dict):
            del vertices[vertex]
        else:
            self._vertices[node] = vertices = tuple(other for other in vertices if other != vertex)
        if not vertices:
            del self._vertices[node]

    # What is asked

    def nodes(self, vertex: Vertex) -> tuple[Node, ...]:
        """Return what an interface or a link names."""
        return self._nodes.get(vertex, (vertex,))

    def neighbours(self, vertex: Vertex) -> Iterator[Vertex]:
        """Yield what has something in common with an interface or a link; not all of it exists, some comes twice."""
        for node in self.nodes(vertex):
            if isinstance(node, Key | LinkId):
                yield node
            yield from self._vertices.get(node, ())

    def concerns_interfaces(self, link: Link) -> bool:
        """Tell whether an interface has to do with a link: is its neighbour, or has its mark on its peer or lower."""
        ids = [id for id in (link.id, link.peer, link.lower) if id is not None]
        if any(self._marks.is_marked(id) for id in ids):
            return True
        nodes = self._nodes.get(link.id) or self._nodes_of_link(link)
        return any(isinstance(vertex, Key) for node in nodes for vertex in self._vertices.get(node, ()))

    def links_of(self, key: Key) -> list[LinkId]:
        """Return the links whose mark names an interface, and the one that it is remembered to have adopted."""
        return [vertex for vertex in self._vertices.get(key, ()) if isinstance(vertex, LinkId)]

    def referring_to(self, key: Key) -> list[Key]:
        """Return the interfaces that refer to one."""
        return [vertex for vertex in self._vertices.get(key, ()) if isinstance(vertex, Key) and vertex != key]

    def link_at(self, namespace: NsId, host_name: HostName) -> LinkId | None:
        """Return the link with this host name; of two that are told to have it at a moment, the one told of last."""
        found: LinkId | None = None
        for vertex in self._vertices.get((namespace, host_name), ()):
            if not isinstance(vertex, LinkId) or vertex.namespace != namespace:
                continue
            if self._host_names.get(vertex) == host_name:
                found = vertex
        return found
