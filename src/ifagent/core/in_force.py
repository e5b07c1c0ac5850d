"""Which interfaces are in force: of each the last valid value, as far as the limits allow. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ifagent.core.events import Declaration
from ifagent.core.graph import Graph
from ifagent.core.interface import Interface
from ifagent.core.link import Link
from ifagent.core.marked_links import MarkedLinks
from ifagent.core.names import Name
from ifagent.core.namespaces import Namespaces
from ifagent.core.quota import Quota
from ifagent.core.resources import Key, interface_key
from ifagent.core.touching import Touching


class InForce:
    """Puts interfaces in force, in ``graph`` and ``namespaces``, and has planned what that changes.

    ``held`` are names whose value is invalid and whose last valid value is not known.
    """

    def __init__(
        self, graph: Graph, namespaces: Namespaces, marks: MarkedLinks, touching: Touching, quota: Quota
    ) -> None:
        self.held: set[Name] = set()
        self._graph = graph
        self._namespaces = namespaces
        self._marks = marks
        self._touching = touching
        self._quota = quota

    def set_declaration(self, key: Key, declaration: Declaration | None) -> None:
        """Have something else count as declared."""
        name = key.name
        before = self._graph.interfaces.get(name) or self._quota.refused_interface(name)
        if declaration is None:
            self.held.discard(name)
            if before is not None:
                self._admit(self._quota.redeclare(name, None))
        # An invalid value leaves the last valid one in force.
        elif declaration.interface is not None:
            self.held.discard(name)
            self._admit(self._quota.redeclare(name, declaration.interface))
        elif before is None:
            self.held.add(name)
        self._touching.keys((key,), anew=True)

    def prefer_what_has_its_link(self, link: Link) -> None:
        """Let interfaces that have been there before the agent was started in for others that have not."""
        if not self._quota.refused:
            return
        for name in self._marks.names_on(link):
            interface = self._quota.refused_interface(name)
            if interface is not None and link.id.namespace == self._namespaces.place(interface.namespace):
                self._admit(self._quota.prefer(name, self._has_link))

    def _has_link(self, name: Name) -> bool:
        return bool(self._graph.links_of(interface_key(name)))

    def _admit(self, in_force: Mapping[Name, Interface | None]) -> None:
        """Have other interfaces in force; what the kernel has of one that is beyond the limits stays as it is."""
        for name, after in in_force.items():
            before = self._graph.interfaces.get(name)
            if before is not None:
                self._touching.around(name)
            self._namespaces.set_interface(name, before, after)
            self._graph.set_interface(name, after)
            self._touching.interfaces((name,), anew=True)
