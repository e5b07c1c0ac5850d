"""P3: how long one change takes, and how that depends on how much there is.

A change is another MTU for one end. It is timed from the beginning of the put into etcd (whose data is in memory, so
that no disk is measured) until a netlink listener of our own, in the end's namespace, hears the kernel tell of the new
MTU. Agents with few and with many interfaces run side by side and are asked in turn, when all of them are idle.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.agent_process import AgentProcess
from benchmarks.bench import Bench
from benchmarks.fixture import End, both, key, pairs, values
from benchmarks.netlink import Listener, entered
from benchmarks.results import Figure, percentile, say
from benchmarks.spaces import Spaces

NAMESPACES = 50
INTERFACES = (100, 1_000, 10_000)
INTERFACES_QUICK = (20, 200)
SAMPLES = 20
"""Changes in one repeat."""


class Sized:
    """One agent with a number of interfaces, all applied."""

    def __init__(self, bench: Bench, stack: ExitStack, interfaces: int) -> None:
        self._bench = bench
        self._label = f"n{interfaces}"
        width = min(NAMESPACES, interfaces // 2)
        self._spaces = stack.enter_context(Spaces.made(bench.folder / self._label, width))
        self._ends = both(pairs(interfaces // 2, self._spaces.names))
        bench.store.put(values(self._ends, self._label))
        self.agent: AgentProcess = stack.enter_context(bench.agent(self._label, self._spaces.directory))
        started = time.perf_counter()
        self.agent.wait_applied(interfaces)
        say(f"  {interfaces} interfaces are there after {time.perf_counter() - started:.1f} s")

    def change_one(self) -> float:
        """Return the ms that one change takes."""
        place = random.randrange(len(self._ends))
        end = self._ends[place]
        changed: End = replace(end, mtu=1300 + (end.mtu + 1) % 100)
        self._ends[place] = changed
        listener = entered(str(self._spaces.directory / end.space), Listener)
        started = time.perf_counter()
        put = self._bench.store.put_soon(key(self._label, end.name), json.dumps(changed.value).encode())
        listener.wait_mtu(end.name, changed.mtu)
        seconds = time.perf_counter() - started
        put.result()
        listener.close()
        return seconds * 1000


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P3."""
    sizes = INTERFACES_QUICK if bench.quick else INTERFACES
    times: dict[int, list[list[float]]] = {size: [] for size in sizes}
    puts: list[list[float]] = []
    with ExitStack() as stack:
        contenders = {size: Sized(bench, stack, size) for size in sizes}
        for turn in range(bench.repeats):
            for found in times.values():
                found.append([])
            puts.append([])
            for _ in range(SAMPLES):
                for size, contender in contenders.items():
                    for each in contenders.values():
                        each.agent.wait_idle()
                    times[size][-1].append(contender.change_one())
                puts[-1].append(_put_alone(bench))
            medians = ", ".join(f"{size}: {percentile(found[-1], 50):.2f} ms" for size, found in times.items())
            say(f"  turn {turn + 1}: {medians}")
    yield from _figures(times)
    p50 = [percentile(turn, 50) for turn in puts]
    yield Figure(row="P3", measure="a put that no agent hears, p50", values=p50, unit="ms")


def _put_alone(bench: Bench) -> float:
    """Return the ms until etcd has answered to a put under a key that nobody watches."""
    started = time.perf_counter()
    bench.store.put_soon(b"/nobody", b"1").result()
    return (time.perf_counter() - started) * 1000


def _figures(times: dict[int, list[list[float]]]) -> Iterator[Figure]:
    few, many = min(times), max(times)
    for size, turns in times.items():
        every = [value for turn in turns for value in turn]
        for percent in (50, 99):
            yield Figure(
                row="P3",
                measure=f"one change among {size} interfaces, p{percent}",
                values=[percentile(turn, percent) for turn in turns] if percent == 50 else [percentile(every, 99)],
                unit="ms",
                most=5.0 if (size, percent) == (many, 50) else None,
            )
    medians = {size: [percentile(turn, 50) for turn in turns] for size, turns in times.items()}
    yield Figure(
        row="P3",
        measure=f"one change among {many} interfaces, p50",
        values=medians[many],
        unit="ms",
        reference=f"among {few}",
        ratios=[one / two for one, two in zip(medians[many], medians[few], strict=True)],
        most=1.5,
        quick_most=3.0,
    )
