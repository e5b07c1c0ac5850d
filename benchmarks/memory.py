"""P7: how much memory an agent has, with nothing to do, and more for every interface."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.fixture import both, pairs, values
from benchmarks.results import Figure
from benchmarks.spaces import Spaces

LABEL = "memory"
NAMESPACES = 20


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P7: resident memory, after everything has been applied and is quiet."""
    many = 200 if bench.quick else 4_000
    empty: list[int] = []
    full: list[int] = []
    with Spaces.made(bench.folder / LABEL, NAMESPACES) as spaces:
        ends = both(pairs(many // 2, spaces.names))
        for _ in range(min(bench.repeats, 3)):
            with bench.agent(LABEL, spaces.directory) as agent:
                agent.wait_ready()
                agent.wait_idle()
                empty.append(agent.resident)
                bench.store.put(values(ends, LABEL))
                agent.wait_applied(many)
                agent.wait_idle()
                full.append(agent.resident)
            bench.store.clear(LABEL)
            spaces.sweep(LABEL)
    each = [(one - two) / many / 1024 for one, two in zip(full, empty, strict=True)]
    yield Figure(row="P7", measure="empty agent", values=[n / 1e6 for n in empty], unit="MB", most=70.0)
    yield Figure(row="P7", measure=f"more for each of {many} interfaces", values=each, unit="KiB", most=6.0)
