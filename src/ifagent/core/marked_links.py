"""Which links have a mark of the agent's, by namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ifagent.core.link import LOOPBACK_IFINDEX, Link, LinkId, NsId
from ifagent.core.names import Name
from ifagent.core.ownership import Owner
from ifagent.core.remembered import Adoption


class MarkedLinks:
    """Look-ups. Told of every link that comes, changes or goes, and of what is remembered of adopted ones.

    ``generation`` counts changes: whoever remembers it can tell whether other links have a mark by now.
    ``without_checksums`` are links of ours whose checksum offloading is not the kernel's default.
    """

    def __init__(self, owner: Owner) -> None:
        self.generation: int = 0
        self.without_checksums: set[LinkId] = set()
        self._owner = owner
        self._in: dict[NsId, set[LinkId]] = {}
        self._configured: set[LinkId] = set()
        self._adopted: dict[LinkId, Name] = {}

    def set_link(self, id: LinkId, link: Link | None) -> None:
        """Take note of what a link is like, ``None`` if it is gone."""
        marked = link is not None and self._has_mark(link)
        there = self._in.get(id.namespace, set())
        if marked and id not in there:
            self._in.setdefault(id.namespace, there).add(id)
            self.generation += 1
        elif not marked and id in there:
            there.discard(id)
            if not there:
                del self._in[id.namespace]
            self.generation += 1
        for those, is_one in (
            (self.without_checksums, link is not None and marked and self._owner.without_checksums(link)),
            (self._configured, link is not None and marked and self._owner.configured_mark(link) is not None),
        ):
            (those.add if is_one else those.discard)(id)

    def set_adoptions(self, adoptions: Mapping[Name, Adoption]) -> set[LinkId]:
        """Take note of what is remembered; return the links for which that makes a difference."""
        before = self._adopted
        self._adopted = {adoption.link: name for name, adoption in adoptions.items() if adoption.link is not None}
        return {id for id in before.keys() | self._adopted.keys() if before.get(id) != self._adopted.get(id)}

    def _has_mark(self, link: Link) -> bool:
        if link.id.ifindex == LOOPBACK_IFINDEX and self._owner.made_namespace(link):
            return True
        return self.is_ours(link)

    # What is asked

    def is_ours(self, link: Link) -> bool:
        """Tell whether this agent has made or adopted a link, or configures it."""
        owner = self._owner
        return owner.owns(link) or link.id in self._adopted or bool(owner.adoption(link) or owner.configured_mark(link))

    def names_on(self, link: Link) -> Iterator[Name]:
        """Yield the interfaces that a link's alias names, or that are remembered to have adopted it."""
        if (adopter := self._adopted.get(link.id)) is not None:
            yield adopter
        if not link.alias:
            return
        if (name := self._owner.name_of(link)) is not None:
            yield name
        elif (mark := self._owner.adoption(link) or self._owner.configured_mark(link)) is not None:
            yield mark.name

    def is_adopted(self, id: LinkId) -> bool:
        """Tell whether a link is remembered to be adopted."""
        return id in self._adopted

    def is_marked(self, id: LinkId) -> bool:
        """Tell whether a link has a mark, or is remembered to be adopted."""
        return id in self._in.get(id.namespace, ()) or id in self._adopted

    def __iter__(self) -> Iterator[LinkId]:
        """Yield every link that has a mark or is remembered to be adopted."""
        return iter({*(id for ids in self._in.values() for id in ids), *self._adopted})

    def made_in(self, namespaces: Iterable[NsId]) -> set[LinkId]:
        """Return the links in some namespaces that this agent has made or adopted; others it only configures."""
        marked = {id for namespace in namespaces for id in self._in.get(namespace, ())}
        return {id for id in marked.union(self._adopted) - self._configured if id.ifindex != LOOPBACK_IFINDEX}

    def is_in(self, namespace: NsId) -> bool:
        """Tell whether a namespace was made by this agent, or has links that it made or configures."""
        return namespace in self._in
