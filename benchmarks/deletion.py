"""P5: how long it takes until all pairs are gone, against deleting them one by one in a single thread.

The agent runs as a process; from the request that deletes all keys in etcd until it says of the last interface that it
is deleted. The others are deleted by the floor's sender, over one socket in each namespace.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cold_start import in_turn
from benchmarks.fixture import Pair, both, key, pairs, values
from benchmarks.netlink import Floor, Sender, delete_link, entered, packed
from benchmarks.results import Figure
from benchmarks.spaces import Spaces

LABEL = "deletion"


class Deletion:
    """The same pairs deleted in two ways."""

    def __init__(self, bench: Bench, spaces: Spaces, made: list[Pair]) -> None:
        self._bench = bench
        self._spaces = spaces
        self._made = made

    def agent(self) -> float:
        """Return the seconds that the agent takes."""
        ends = both(self._made)
        with self._bench.agent(LABEL, self._spaces.directory) as agent:
            self._bench.store.put(values(ends, LABEL))
            agent.wait_applied(len(ends))
            time.sleep(self._bench.calm)
            agent.wait_idle()
            started = time.perf_counter()
            self._bench.store.delete(key(LABEL, ""))
            seconds = agent.wait_deleted(len(ends)) - started
            self._spaces.check([])
        self._bench.store.clear(LABEL)
        return seconds

    def one_by_one(self) -> float:
        """Return the seconds that one thread takes."""
        with Floor.prepared(self._made, self._spaces.directory) as floor:
            floor.run()
        time.sleep(self._bench.calm)
        senders = {name: entered(str(self._spaces.directory / name), Sender) for name in self._spaces.names}
        work = [
            (senders[near.space], packed([delete_link(ifindex)])[0])
            for (near, _), ifindex in zip(self._made, floor.ifindexes, strict=True)
        ]
        started = time.perf_counter()
        for sender, request in work:
            sender.send(request)
        seconds = time.perf_counter() - started
        self._spaces.check([])
        for sender in senders.values():
            sender.close()
        return seconds


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P5."""
    count, width = (60, 12) if bench.quick else (500, 100)
    with Spaces.made(Path("/run/netns"), width) as spaces:
        deletion = Deletion(bench, spaces, pairs(count, spaces.names))
        times = in_turn(bench.repeats, agent=deletion.agent, single=deletion.one_by_one)
    yield Figure(
        row="P5",
        measure=f"{count} pairs deleted one by one",
        values=[seconds * 1000 for seconds in times["single"]],
        unit="ms",
    )
    yield Figure(
        row="P5",
        measure=f"{count} pairs deleted, times faster",
        values=[seconds * 1000 for seconds in times["agent"]],
        unit="ms",
        reference="one by one",
        ratios=[single / agent for single, agent in zip(times["single"], times["agent"], strict=True)],
        least=10.0,
        quick_least=4.0,
    )
