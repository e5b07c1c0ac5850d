"""How much do readers of the state stream slow the agent: a round with 10,000 subscriptions against one with none.

A round is one changed declaration, until it is acted on, with the simulated kernel, so that what is measured is the
agent. Readers either only hold their subscription (``idle``) or wait for every event (``waiting``); the round's own
time and what is needed to serve all readers after it are told apart. Both sides are measured in turn (A B A B ...) in
one process; what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

import anyio
import anyio.lowlevel

from ifagent import Agent, Interface, Settings, Veth
from ifagent.kernel.simulated import SimulatedKernel

INTERFACES = 100


def declare(mtu: int) -> list[Interface]:
    """Return both ends of some pairs."""
    return [
        Interface(name=f"{mine}{number}", kind=Veth(peer_if_name=f"{other}{number}"), enabled=True, mtu=mtu)
        for number in range(INTERFACES // 2)
        for mine, other in (("a", "b"), ("b", "a"))
    ]


class Readers:
    """Many subscriptions; counts the events that they were given."""

    def __init__(self) -> None:
        self.events = 0

    async def read(self, agent: Agent) -> None:
        """Read until cancelled."""
        async for _ in agent.states(name="a0"):
            self.events += 1


async def rounds(agent: Agent, count: int, first: int) -> list[float]:
    """Return the seconds that each of some rounds took."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        await agent.modify("a0", mtu=1000 + (first + number) % 400)
        times.append(time.perf_counter() - started)
        await anyio.lowlevel.checkpoint()
    return times


async def measure(readers: int, *, repeats: int, count: int, waiting: bool) -> dict[str, list[float]]:
    """Return the rounds' seconds without and with readers, and the seconds to serve all of them after a round."""
    times: dict[str, list[float]] = {"without": [], "with": [], "served": []}
    async with Agent.open(Settings(label="bench"), kernel=SimulatedKernel()) as agent:
        for interface in declare(1500):
            await agent.configure(interface)
        for turn in range(repeats):
            times["without"] += await rounds(agent, count, turn * count * 2)
            held = Readers()
            async with anyio.create_task_group() as group:
                idle = [] if waiting else [agent.states() for _ in range(readers)]
                for _ in range(readers if waiting else 0):
                    group.start_soon(held.read, agent)
                await anyio.wait_all_tasks_blocked()
                for number in range(count):
                    before = held.events
                    times["with"] += await rounds(agent, 1, turn * count * 2 + count + number)
                    started = time.perf_counter()
                    while waiting and held.events < before + readers:
                        await anyio.lowlevel.checkpoint()
                    times["served"].append(time.perf_counter() - started)
                idle.clear()
                group.cancel_scope.cancel()
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    for how in ("idle", "waiting"):
        times = asyncio.run(
            measure(options.readers, repeats=options.repeats, count=options.rounds, waiting=how == "waiting")
        )
        medians = {name: statistics.median(values) for name, values in times.items()}
        results[how] = {"seconds": medians, "ratio": medians["with"] / medians["without"]}
        if not options.json:
            print(
                f"{options.readers} {how}: a round takes {medians['with'] * 1000:.2f} ms, "
                f"{medians['without'] * 1000:.2f} ms without them, ratio {results[how]['ratio']:.2f}; "
                f"all are served {medians['served'] * 1000:.0f} ms later"
            )
    if options.json:
        print(json.dumps({"readers": options.readers, "results": results}))


if __name__ == "__main__":
    main()
