"""S1, S2 and S3: how costs grow, with the number of interfaces, of namespaces, and of link events.

The agent runs in this process. What is told is the processor time of all threads, with what the kernel does for them:
for S1 and S2, of a cold start, of a resync with nothing to do, and of one change of an MTU through
:meth:`ifagent.Agent.modify`, each until it has been acted on; for S3, of one link event, while another process makes so
many a second. The exponent k says that the whole cost grows like size to the power of k: 1 is in proportion, 0 is not
at all; it is the slope of a straight line through the logarithms.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import events
from benchmarks.bench import Bench
from benchmarks.fixture import both, pairs
from benchmarks.results import Figure, say
from benchmarks.spaces import Spaces
from ifagent import Agent, Settings

LABEL = "scaling"
INTERFACES = (100, 300, 1_000, 3_000, 10_000)
RATES = (100, 300, 1_000, 3_000, 10_000)
NAMESPACES = (10, 30, 100, 300, 1_000)
CONSTANT_NAMESPACES, CONSTANT_INTERFACES = 50, 2_000
CHANGES = 20

Costs = Mapping[str, float]
"""ms of processor time by what was done."""


def run_interfaces(bench: Bench) -> Iterator[Figure]:
    """Measure S1."""
    sizes = (20, 60, 200) if bench.quick else INTERFACES
    width = 10 if bench.quick else CONSTANT_NAMESPACES
    costs = {size: _costs(bench, size, width) for size in sizes}
    yield from _figures("S1", "interfaces", costs)


def run_namespaces(bench: Bench) -> Iterator[Figure]:
    """Measure S2."""
    sizes = (5, 20, 50) if bench.quick else NAMESPACES
    interfaces = 100 if bench.quick else CONSTANT_INTERFACES
    costs = {size: _costs(bench, interfaces, size) for size in sizes}
    yield from _figures("S2", "namespaces", costs)


def run_events(bench: Bench) -> Iterator[Figure]:
    """Measure S3."""
    rates = RATES[:3] if bench.quick else RATES
    with Spaces.made(bench.folder / LABEL, events.NAMESPACES) as spaces:
        costs = asyncio.run(_events(spaces, rates, 1.0 if bench.quick else 3.0))
        spaces.sweep(events.LABEL)
    for rate, cost in costs.items():
        measure = f"processor time for one of {rate} link events a second"
        yield Figure(row="S3", measure=measure, values=[cost], unit="us")
    slope = 1 + _slope(costs)
    yield Figure(row="S3", measure="processor time: link events to the power of", values=[slope], unit="")


async def _events(spaces: Spaces, rates: Sequence[int], seconds: float) -> dict[int, float]:
    """Return the us of processor time for one event, by rate."""
    links = events.make_links(spaces)
    a_change = events.events_of_a_change(spaces.directory / spaces.names[0], links)
    costs: dict[int, float] = {}
    async with Agent.open(events.settings(spaces)) as agent:
        await events.declare(agent, spaces)
        await asyncio.sleep(3)  # until the kernel is done with looking for duplicates of new IPv6 addresses
        for rate in rates:
            before = time.process_time()
            report = await events.flap(spaces, rate / a_change, seconds, *links)
            await asyncio.sleep(0.2)
            costs[rate] = (time.process_time() - before) * 1e6 / (report["changes"] * a_change)
            say(f"  {rate} link events a second cost {costs[rate]:.0f} us each")
    return costs


def _costs(bench: Bench, interfaces: int, namespaces: int) -> Costs:
    with Spaces.made(bench.folder / LABEL, namespaces) as spaces:
        costs = asyncio.run(_measure(spaces, interfaces, bench.calm))
        spaces.sweep(LABEL)
    figures = ", ".join(f"{what} {ms:.4g} ms" for what, ms in costs.items())
    say(f"  {interfaces} interfaces in {namespaces} namespaces: {figures}")
    return costs


async def _measure(spaces: Spaces, interfaces: int, calm: float) -> Costs:
    ends = [end.interface for end in both(pairs(interfaces // 2, spaces.names))]
    async with Agent.open(Settings(label=LABEL, netns_dir=spaces.directory)) as agent:
        started = time.process_time()
        await agent.resync(ends)
        cold = time.process_time() - started
        await asyncio.sleep(calm)
        changes = []
        for number in range(CHANGES):
            started = time.process_time()
            await agent.modify(ends[number % interfaces].name, mtu=1300 + number)
            changes.append(time.process_time() - started)
        resyncs = []
        for _ in range(3):
            started = time.process_time()
            await agent.resync()
            resyncs.append(time.process_time() - started)
    seconds = {"cold start": cold, "resync": statistics.median(resyncs), "one change": statistics.median(changes)}
    return {what: value * 1000 for what, value in seconds.items()}


def _figures(row: str, of: str, costs: Mapping[int, Costs]) -> Iterator[Figure]:
    for what in ("cold start", "resync", "one change"):
        for size, found in costs.items():
            yield Figure(row=row, measure=f"{what}, {size} {of}, processor time", values=[found[what]], unit="ms")
        slope = _slope({size: found[what] for size, found in costs.items()})
        yield Figure(row=row, measure=f"{what}, processor time: {of} to the power of", values=[slope], unit="")


def _slope(costs: Mapping[int, float]) -> float:
    sizes, values = [math.log(size) for size in costs], [math.log(cost) for cost in costs.values()]
    return statistics.linear_regression(sizes, values).slope
