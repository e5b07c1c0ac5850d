"""Namespaces are heard over sockets of their own: in whatever order those are read, the picture ends up right."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ifagent.core.link import Link, LinkId, NsId, OperState
from ifagent.core.names import HostName
from ifagent.kernel.link_cache import LinkCache, NamespaceDump, Notification
from ifagent.kernel.messages import LinkMessage

SPACES = tuple(NsId(100 + number) for number in range(3))


@dataclass(eq=False)
class End:
    """One end of a veth, somewhere."""

    space: NsId
    ifindex: int
    peer: End | None = None
    mtu: int = 1500

    @property
    def id(self) -> LinkId:
        return LinkId(self.space, self.ifindex)

    def message(self, *, silent: bool = False) -> LinkMessage:
        peer = None if silent else self.peer
        return LinkMessage(
            ifindex=self.ifindex,
            host_name=HostName(f"v{self.ifindex}"),
            kind="veth",
            mac="",
            mtu=self.mtu,
            up=False,
            carrier=False,
            operstate=OperState.DOWN,
            group=0,
            alias="",
            master=0,
            link_ifindex=peer.ifindex if peer else 0,
            link_nsid=None if peer is None or peer.space == self.space else int(peer.space),
        )


@dataclass
class World:
    """A kernel that numbers links with what is free, and what it has said in each namespace."""

    ends: list[End] = field(default_factory=list)
    said: dict[NsId, list[Notification]] = field(default_factory=lambda: {space: [] for space in SPACES})

    def free(self, space: NsId) -> int:
        taken = {end.ifindex for end in self.ends if end.space == space}
        return next(number for number in range(2, 100) if number not in taken)

    def make(self, dice: random.Random) -> None:
        far = End(space := dice.choice(SPACES), self.free(space))
        self.ends.append(far)
        self.say(far, silent=True)  # it is there before the other one
        near = End(space := dice.choice(SPACES), self.free(space), far)
        far.peer = near
        self.ends.append(near)
        self.say(near)

    def move(self, dice: random.Random) -> None:
        if not self.ends:
            return
        end = dice.choice(self.ends)
        self.said[end.space].append(Notification(end.message(), gone=True))
        end.ifindex, end.space = 0, dice.choice(SPACES)
        end.ifindex = self.free(end.space)
        self.say(end)

    def change(self, dice: random.Random) -> None:
        if self.ends:
            end = dice.choice(self.ends)
            end.mtu += 1
            self.say(end)

    def delete(self, dice: random.Random) -> None:
        if self.ends:
            end = dice.choice(self.ends)
            for gone in (end, end.peer):
                assert gone
                self.said[gone.space].append(Notification(gone.message(), gone=True))
                self.ends.remove(gone)

    def say(self, end: End, *, silent: bool = False) -> None:
        self.said[end.space].append(Notification(end.message(silent=silent)))


STEPS: tuple[Callable[[World, random.Random], None], ...] = (World.make, World.move, World.change, World.delete)


@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_in_which_namespaces_are_read_does_not_matter(
    steps: list[Callable[[World, random.Random], None]], dice: random.Random
) -> None:
    world = World()
    cache = LinkCache(lambda _, nsid: NsId(nsid), newest_first=True)
    picture: dict[LinkId, Link] = {}
    for space in SPACES:
        cache.replace(space, NamespaceDump.of([]), ())
    while steps:
        some, steps = steps[: (count := dice.randint(1, 6))], steps[count:]
        for step in some:
            step(world, dice)
        while any(world.said.values()):
            space = dice.choice([space for space, said in world.said.items() if said])
            cache.apply(space, world.said[space].pop(0))
            if dice.random() < 0.3:
                take_in(cache, picture)
        take_in(cache, picture)
        for space in cache.take_to_relist():  # as the agent does, though it takes several moves in a circle
            listed = cache.replace(
                space, NamespaceDump.of(end.message() for end in world.ends if end.space == space), ()
            )
            picture |= {LinkId(space, ifindex): link for ifindex, link in (listed.links or {}).items()}
        take_in(cache, picture)
        found = {id_: (link.mtu, link.peer) for id_, link in picture.items()}
        assert found == {end.id: (end.mtu, end.peer and end.peer.id) for end in world.ends}


def take_in(cache: LinkCache, picture: dict[LinkId, Link]) -> None:
    for seen in cache.changed():
        if seen.link is None:
            del picture[seen.id]
        else:
            picture[seen.id] = seen.link
