"""What the kernel and the states must be once things are quiet, in one possible world.

The rules are those of the agent's documents, written down once more, in another way than the agent has them. Some
results depend on what was there before: which of two rivals for a place has it, and where a link is that cannot go
where it is to be. There the observation decides, and everything else must go with that.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from chaos.intent import World
from chaos.observation import Link, Observation, SpaceId
from chaos.values import OWN, Space, Wish

Place = tuple[SpaceId | Space, str]
"""A namespace, or the reference to one that is not there, and a host name in it."""

DEFAULT_MTU = 1500


@dataclass(frozen=True, slots=True)
class Facts:
    """What others have made: links that are none of the agent's business, by their places, named namespaces, and
    TAPs, by the names that they were made with, with the MACs that they were given.
    """

    foreign: frozenset[tuple[SpaceId, str]] = frozenset()
    namespaces: frozenset[str] = frozenset()
    taps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """What a published state must say; ``missing`` is what is waited for."""

    config_state: str
    missing: tuple[str, ...] = ()


APPLIED = State("APPLIED")
INVALID = State("INVALID")
FAILED = State("FAILED")


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be.

    ``links`` are to be as wished, at the place given. ``frozen`` names may have links, which stay as they are.
    ``configured`` are the places of links of others that are to have the addresses of a wish.
    """

    states: Mapping[str, State]
    links: Mapping[str, tuple[Wish, Place]]
    frozen: frozenset[str]
    borrowed: Mapping[Place, Wish]


def group_of(label: str) -> int:
    """Return the group that all links of an agent are in."""
    return 1 << 28 | zlib.crc32(label.encode()) & (1 << 28) - 1


def name_of(link: Link, label: str) -> str:
    """Return the interface that a link's alias says it is of, empty if it is none of this agent's."""
    for prefix, parts in ((f"ifagent/{label}/", 1), (f"ifagent-tap/{label}/", 4)):
        if link.alias.startswith(prefix):
            return link.alias.removeprefix(prefix).split("/", parts - 1)[-1]
    return ""


def expect(world: World, facts: Facts, seen: Observation, label: str) -> Expected:
    """Return what must be."""
    return _Oracle(world, facts, seen, label).expected()


class _Oracle:
    def __init__(self, world: World, facts: Facts, seen: Observation, label: str) -> None:
        self.world = world
        self.facts = facts
        self.seen = seen
        self.at: dict[Place, Link] = {link.place: link for link in seen.links}
        self.name: dict[Place, str] = {link.place: name for link in seen.links if (name := name_of(link, label))}
        self.of = {
            name: link for place, name in self.name.items() for link in [self.at[place]] if self._is_of(name, link)
        }
        self.states: dict[str, State] = {}
        self.links: dict[str, tuple[Wish, Place]] = {}
        self.configured: dict[Place, Wish] = {}
        self.frozen: set[str] = set(world.unknown)
        self.passed: dict[str, Wish] = {}
        self.stuck: dict[str, State | None] = {}

    def expected(self) -> Expected:
        self._screen()
        pairs = self._pair()
        self.alive = {end.name for pair in pairs for end in pair if self._intact(*pair)}
        self.alive |= {name for name, wish in self.passed.items() if wish.is_tap and name in self.of}
        for pair in pairs:
            self._realise(*pair)
        for wish in self.passed.values():
            if wish.is_tap:
                self._adopt(wish)
            elif wish.existing:
                self._borrow(wish)
        self.states |= dict.fromkeys(self.world.invalid, INVALID)
        return Expected(self.states, self.links, frozenset(self.frozen), self.configured)

    def _is_of(self, name: str, link: Link) -> bool:
        """Tell whether a link is still its interface's: of the same kind, and where an end of a pair may be."""
        wish = self.world.wishes.get(name)
        if wish is None or wish.is_tap or link.kind == "tun":
            return wish is None or wish.is_tap == (link.kind == "tun")
        return not wish.existing and link.space in {self.seen.own, self._place(wish)[0]}

    def _place(self, wish: Wish) -> Place:
        space = self.seen.own if wish.space == OWN else self.seen.spaces.get(wish.space, wish.space)
        return space, wish.host_name

    def _screen(self) -> None:
        """Sort out what cannot be, each taken by itself."""
        rivals: dict[Place, list[Wish]] = defaultdict(list)
        for wish in self.world.wishes.values():
            rivals[self._place(wish)].append(wish)
        for place, wishes in rivals.items():
            winner = min(wishes, key=lambda wish: self._rank(wish.name, place))
            for wish in wishes:
                if wish is not winner:
                    self._set_aside(wish.name, INVALID, frozen=True)
            space = place[0]
            if not isinstance(space, Space) or space.kind == "named":
                self.passed[winner.name] = winner
            elif space in self.seen.ordinary:
                self._set_aside(winner.name, INVALID, frozen=True)
            else:
                # A TAP is not given back as long as it is declared.
                self._set_aside(winner.name, State("PENDING", (f"namespace {space}",)), frozen=winner.is_tap)

    def _rank(self, name: str, place: Place) -> tuple[bool, bool, str]:
        """Return what tells which of several has a place: whose link is there, or who was declared first.

        Who that was is not known here, so it is who is not told that another one has it.
        """
        reason = self.seen.states.get(name, {}).get("reason", "")
        beaten = reason.startswith("interface ") and "already has the host name" in reason
        return not self._is_at(name, place), beaten, name

    def _is_at(self, name: str, place: Place) -> bool:
        if self.world.wishes[name].existing:
            return place in self.facts.foreign
        return name in self.of and self.of[name].place == place

    def _set_aside(self, name: str, state: State, *, frozen: bool) -> None:
        self.states[name] = state
        if frozen:
            self.frozen.add(name)

    def _pair(self) -> list[tuple[Wish, Wish]]:
        """Find the pairs; whatever has no partner waits for it."""
        pairs = []
        waiting: dict[str, str] = {}
        for name, wish in self.passed.items():
            if not wish.peer:
                continue
            peer = self.passed.get(wish.peer)
            if peer is None or peer.peer != name:
                waiting[name] = wish.peer
            elif name < wish.peer:
                pairs.append((wish, peer))
        for name, peer_name in waiting.items():
            self._set_aside(name, State("PENDING", (f"interface {peer_name}",)), frozen=False)
        # What is the other end of something that stays as it is stays as well.
        while more := {name for name, peer in waiting.items() if peer in self.frozen} - self.frozen:
            self.frozen |= more
        return pairs

    def _intact(self, near: Wish, far: Wish) -> bool:
        links = self.of.get(near.name), self.of.get(far.name)
        return links[0] is not None and links[1] is not None and links[0].is_end_with(links[1])

    def _realise(self, near: Wish, far: Wish) -> None:
        ends = (near, far)
        if near.name in self.alive:
            for end in ends:
                self._settle(end)
            return
        obstacles = {end.name: found for end in ends if (found := self._torn(end) or self._obstacle(end))}
        for end, other in (ends, ends[::-1]):
            if not obstacles:
                self._settle(end)
            else:
                self.states[end.name] = obstacles.get(end.name, State("PENDING", (f"interface {other.name}",)))

    def _settle(self, wish: Wish) -> None:
        """Have the link of an interface where it is to be, or stay where it is if it cannot."""
        obstacle = self._obstacle(wish)
        self._have(wish, self.of[wish.name].place if obstacle else self._place(wish), obstacle)

    def _have(self, wish: Wish, place: Place, obstacle: State | None) -> None:
        """Have a link at a place, as far as the namespace allows."""
        without = tuple(address for address in wish.addresses if ":" not in address)
        if place[0] in self.seen.without_ipv6 and without != wish.addresses:
            obstacle = obstacle or FAILED
            wish = replace(wish, addresses=without)
        self.states[wish.name] = obstacle or APPLIED
        self.links[wish.name] = (wish, place)

    def _torn(self, wish: Wish) -> State | None:
        """Say that the link is the other end of one that stays as it is."""
        own = self.of.get(wish.name)
        for place, name in sorted(self.name.items(), key=lambda item: item[1]):
            if own is not None and name in self.frozen and self.at[place].is_end_with(own):
                return State("PENDING", (f"interface {name}",))
        return None

    def _obstacle(self, wish: Wish) -> State | None:
        """Say what is at the interface's place and stays there."""
        place = self._place(wish)
        occupant = self.at.get(place)
        name = self.name.get(place, "")
        if occupant is None or name == wish.name:
            return None
        if place in self.facts.foreign or name in self.frozen:
            return FAILED
        if name in self.alive and self.of[name] is occupant and self._is_stuck(name):
            return State("PENDING", (f"host name {wish.host_name}",))
        return None

    def _is_stuck(self, name: str) -> bool:
        """Tell whether a link that is to go elsewhere cannot."""
        if name not in self.stuck:
            self.stuck[name] = None  # in a circle nobody is stuck
            self.stuck[name] = self._obstacle(self.passed[name])
        return self.stuck[name] is not None

    def _adopt(self, wish: Wish) -> None:
        if wish.name in self.of or wish.temp in self.facts.taps:
            obstacle = self._obstacle(wish)
            link = self.of.get(wish.name) or self.at.get((self.seen.own, wish.temp))
            self._have(wish, link.place if obstacle and link else self._place(wish), obstacle)
        else:
            self.states[wish.name] = State("PENDING", (f"tap {wish.temp}",))

    def _borrow(self, wish: Wish) -> None:
        """Have a link of somebody else's with the addresses that are wished for, unless it is the host's."""
        place = self._place(wish)
        if self.at.get(place) is None:
            self.states[wish.name] = State("PENDING", (f"link {wish.host_name}",))
        elif place not in self.facts.foreign:
            self.states[wish.name] = FAILED
        elif wish.link_only:
            self.states[wish.name] = APPLIED
        elif place[0] == self.seen.own:
            self.states[wish.name] = INVALID
        else:
            self._have(wish, place, None)
            self.configured[place] = self.links.pop(wish.name)[0]


def names_of(links: Iterable[Link], label: str) -> dict[str, list[Link]]:
    """Return the links of each interface."""
    found: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        if name := name_of(link, label):
            found[name].append(link)
    return found
