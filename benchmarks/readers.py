"""R1: how much readers of the state stream slow the agent: a round with many subscriptions against one with none.

A round is one changed declaration, until it is acted on, with the simulated kernel, so that what is measured is the
agent. Readers either only hold their subscription (``idle``) or wait for every event (``waiting``); the round's own
time and what is needed to serve all readers after it are told apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import anyio
import anyio.lowlevel

from benchmarks.bench import Bench
from benchmarks.results import Figure
from ifagent import Agent, Interface, Settings, Veth
from ifagent.kernel.simulated import SimulatedKernel

INTERFACES = 100
ROUNDS = 20
"""Rounds in one repeat."""


def run(bench: Bench) -> Iterator[Figure]:
    """Measure R1."""
    readers = 500 if bench.quick else 10_000
    for how in ("idle", "waiting"):
        times = asyncio.run(_measure(readers, repeats=bench.repeats, waiting=how == "waiting"))
        yield Figure(
            row="R1",
            measure=f"a round with {readers} {how} readers",
            values=times["with"],
            unit="ms",
            reference="with none",
            ratios=[one / two for one, two in zip(times["with"], times["without"], strict=True)],
            quick_most=5.0,
        )
    yield Figure(row="R1", measure=f"until {readers} readers are served", values=times["served"], unit="ms")


def _declared() -> list[Interface]:
    """Return both ends of some pairs."""
    return [
        Interface(name=f"{mine}{number}", kind=Veth(peer_if_name=f"{other}{number}"), enabled=True, mtu=1500)
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


async def _rounds(agent: Agent, count: int, first: int) -> list[float]:
    """Return the ms that each of some rounds took."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        await agent.modify("a0", mtu=1000 + (first + number) % 400)
        times.append((time.perf_counter() - started) * 1000)
        await anyio.lowlevel.checkpoint()
    return times


async def _measure(readers: int, *, repeats: int, waiting: bool) -> dict[str, list[float]]:
    """Return the ms of rounds without and with readers, and those to serve all of them after a round."""
    times: dict[str, list[float]] = {"without": [], "with": [], "served": []}
    async with Agent.open(Settings(label="bench"), kernel=SimulatedKernel()) as agent:
        for interface in _declared():
            await agent.configure(interface)
        for turn in range(repeats):
            times["without"] += await _rounds(agent, ROUNDS, turn * ROUNDS * 2)
            held = Readers()
            async with anyio.create_task_group() as group:
                idle = [] if waiting else [agent.states() for _ in range(readers)]
                for _ in range(readers if waiting else 0):
                    group.start_soon(held.read, agent)
                await anyio.wait_all_tasks_blocked()
                for number in range(ROUNDS):
                    before = held.events
                    times["with"] += await _rounds(agent, 1, turn * ROUNDS * 2 + ROUNDS + number)
                    started = time.perf_counter()
                    while waiting and held.events < before + readers:
                        await anyio.lowlevel.checkpoint()
                    times["served"].append((time.perf_counter() - started) * 1000)
                idle.clear()
                group.cancel_scope.cancel()
    return times
