"""Having things planned: resources, links, and namespaces that may be removed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ifagent.core.agenda import Agenda, Node
from ifagent.core.graph import Graph
from ifagent.core.link import LinkId, NsId
from ifagent.core.names import Name
from ifagent.core.namespaces import Namespaces
from ifagent.core.resources import Key, interface_key


class Touching:
    """Puts what was touched on the agenda, each under the place that it is about."""

    def __init__(self, agenda: Agenda, graph: Graph, namespaces: Namespaces) -> None:
        self._agenda = agenda
        self._graph = graph
        self._namespaces = namespaces

    def keys(self, keys: Iterable[Key], *, anew: bool = False) -> None:
        """Have resources planned; ``anew`` also those that wait for something."""
        for key in keys:
            interface = self._graph.interfaces.get(key.name)
            place = None if interface is None else self._namespaces.place(interface.namespace)
            self._agenda.touch(key, place, anew=anew)

    def interfaces(self, names: Iterable[Name], *, anew: bool = False) -> None:
        """Have interfaces planned; ``anew`` also those that wait for something."""
        self.keys(map(interface_key, names), anew=anew)

    def link(self, id: LinkId) -> None:
        """Have a link planned, and what it belongs to."""
        self._agenda.touch(id, id.namespace)

    def namespace(self, namespace: NsId) -> None:
        """Have it planned whether a namespace is to be removed."""
        self._agenda.touch(namespace, namespace)

    def nodes(self, nodes: Iterable[Node]) -> None:
        """Have any of these planned."""
        for node in nodes:
            if isinstance(node, Key):
                self.keys((node,))
            elif isinstance(node, LinkId):
                self.link(node)
            else:
                self.namespace(node)

    def all_in(self, namespace: NsId) -> None:
        """Have a namespace planned, and every interface that refers to it."""
        self.namespace(namespace)
        for ref in self._namespaces.leading_to(namespace):
            self.interfaces(self._namespaces.names_in(ref))

    def around(self, name: Name) -> None:
        """Have whatever an interface has to do with planned: that may be no more, or another one from now on."""
        self.nodes(self._graph.neighbours(interface_key(name)))
        place = self._namespaces.place(self._graph.interfaces[name].namespace)
        if isinstance(place, int):
            self.namespace(place)
