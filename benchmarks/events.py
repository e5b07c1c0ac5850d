"""P6: from a link event in the kernel to a subscriber, and how many of them an agent can take.

The agent runs in this process, and another process changes MTUs (:mod:`benchmarks.flapper`). Latency is from just
before the request is sent until a subscriber has the state that tells of it; the link is an existing one that the
agent only looks at, so that the event leads to nothing but the news. For the rate, the links are somebody else's, in a
namespace that the agent listens to, and it is reached as long as that namespace does not fall behind. The
other process can make only so many events, the fewer the less of a processor it gets, so what it makes with nobody
listening is told as well.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyio.abc import TaskStatus

from benchmarks.bench import Bench
from benchmarks.fixture import Pair, both, pairs
from benchmarks.flapper import command
from benchmarks.netlink import Floor, Listener, Sender, entered, packed, set_mtu
from benchmarks.results import Figure, percentile, say
from benchmarks.spaces import Spaces
from ifagent import Agent, ConfigState, Existing, InterfaceState, Settings
from ifagent.core.events import Event, NamespaceBehind
from ifagent.kernel.contract import Emit
from ifagent.kernel.linux import LinuxKernel

LABEL = "events"
PAIRS = 50
NAMESPACES = 10
LINKS = 100
"""Links that change, for the rate."""

RATES = (2_500, 5_000, 10_000, 20_000, 40_000, 80_000)


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P6."""
    latencies: list[list[float]] = []
    bare: list[float] = []
    sustained: list[float] = []
    unheard: list[float] = []
    with Spaces.made(bench.folder / LABEL, NAMESPACES) as spaces:
        space = spaces.directory / spaces.names[0]
        links = make_links(spaces)
        a_change = events_of_a_change(space, links)
        for _ in range(bench.repeats):
            latencies.append(asyncio.run(_latencies(spaces, 2 if bench.quick else 10)))
            bare.append(percentile(asyncio.run(_bare(spaces, 1 if bench.quick else 5, links[0])), 50))
            unheard.append(asyncio.run(_unheard(spaces, 1 if bench.quick else 3, a_change, links)))
            rates = RATES[:3] if bench.quick else RATES
            sustained.append(asyncio.run(_sustained(spaces, rates, 1 if bench.quick else 3, a_change, links)))
            spaces.sweep(LABEL)
            links = make_links(spaces)
            say(f"  p50 {percentile(latencies[-1], 50):.2f} ms, {sustained[-1]:.0f} events/s of {unheard[-1]:.0f}")
    every = [value for turn in latencies for value in turn]
    p50 = [percentile(turn, 50) for turn in latencies]
    yield Figure(row="P6", measure="link event to subscriber, p50", values=p50, unit="ms", most=1.0)
    yield Figure(row="P6", measure="link event to subscriber, p99", values=[percentile(every, 99)], unit="ms", most=5.0)
    yield Figure(row="P6", measure="link event to a loop that only receives it, p50", values=bare, unit="ms")
    yield Figure(row="P6", measure="link events that are followed", values=sustained, unit="/s", least=20_000.0)
    yield Figure(
        row="P6",
        measure="link events that are followed",
        values=sustained,
        unit="/s",
        reference="as many as can be made with nobody listening",
        ratios=[one / two for one, two in zip(sustained, unheard, strict=True)],
        quick_least=0.02,
    )


def settings(spaces: Spaces) -> Settings:
    """Return what the agent is told."""
    return Settings(label=LABEL, netns_dir=spaces.directory)


async def _latencies(spaces: Spaces, seconds: float) -> list[float]:
    """Return the ms from a change until the subscriber has the state."""
    heard: dict[int, float] = {}

    async def read(agent: Agent) -> None:
        async for event in agent.states(name="x0"):
            now = time.perf_counter()
            if event.state:
                heard.setdefault(event.state.mtu, now)

    async with Agent.open(settings(spaces)) as agent:
        state = await declare(agent, spaces)
        await asyncio.sleep(3)  # until the kernel is done with looking for duplicates of new IPv6 addresses
        reader = asyncio.create_task(read(agent))
        # 20 changes a second for at most 20 s are 400: each has an MTU of its own.
        report = await flap(spaces, 20, seconds, state.if_index)
        await asyncio.sleep(0.5)
        reader.cancel()
    return [(heard[mtu] - begun) * 1000 for begun, mtu in report["said"] if mtu in heard]


async def _bare(spaces: Spaces, seconds: float, ifindex: int) -> list[float]:
    """Return the ms from a change until a loop that has nothing else to do has received the notification."""
    heard: list[float] = []
    listener = entered(str(spaces.directory / spaces.names[0]), Listener)

    def read() -> None:
        heard.append(time.perf_counter())
        listener.drain()

    loop = asyncio.get_running_loop()
    loop.add_reader(listener, read)
    try:
        report = await flap(spaces, 20, seconds, ifindex)
        await asyncio.sleep(0.1)
    finally:
        loop.remove_reader(listener)
        listener.close()
    begun = [at for at, _ in report["said"]]
    return [(next(time for time in heard if time > at) - at) * 1000 for at in begun[1:]]


async def declare(agent: Agent, spaces: Spaces) -> InterfaceState:
    """Declare pairs, and one link that others have made; return its state."""
    ends = [end.interface for end in both(pairs(PAIRS, spaces.names))]
    foreign = replace(
        _foreign(spaces)[0][0].interface, kind=Existing(), phys_address="", mtu=0, ip_addresses=(), link_only=True
    )
    states = await agent.resync([foreign, *ends])
    assert states["x0"].config_state is ConfigState.APPLIED, states["x0"]
    return states["x0"]


class Kernel(LinuxKernel):
    """The real one; ``fallen`` is how often a namespace fell behind."""

    fallen = 0

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen, and count."""

        def counted(event: Event) -> None:
            self.fallen += isinstance(event, NamespaceBehind) and event.behind
            emit(event)

        await super().run(counted, task_status=task_status)


async def _sustained(
    spaces: Spaces, rates: Sequence[int], seconds: float, a_change: float, links: Sequence[int]
) -> float:
    """Return the most events in a second that are followed one by one; no more than the other process can make."""
    best = 0.0
    async with Agent.open(settings(spaces), kernel=(kernel := Kernel(str(spaces.directory)))) as agent:
        await declare(agent, spaces)
        for rate in rates:
            kernel.fallen = 0
            report = await flap(spaces, rate / a_change, seconds, *links)
            await asyncio.sleep(0.3)
            reached = report["changes"] / report["seconds"] * a_change
            if kernel.fallen:
                break
            best = max(best, reached)
    return best


async def _unheard(spaces: Spaces, seconds: float, a_change: float, links: Sequence[int]) -> float:
    """Return how many events a second the other process makes as fast as it can, with nobody listening."""
    report = await flap(spaces, RATES[-1] / a_change, seconds, *links)
    reached: float = report["changes"] / report["seconds"] * a_change
    return reached


async def flap(spaces: Spaces, rate: float, seconds: float, *ifindexes: int) -> Any:
    """Have links of the first namespace changed so many times a second; return the other process's report."""
    words = command(spaces.directory / spaces.names[0], rate, seconds, *ifindexes)
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return json.loads(said)


def make_links(spaces: Spaces) -> list[int]:
    """Make links that nobody declares, all in the first namespace; return their ifindexes."""
    with Floor.prepared(_foreign(spaces), spaces.directory) as floor:
        floor.run()
        return floor.ifindexes


def _foreign(spaces: Spaces) -> list[Pair]:
    return pairs(LINKS, spaces.names[:1], letters="xy")


def events_of_a_change(space: Path, links: Sequence[int]) -> float:
    """Return how many notifications another MTU leads to."""
    sender, listener = entered(str(space), Sender), entered(str(space), Listener)
    some = links[:20]
    for ifindex in some:
        sender.send(packed([set_mtu(ifindex, 1300)])[0])
    sender.close()
    heard = listener.drain()
    listener.close()
    return heard / len(some)
