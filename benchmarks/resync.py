"""P4: how long it takes to look at everything anew and find that nothing is to be done.

The agent runs in this process, over the real kernel. That it writes nothing is told by its own count of operations.
It is compared with asking the kernel for the same listings and not even decoding them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.fixture import both, pairs
from benchmarks.netlink import Sender, dump_addresses, dump_links, entered
from benchmarks.results import Figure, say
from benchmarks.spaces import Spaces
from ifagent import Agent, Settings
from ifagent.statistics import OK

LABEL = "resync"
ROUNDS = 5
"""Resyncs in one repeat."""


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P4."""
    count, width = (100, 10) if bench.quick else (500, 100)
    with ExitStack() as stack:
        spaces = stack.enter_context(Spaces.made(bench.folder / LABEL, width))
        senders = [entered(str(spaces.directory / name), Sender) for name in spaces.names]
        for sender in senders:
            stack.callback(sender.close)
        mine, spent, listed, writes = asyncio.run(_measure(spaces, count, bench.repeats * ROUNDS, senders, bench.calm))
    what = f"resync of {count * 2} interfaces with nothing to do"
    yield Figure(row="P4", measure=what, values=mine, unit="ms", most=150.0)
    yield Figure(row="P4", measure=f"{what}, processor time", values=spent, unit="ms")
    yield Figure(
        row="P4",
        measure=what,
        values=mine,
        unit="ms",
        reference="listing alone",
        ratios=[one / two for one, two in zip(mine, listed, strict=True)],
        quick_most=80.0,
    )
    yield Figure(row="P4", measure="kernel writes in all resyncs", values=[writes], unit="writes", most=0)


async def _measure(
    spaces: Spaces, count: int, rounds: int, senders: Sequence[Sender], calm: float
) -> tuple[list[float], list[float], list[float], int]:
    """Return the ms of resyncs, their processor time, the ms of listings, and how many operations resyncs led to."""
    settings = Settings(label=LABEL, netns_dir=spaces.directory)
    mine: list[float] = []
    listed: list[float] = []
    spent: list[float] = []
    async with Agent.open(settings) as agent:
        interfaces = [end.interface for end in both(pairs(count, spaces.names))]
        states = await agent.resync(interfaces)
        assert all(state.config_state == "APPLIED" for state in states.values()), states
        await asyncio.sleep(calm)
        before = sum(n for (_, result), n in agent.statistics().operations.items() if result == OK)
        for _ in range(rounds):
            used, started = time.process_time(), time.perf_counter()
            await agent.resync()
            mine.append((time.perf_counter() - started) * 1000)
            spent.append((time.process_time() - used) * 1000)
            await asyncio.sleep(0.05)
            started = time.perf_counter()
            for sender in senders:
                sender.dump(dump_links())
                sender.dump(dump_addresses())
            listed.append((time.perf_counter() - started) * 1000)
        writes = sum(n for (_, result), n in agent.statistics().operations.items() if result == OK) - before
    spaces.sweep(LABEL)
    say(f"  resync {min(mine):.1f}-{max(mine):.1f} ms, listing {min(listed):.1f}-{max(listed):.1f} ms")
    return mine, spent, listed, writes
