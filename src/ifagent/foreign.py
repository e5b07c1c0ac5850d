"""The state stream with other people's links in it, for readers who ask for them.

Nothing of this is there while nobody asks. While somebody does, every link of every namespace that the agent listens to
is looked at after each round; what is made of one is kept as long as the link is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ifagent.core.foreign import foreign_name, foreign_state, way_to
from ifagent.core.index import Index
from ifagent.core.interface import Name, NamespaceRef
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.report import deleted
from ifagent.core.state import InterfaceState
from ifagent.stream import StateHub


@dataclass(frozen=True, slots=True)
class _Told:
    """What a state was made of."""

    link: Link
    peer: Link | None
    name: Name
    ref: NamespaceRef
    state: InterfaceState


class ForeignStates:
    """Publishes in ``hub`` what ``source`` does, and the state of every link that no interface is about.

    Links that this agent has made, adopted or borrowed are never among these: while no state tells of one, it is about
    to. ``clock`` returns Unix seconds.
    """

    def __init__(self, source: StateHub, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self.hub: StateHub = StateHub()
        self._source = source
        self._index = index
        self._clock = clock
        self._told: dict[LinkId, _Told] = {}
        self.hub.publish(source.states, {})
        source.followers.append(self)
        self.look()

    def pass_on(self, changed: Mapping[Name, InterfaceState], deleted: Mapping[Name, InterfaceState]) -> None:
        """Publish what the source has published; :meth:`look` comes right after."""
        self.hub.publish(changed, deleted)

    def look(self) -> None:
        """Publish what is new about links; to be called after a round, before anybody else has a turn."""
        before, self._told, clock = self._told, {}, self._clock()
        observed, is_ours = self._index.observed(), self._index.marks.is_ours
        mine = {state.link_id for state in self._source.states.values()}
        for namespace, links in observed.links.items():
            ref = self._way_to(namespace)
            if ref is not None:
                for link in links.values():
                    if link.id not in mine and not is_ours(link):
                        peer = observed.peer(link)
                        self._told[link.id] = self._tell(link, peer, ref, clock, before.get(link.id))
        old = {told.name: told.state for told in before.values()}
        new = {told.name: told.state for told in self._told.values()}
        gone = old.keys() - new.keys() - self._source.states.keys()
        changed = {name: state for name, state in new.items() if old.get(name) is not state}
        if changed or gone:
            self.hub.publish(changed, {name: deleted(old[name], clock) for name in gone})

    def stop(self) -> None:
        """Publish no more."""
        self._source.followers.remove(self)

    def _tell(self, link: Link, peer: Link | None, ref: NamespaceRef, clock: float, before: _Told | None) -> _Told:
        name = foreign_name(link, ref, self._source.states)
        if before is not None:
            if (before.link, before.peer, before.name, before.ref) == (link, peer, name, ref):
                return before
            if before.name != name:
                before = None
        state = foreign_state(link, peer, name, ref, clock, before.state if before else None)
        return _Told(link, peer, name, ref, state)

    def _way_to(self, namespace: NsId) -> NamespaceRef | None:
        namespaces = self._index.namespaces
        return way_to(namespaces.leading_to(namespace), namespaces.referenced())
