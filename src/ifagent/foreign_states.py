"""The state stream with foreign links in it, for readers who ask for them.

It exists only while there are such readers. After each round, every link of every attached namespace is checked; the
state made of a link is reused while the link is unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ifagent.core.foreign import foreign_name, foreign_state, way_to
from ifagent.core.index import Index
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.report import Beside, deleted
from ifagent.core.resources import Key, interface_key
from ifagent.core.state import InterfaceState
from ifagent.stream import StateHub


@dataclass(frozen=True, slots=True)
class _Published:
    """A published state, and what it was made of."""

    link: Link
    beside: Beside
    name: Name
    ref: NamespaceRef
    state: InterfaceState


class ForeignStates:
    """Republishes in ``hub`` what ``source`` publishes, and the states of links that belong to no interface.

    Links that this agent has made, adopted or configured are never reported as foreign, not even while no state
    mentions them yet. ``clock`` returns Unix seconds.
    """

    def __init__(self, source: StateHub, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self.hub: StateHub = StateHub()
        self._source = source
        self._index = index
        self._clock = clock
        self._published: dict[LinkId, _Published] = {}
        self.hub.publish(source.states, {})
        source.listeners.append(self)
        self.refresh()

    def on_published(self, changed: Mapping[Key, InterfaceState], deleted: Mapping[Key, InterfaceState]) -> None:
        """Republish what the source has published; :meth:`refresh` is called right after."""
        self.hub.publish(changed, deleted)

    def refresh(self) -> None:
        """Publish changes of foreign links; call it after a round, before the next ``await``."""
        before, self._published, clock = self._published, {}, self._clock()
        observed, is_ours = self._index.observed(), self._index.marks.is_ours
        mine = {state.link_id for state in self._source.states.values()}
        for namespace, links in observed.links.items():
            ref = self._reference_to(namespace)
            if ref is not None:
                for link in links.values():
                    if link.id not in mine and not is_ours(link):
                        beside = Beside.of(link, observed)
                        self._published[link.id] = self._publication(link, beside, ref, clock, before.get(link.id))
        old = {interface_key(one.name): one.state for one in before.values()}
        new = {interface_key(one.name): one.state for one in self._published.values()}
        gone = old.keys() - new.keys() - self._source.states.keys()
        changed = {key: state for key, state in new.items() if old.get(key) is not state}
        if changed or gone:
            self.hub.publish(changed, {key: deleted(old[key], clock) for key in gone})

    def stop(self) -> None:
        """Stop publishing."""
        self._source.listeners.remove(self)

    def _publication(
        self, link: Link, beside: Beside, ref: NamespaceRef, clock: float, before: _Published | None
    ) -> _Published:
        name = foreign_name(link, ref, self._source.states)
        if before is not None:
            if (before.link, before.beside, before.name, before.ref) == (link, beside, name, ref):
                return before
            if before.name != name:
                before = None
        state = foreign_state(link, beside, name, ref, clock, before.state if before else None)
        return _Published(link, beside, name, ref, state)

    def _reference_to(self, namespace: NsId) -> NamespaceRef | None:
        namespaces = self._index.namespaces
        return way_to(namespaces.leading_to(namespace), namespaces.referenced())
