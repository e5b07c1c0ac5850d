"""P1, P2 and P8: how long pairs take, against ``ip -batch`` and the floor.

P1: the agent's process starts, the values are in etcd. What is counted is the time from when it says that it has
started, all of the program being read, until it says of the last interface that it is applied (the kernel is looked at
afterwards, and must agree), less the time that a second agent with nothing to do, and no namespaces, takes from there
until it is ready. P2: the values are put into etcd, in transactions of
100, while an agent with nothing to do runs; from the first put to the last interface applied.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from errno import EEXIST
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.fixture import Pair, both, pairs, values, write_batches
from benchmarks.netlink import Floor, Listener, Sender, name_space, packed
from benchmarks.results import Figure, say
from benchmarks.spaces import Spaces

LABEL = "cold"


class Contest:
    """The same pairs made by different programs, each time from empty namespaces."""

    def __init__(self, bench: Bench, spaces: Spaces, made: list[Pair]) -> None:
        self._bench = bench
        self._spaces = spaces
        self._made = made
        self._ends = both(made)
        self._values = values(self._ends, LABEL)
        self.open_files = 0
        self.start_ups: list[float] = []
        self.spent: dict[str, list[float]] = {name: [] for name in ("cold", "warm", "ip", "floor")}

    def empty_agent(self) -> float:
        """Return the seconds from when an agent with nothing to do has started until it is ready."""
        nothing = self._bench.folder / "nothing"
        nothing.mkdir(exist_ok=True)
        with self._bench.agent("empty", nothing) as agent:
            seconds = agent.wait_ready() - agent.started
        self.start_ups.append(agent.ready - agent.born)
        return seconds

    def cold(self) -> float:
        """Return the seconds from when the agent has started to the last interface."""
        self._bench.store.put(self._values)
        with self._bench.agent(LABEL, self._spaces.directory) as agent:
            seconds = agent.wait_applied(len(self._ends)) - agent.started
            self.spent["cold"].append(agent.spent)
            self.open_files = agent.open_files
            self._spaces.check(self._ends)
        return self._cleared(seconds)

    def warm(self) -> float:
        """Return the seconds from the first put to the last interface."""
        with self._bench.agent(LABEL, self._spaces.directory) as agent:
            agent.wait_ready()
            agent.wait_idle()
            before, started = agent.spent, time.perf_counter()
            self._bench.store.put(self._values)
            seconds = agent.wait_applied(len(self._ends)) - started
            self.spent["warm"].append(agent.spent - before)
            self._spaces.check(self._ends)
        return self._cleared(seconds)

    def ip(self) -> float:
        """Return the seconds that ``ip -batch`` takes for all files."""
        folder = self._bench.folder / "batches"
        folder.mkdir(exist_ok=True)
        files = write_batches(self._made, folder)
        # ip looks for names in /run/netns only.
        commands = [["ip", "-n", space, "-batch", str(path)] for space, path in files]
        before, started = _spent_by_children(), time.perf_counter()
        for command in commands:
            subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        self.spent["ip"].append(_spent_by_children() - before)
        self._spaces.check(self._ends)
        return self._cleared(seconds)

    def floor(self) -> float:
        """Return the seconds that the floor takes."""
        with Floor.prepared(self._made, self._spaces.directory) as floor:
            before, started = time.thread_time(), time.perf_counter()
            floor.run()
            seconds = time.perf_counter() - started
            self.spent["floor"].append(time.thread_time() - before)
        self._spaces.check(self._ends)
        return self._cleared(seconds)

    def heard_floor(self) -> float:
        """Return the seconds that the floor takes if it also receives, and throws away, what the kernel tells."""
        namer, listener = Sender(), Listener(everywhere=True)
        for path in self._spaces.paths:
            with path.open() as file:
                namer.send(packed([name_space(file.fileno())])[0], accept=[EEXIST])
        namer.close()
        with Floor.prepared(self._made, self._spaces.directory) as floor:
            started = time.perf_counter()
            counted: list[int] = []
            floor.run(lambda: counted.append(listener.drain()))
            seconds = time.perf_counter() - started
        listener.close()
        assert sum(counted) > len(self._ends) * 4, counted
        return self._cleared(seconds)

    def _cleared(self, seconds: float) -> float:
        self._bench.store.clear(LABEL)
        self._spaces.sweep(LABEL)
        time.sleep(0.5)  # what the kernel does after the end of a link is not to disturb the next
        return seconds


def _spent_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def in_turn(repeats: int, **contenders: Callable[[], float]) -> dict[str, list[float]]:
    """Measure contenders in turn, A B A B ..., and return the seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name, contender in contenders.items():
            times[name].append(contender())
        say(f"  turn {turn + 1}: " + ", ".join(f"{name} {found[-1]:.3f} s" for name, found in times.items()))
    return times


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P1 and P2."""
    count, width = (60, 12) if bench.quick else (500, 100)
    with Spaces.made(Path("/run/netns"), width) as spaces:
        contest = Contest(bench, spaces, pairs(count, spaces.names))
        times = in_turn(
            bench.repeats,
            empty=contest.empty_agent,
            cold=contest.cold,
            ip=contest.ip,
            warm=contest.warm,
            floor=contest.floor,
            heard=contest.heard_floor,
        )
    net = [cold - empty for cold, empty in zip(times["cold"], times["empty"], strict=True)]
    yield Figure(row="P1", measure="the agent's start-up", values=contest.start_ups, unit="s")
    for row, what, mine in (("P1", "cold start", net), ("P2", "put into a running agent", times["warm"])):
        for other, name, most, broken in (("ip", "ip -batch", 1.0, 4.0), ("floor", "the floor", 2.0, 16.0)):
            yield Figure(
                row=row,
                measure=f"{count} pairs, {what}",
                values=[seconds / count * 1000 for seconds in mine],
                unit="ms/pair",
                reference=name,
                ratios=[one / two for one, two in zip(mine, times[other], strict=True)],
                most=most,
                quick_most=broken,
            )
    for row, what in (("P1", "cold"), ("P2", "warm")):
        for other, name, broken in (("ip", "ip -batch", 5.0), ("floor", "the floor", 20.0)):
            yield Figure(
                row=row,
                measure=f"{count} pairs, processor time",
                values=[seconds / count * 1000 for seconds in contest.spent[what]],
                unit="ms/pair",
                reference=name,
                ratios=[one / two for one, two in zip(contest.spent[what], contest.spent[other], strict=True)],
                quick_most=broken,
            )
    names = {"ip": "ip -batch", "floor": "the floor", "heard": "the floor that also hears what it does"}
    for other, name in names.items():
        yield Figure(
            row="P1",
            measure=f"{count} pairs, {name}",
            values=[seconds / count * 1000 for seconds in times[other]],
            unit="ms/pair",
        )


def run_wide(bench: Bench) -> Iterator[Figure]:
    """Measure P8."""
    few, many = (12, 40) if bench.quick else (100, 1000)
    count = few if bench.quick else 500
    with (
        Spaces.made(bench.folder / "few", few) as narrow_spaces,
        Spaces.made(bench.folder / "many", many) as wide_spaces,
    ):
        narrow = Contest(bench, narrow_spaces, pairs(count, narrow_spaces.names))
        wide = Contest(bench, wide_spaces, pairs(many, wide_spaces.names))
        times = in_turn(bench.repeats, empty=narrow.empty_agent, narrow=narrow.cold, wide=wide.cold, floor=wide.floor)
    each = [
        ((wide - empty) / many, (narrow - empty) / count)
        for empty, narrow, wide in zip(times["empty"], times["narrow"], times["wide"], strict=True)
    ]
    yield Figure(
        row="P8",
        measure=f"{many} namespaces x 2 interfaces, cold start",
        values=[wide * 1000 for wide, _ in each],
        unit="ms/pair",
        reference=f"{count} pairs in {few} namespaces",
        ratios=[wide / narrow for wide, narrow in each],
        most=1.5,
        quick_most=6.0,
    )
    yield Figure(
        row="P8",
        measure=f"{many} namespaces x 2 interfaces, cold start",
        values=[wide * 1000 for wide, _ in each],
        unit="ms/pair",
        reference="the floor",
        ratios=[wide / (floor / many) for (wide, _), floor in zip(each, times["floor"], strict=True)],
    )
    yield Figure(row="P8", measure="open files", values=[wide.open_files / many], unit="a namespace", most=3)
