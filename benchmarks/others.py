"""P10: the same work with pyroute2: IPRoute one call at a time, and NDB.

Both are so much slower that they make fewer pairs; what is compared is the time for one. The agent runs in this
process here, as they do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pyroute2 import NDB, NetNS

from benchmarks.bench import Bench
from benchmarks.cold_start import in_turn
from benchmarks.fixture import GROUP, Pair, both, pairs
from benchmarks.results import Figure
from benchmarks.spaces import Spaces
from ifagent import Agent, Settings

LABEL = "others"
WIDTH = 10
AGENT, IPROUTE, NDBS = 100, 40, 6
"""How many pairs each makes."""


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P10."""
    with Spaces.made(Path("/run/netns"), WIDTH) as spaces:
        made = pairs(AGENT, spaces.names)
        times = in_turn(
            bench.repeats,
            agent=partial(_each, spaces, made, _with_agent),
            iproute=partial(_each, spaces, made[:IPROUTE], _with_iproute),
            ndb=partial(_each, spaces, made[:NDBS], _with_ndb),
        )
    yield Figure(row="P10", measure="ifagent in process", values=_ms(times["agent"]), unit="ms/pair")
    for other, name in (("iproute", "pyroute2 IPRoute"), ("ndb", "pyroute2 NDB")):
        yield Figure(row="P10", measure=name, values=_ms(times[other]), unit="ms/pair")
        yield Figure(
            row="P10",
            measure="ifagent in process",
            values=_ms(times["agent"]),
            unit="ms/pair",
            reference=name,
            ratios=[one / two for one, two in zip(times["agent"], times[other], strict=True)],
            quick_most=5.0,
        )


def _ms(times: Sequence[float]) -> list[float]:
    return [seconds * 1000 for seconds in times]


def _each(spaces: Spaces, made: list[Pair], make: object) -> float:
    """Return the seconds for one pair."""
    assert callable(make)
    seconds: float = make(spaces, made)
    spaces.check(both(made))
    spaces.sweep(LABEL)
    return seconds / len(made)


def _with_agent(spaces: Spaces, made: list[Pair]) -> float:
    async def resync() -> float:
        async with Agent.open(Settings(label=LABEL, netns_dir=spaces.directory)) as agent:
            interfaces = [end.interface for end in both(made)]
            started = time.perf_counter()
            await agent.resync(interfaces)
            return time.perf_counter() - started

    return asyncio.run(resync())


def _with_iproute(spaces: Spaces, made: list[Pair]) -> float:
    sockets = {name: NetNS(str(spaces.directory / name)) for name in spaces.names}
    try:
        started = time.perf_counter()
        for near, far in made:
            peer = {"ifname": far.name, "address": far.mac, "mtu": far.mtu, "net_ns_fd": far.space}
            here = sockets[near.space]
            here.link("add", ifname=near.name, kind="veth", address=near.mac, mtu=near.mtu, group=GROUP, peer=peer)
            for end in (near, far):
                there = sockets[end.space]
                index = there.link_lookup(ifname=end.name)[0]
                there.link("set", index=index, state="up", group=GROUP)
                for text in (end.ipv4, end.ipv6):
                    address, _, prefix = text.partition("/")
                    there.addr("add", index=index, address=address, prefixlen=int(prefix))
        return time.perf_counter() - started
    finally:
        for each in sockets.values():
            each.close()


def _with_ndb(spaces: Spaces, made: list[Pair]) -> float:
    with NDB(sources=[{"target": name, "kind": "netns", "netns": name} for name in spaces.names]) as ndb:
        started = time.perf_counter()
        for near, far in made:
            peer = {"ifname": far.name, "net_ns_fd": far.space}
            with ndb.interfaces.create(
                target=near.space, ifname=near.name, kind="veth", address=near.mac, mtu=near.mtu, peer=peer
            ) as link:
                link.set(state="up", group=GROUP)
                link.add_ip(near.ipv4)
                link.add_ip(near.ipv6)
            found = ndb.interfaces.wait(target=far.space, ifname=far.name)
            with found as link:
                link.set(state="up", group=GROUP, address=far.mac, mtu=far.mtu)
                link.add_ip(far.ipv4)
                link.add_ip(far.ipv6)
        return time.perf_counter() - started
