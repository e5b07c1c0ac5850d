"""What nobody has disturbed must still be the same link: nothing is made anew that could stay.

Between two checks every action is noted with the interfaces whose links it may end. All the others must have the links
they had, by their ifindex; whatever else happened meanwhile, a restart of the agent or of etcd included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaos.actions import Action, Drift, Simple, Store, What
from chaos.intent import Intent, World
from chaos.observation import Link, Observation
from chaos.oracle import names_of
from chaos.values import Space

_ENDS: dict[What, str] = {
    What.NAMESPACE_DELETE: "named",
    What.PROCESS_KILL: "pid",
    What.FILE_MOUNT: "file",
    What.FILE_UNMOUNT: "file",
    What.FILE_ORDINARY: "file",
    What.CONTAINER_STOP: "microservice",
    What.CONTAINER_KILL: "microservice",
    What.CONTAINER_RESTART: "microservice",
}
"""What may end a namespace, and how that is referred to."""


class Steady:
    """What has been disturbed since the last check."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._links: dict[str, Link] = {}
        self._spaces: dict[Space, int] = {}
        self._applied: set[str] = set()
        self._peers: dict[str, str] = {}
        self._disturbed: set[str] = set()

    def note(self, action: Action, intent: Intent, real: Callable[[Space], Space]) -> None:
        """Note an action before it is done; ``real`` turns the script's references into those that the agent gets."""
        match action:
            case Store(puts=puts, deletes=deletes):
                self._disturbed.update(name for name, _ in deletes)
                for value in puts:
                    before, after = intent.value(value.name), value.wish
                    # In place: an invalid value changes nothing, and most others do not change the link itself.
                    if after is not None and (
                        before is None
                        or (before.peer, before.space, before.host_name)
                        != (after.peer, real(after.space), after.host_name)
                    ):
                        self._disturbed.add(value.name)
            case Drift(host_name=host_name, words=words, to=to):
                if to is not None or "delete" in words[:2] or "alias" in words:
                    self._disturbed.add(action.name)
                    self._disturbed.update(n for n, link in self._links.items() if link.host_name == host_name)
            case Simple(what=What.DOCKER_KILL | What.DOCKER_START):
                for reference in self._spaces:
                    if reference.kind == "microservice":
                        self._disturb_in(reference)
            case Simple(what=what) if what in _ENDS:
                self._disturb_in(real(Space(_ENDS[what], action.target)))
            case _:
                pass

    def _disturb_in(self, reference: Space) -> None:
        space = self._spaces.get(reference)
        self._disturbed.update(name for name, link in self._links.items() if link.space == space)

    def check(self, seen: Observation) -> Iterator[str]:
        """Return every link that should be the one it was, in words."""
        links = {name: found[0] for name, found in names_of(seen.links, self._label).items()}
        for name, before in self._links.items():
            peer = self._peers.get(name)
            if peer is None or {name, peer} & self._disturbed or not {name, peer} <= self._applied:
                continue
            link = links.get(name)
            if link is None or (link.ifindex, link.space) != (before.ifindex, before.space):
                yield f"{name}: the link {before} is now {link}, though nobody has disturbed it"

    def begin(self, seen: Observation, world: World) -> None:
        """Note what is there after a check, and what it was found to be."""
        self._peers = {name: wish.peer for name, wish in world.wishes.items() if wish.peer}
        self._links = {name: found[0] for name, found in names_of(seen.links, self._label).items()}
        # What could not be as it is to be may become so any time.
        self._applied = {name for name, state in seen.states.items() if state.get("config_state") == "APPLIED"}
        self._spaces = dict(seen.spaces)
        self._disturbed.clear()
