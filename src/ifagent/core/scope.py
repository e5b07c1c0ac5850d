"""What has to be planned together after something has changed.

That is everything that hangs together (:mod:`ifagent.core.graph`): the other end of a pair, whoever names it as a peer,
who wants or has its place, and whatever is in a namespace that is about to be removed. What does not would be planned
just as before, so it is left out, and a change costs what it concerns and not what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

from ifagent.core.agenda import Node
from ifagent.core.desired import Desired
from ifagent.core.graph import Graph
from ifagent.core.interface import Interface
from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.namespaces import Namespaces
from ifagent.core.observed import Observed
from ifagent.core.operation import Place
from ifagent.core.ownership import Owner
from ifagent.core.remembered import Adoption
from ifagent.core.resources import Key

NEARLY_EMPTY = 64
"""Most links of a namespace that are looked at together to find out whether it is to be removed with them."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What one planning looks at; ``keys`` are all resources that it decides about, declared or not.

    ``namespaces`` are those that may be removed, ``nodes`` is everything that is planned. Of ``held`` namespaces too
    little is known to do anything in them.
    """

    keys: frozenset[Key]
    namespaces: frozenset[NsId]
    desired: Desired
    observed: Observed
    nodes: frozenset[Node]
    held: frozenset[NsId] = frozenset()

    def __bool__(self) -> bool:
        # A link of ours without a name, left over by a kill or a refusal, is no resource's.
        return bool(self.keys or self.namespaces) or any(isinstance(node, LinkId) for node in self.nodes)


class ScopeFinder:
    """Finds what hangs together with what was touched; used once."""

    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        graph: Graph,
        namespaces: Namespaces,
        owner: Owner,
        waits: Callable[[Node], Hashable | None],
    ) -> None:
        """Begin with none; ``waits`` tells what has to be known, or to be done, before anything can be decided."""
        self._waits = waits
        self._desired = desired
        self._observed = observed
        self._graph = graph
        self._namespaces = namespaces
        self._owner = owner
        self._keys: set[Key] = set()
        self._links: set[LinkId] = set()
        self._emptied: set[NsId] = set()
        self._touched: set[NsId] = set()

    @property
    def size(self) -> int:
        """How many interfaces and links there are to plan."""
        return len(self._keys) + len(self._links)

    def nodes(self) -> Iterator[Node]:
        """Yield everything that is planned."""
        yield from self._keys
        yield from self._links
        yield from self._touched

    def add(self, start: Node) -> Hashable | None:
        """Add what hangs together with what was touched, unless some of it waits for something: return for what."""
        keys, links = set[Key](), set[LinkId]()
        waiting: list[Key | LinkId] = []
        place: NsId | None = None
        if isinstance(start, Key):
            waiting.append(start)
        elif isinstance(start, LinkId):
            waiting.append(start)
            place = start.namespace
        else:
            place = start
            if (what := self._waits(start)) is not None:
                return what
        emptied = place is not None and self._may_go(place)
        if place is not None and emptied:
            waiting += [LinkId(place, ifindex) for ifindex in self._observed.links[place]]
        while waiting:
            node = waiting.pop()
            if node in self._links or node in self._keys or node in links or node in keys:
                continue
            (links if isinstance(node, LinkId) else keys).add(node)  # type: ignore[arg-type] # which of the two it is
            if (what := self._waits(node)) is not None:
                return what
            waiting += self._graph.neighbours(node)
        self._keys |= keys
        self._links |= links
        if place is not None:
            self._touched.add(place)
            if emptied:
                self._emptied.add(place)
        return None

    def _may_go(self, namespace: NsId) -> bool:
        """Tell whether a namespace is one to be removed as soon as it is empty, and nearly is."""
        links = self._observed.links.get(namespace)
        if links is None or len(links) > NEARLY_EMPTY or namespace == self._observed.own:
            return False
        return not self._namespaces.is_referenced(namespace) and self._owner.made_namespace(links.get(LOOPBACK_IFINDEX))

    def scope(self, held: frozenset[NsId]) -> Scope:
        """Return what to plan; nothing is decided about interfaces in ``held`` namespaces."""
        names = {key.name for key in self._keys}
        found = {name: self._desired.interfaces.get(name) for name in names}
        interfaces = {name: interface for name, interface in found.items() if interface is not None}
        refs = {interface.namespace for interface in interfaces.values()}
        refs |= {ref for id in self._emptied for ref in self._namespaces.leading_to(id)}
        namespaces = {ref: self._observed.namespaces[ref] for ref in refs if ref in self._observed.namespaces}
        adoptions = {name: a for name, a in self._observed.remembered.adoptions.items() if name in names}
        return Scope(
            keys=frozenset(key for key in self._keys if not held or self._place(interfaces.get(key.name)) not in held),
            namespaces=frozenset(self._emptied - held),
            desired=replace(
                self._desired,
                interfaces=interfaces,
                held={name for name in names if name in self._desired.held},
                order={name: self._desired.order[name] for name in interfaces},
                refused={name: self._desired.refused[name] for name in names if name in self._desired.refused},
            ),
            observed=replace(
                self._observed,
                namespaces=namespaces,
                links=self._links_in(namespaces.values(), adoptions.values()),
                remembered=replace(self._observed.remembered, adoptions=adoptions),
            ),
            nodes=frozenset(self.nodes()),
            held=held,
        )

    def _place(self, interface: Interface | None) -> Place | None:
        return None if interface is None else self._namespaces.place(interface.namespace)

    def _links_in(self, namespaces: Iterable[NsId], adoptions: Iterable[Adoption]) -> dict[NsId, dict[int, Link]]:
        """Return the links of the scope by namespace; those of listed namespaces are there, though they are empty."""
        listed = self._observed.links
        links: dict[NsId, dict[int, Link]] = {id: {} for id in namespaces if id in listed}
        if self._observed.own in listed:
            links.setdefault(self._observed.own, {})
        for id in self._links:
            link = self._observed.link(id)
            if link is not None:
                links.setdefault(id.namespace, {})[id.ifindex] = link
        # Whether an adopted link is gone can be told only where its namespace is listened to.
        for adoption in adoptions:
            if adoption.link is not None and adoption.link.namespace in listed:
                links.setdefault(adoption.link.namespace, {})
        return links
