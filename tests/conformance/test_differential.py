"""Both kernels side by side: whatever is done to both, they answer and end up alike.

Each run is a random story of operations and interference from one seed; links are told apart by namespace and
host name, since ifindexes are the kernel's own affair. After every step the real kernel is given time to do what
it does by itself, which the simulated one does at once.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path

import anyio
import pytest
from kernel_rig import GROUP, IFA_F_SECONDARY, MAC, Rig, SimulatedExternal, linux_rig

from ifagent.core.link import Link, LinkId, OperState
from ifagent.core.names import HostName
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress, DeleteLink, LinkEnd, MoveLink, SetLink
from ifagent.kernel.simulated import SimulatedKernel

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

SEEDS = 20
STEPS = 30
NAMESPACES = "abc"
HOST_NAMES = ("e0", "e1", "e2", "e3", "lo", "a b")
MACS = (MAC.format(1), MAC.format(2), MAC.format(3), "01:00:5e:00:00:01")
MTUS = (67, 68, 1279, 1280, 1400, 1500, 65535, 65536)
ADDRESSES = (
    "10.0.0.1/24",
    "10.0.0.2/24",
    "10.0.0.3/24",
    "10.0.1.1/24",
    "10.0.1.2/24",
    "10.0.0.1/16",
    "127.0.0.9/32",
    "2001:db8::1/64",
    "2001:db8::1/48",
    "2001:db8::2/64",
    "fec0::1/64",
    "fe80::5/64",
    "::1/128",
)

Place = tuple[str, str]
Step = Callable[[Rig], Operation]


def places(rig: Rig) -> dict[LinkId, Place]:
    """Return where links are, in words that mean the same on every kernel."""
    return {link.id: (name, str(link.host_name)) for name in NAMESPACES for link in rig.picture[rig.id(name)].values()}


def facts(rig: Rig) -> dict[Place, dict[str, object]]:
    """Return everything about all links that is to be the same."""
    place = places(rig)
    return {place[id]: _facts(rig.picture[id.namespace][id.ifindex], place) for id in place}


def _facts(link: Link, place: dict[LinkId, Place]) -> dict[str, object]:
    return {
        "attributes": (link.kind, link.mac, link.mtu, link.up, link.carrier, link.group, link.alias),
        "works": link.operstate in {OperState.UP, OperState.UNKNOWN},
        "peer": place.get(link.peer, "somewhere") if link.peer else None,
        "addresses": [(str(a.interface), a.made_by_kernel, a.flags & IFA_F_SECONDARY) for a in link.addresses],
    }


class Story:
    """A random story: each step is told in names, and looked up in each kernel's own picture."""

    def __init__(self, seed: int, rig: Rig) -> None:
        self._random = random.Random(seed)
        self._rig = rig

    def step(self) -> Step:
        """Return the next step."""
        tell = self._random.choice(
            [self._create] * 3
            + [self._set] * 3
            + [self._set_both_up] * 2
            + [self._move, self._delete]
            + [self._add] * 4
            + [self._drop] * 2
        )
        return tell()

    def _create(self) -> Step:
        pick = self._random.choice
        ends = [(pick(NAMESPACES), pick(HOST_NAMES), pick(MACS[:3]), pick((1280, 1500, 1500, 67))) for _ in range(2)]

        def tell(rig: Rig) -> CreateLink:
            near, far = (LinkEnd(rig.id(name), HostName(host), mac, mtu) for name, host, mac, mtu in ends)
            return CreateLink("veth", (near, far), GROUP)

        return tell

    def _set(self) -> Step:
        place, pick = self._link(), self._random.choice
        choices: dict[str, object] = {"up": pick((True, True, False)), "alias": pick(("x", "")), "group": 5}
        if place[1] != "lo":  # what lo does with these is nobody's business here
            choices |= {"host_name": HostName(pick(HOST_NAMES)), "mac": pick(MACS), "mtu": pick(MTUS)}
        chosen = {name: choices[name] for name in self._random.sample(sorted(choices), k=pick((1, 1, 2, 3)))}
        return lambda rig: SetLink(target=rig.target(*place), **chosen)  # type: ignore[arg-type]

    def _set_both_up(self) -> Step:
        """Bring up a link whose other end is up, if there is one: carrier would be rare otherwise."""
        place = places(self._rig)
        links = (self._rig.picture[id.namespace][id.ifindex] for id in place)
        ready = [link for link in links if not link.up and link.peer and self._peer(link).up]
        if not ready:
            return self._set()
        chosen = place[self._random.choice(ready).id]
        return lambda rig: SetLink(target=rig.target(*chosen), up=True)

    def _peer(self, link: Link) -> Link:
        assert link.peer is not None
        return self._rig.picture[link.peer.namespace][link.peer.ifindex]

    def _move(self) -> Step:
        place, to, host_name = self._link(), self._random.choice(NAMESPACES), self._random.choice(HOST_NAMES)
        if place[1] == "lo":  # to where it is already is refused before Linux 6.18
            host_name, to = "lo", self._random.choice([name for name in NAMESPACES if name != place[0]])
        return lambda rig: MoveLink(rig.target(*place), rig.id(to), HostName(host_name))

    def _delete(self) -> Step:
        place = self._link()
        return lambda rig: DeleteLink(rig.target(*place))

    def _add(self) -> Step:
        place, address = self._link(), ip_interface(self._random.choice(ADDRESSES))
        return lambda rig: AddAddress(rig.target(*place), address)

    def _drop(self) -> Step:
        place = self._link()
        there = [a.interface for a in self._rig.link(*place).addresses]
        address = self._random.choice([*there, ip_interface(self._random.choice(ADDRESSES))])
        return lambda rig: DeleteAddress(rig.target(*place), address)

    def _link(self) -> Place:
        all_places = sorted(places(self._rig).values())
        others = [place for place in all_places if place[1] != "lo"]
        return self._random.choice(others * 3 + all_places)


def is_alike(one: Outcome, other: Outcome) -> bool:
    """Tell whether two kernels answer alike; which of two faults of a new pair is told first is up to them."""
    if isinstance(one.operation, CreateLink) and {one.errno, other.errno} == {errno.EEXIST, errno.EINVAL}:
        return 67 in {end.mtu for end in one.operation.ends}
    return one.errno == other.errno


async def _is_settled(real: Rig, expected: dict[Place, dict[str, object]]) -> bool:
    with anyio.move_on_after(3):
        await real.until(lambda: facts(real) == expected, within=60)
    return facts(real) == expected


def _difference(simulated: dict[Place, dict[str, object]], real: dict[Place, dict[str, object]]) -> object:
    """Return what each kernel says where they disagree."""
    return [
        (place, simulated.get(place), real.get(place))
        for place in simulated.keys() | real.keys()
        if simulated.get(place) != real.get(place)
    ]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_both_kernels_agree(seed: int, tmp_path: Path) -> None:
    kernel = SimulatedKernel()
    async with linux_rig(tmp_path) as real, Rig(kernel, SimulatedExternal(kernel)) as simulated:
        for rig in (real, simulated):
            await rig.add_namespaces(*NAMESPACES)
        story = Story(seed, simulated)
        told: list[str] = []
        for _ in range(STEPS):
            step = story.step()
            told.append(str(step(simulated)))
            (expected,) = await simulated.execute(step(simulated))
            (answer,) = await real.execute(step(real))
            assert is_alike(answer, expected), (told, answer)
            wanted = facts(simulated)
            assert await _is_settled(real, wanted), (told[-3:], _difference(wanted, facts(real)))
