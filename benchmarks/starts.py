"""P9: how long it takes until Python has the program's first answer, and the package."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.results import Figure

COMMANDS = {
    "python -c pass": (["-c", "pass"], None, None),
    "ifagent --help": (["-m", "ifagent", "--help"], 120.0, 20.0),
    "import ifagent": (["-c", "import ifagent"], 250.0, 20.0),
    "import and make an agent": (["-c", "import ifagent; ifagent.Agent()"], None, 200.0),
}
"""What is run, the most ms that it may take, and the most times an empty program that it takes anywhere."""


def run(bench: Bench) -> Iterator[Figure]:
    """Measure P9."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(bench.repeats * 3 + 1):
        for name, (words, _, _) in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first one may find files that are not in memory
                times[name].append((time.perf_counter() - started) * 1000)
    bare = times["python -c pass"]
    for name, (_, most, broken) in COMMANDS.items():
        yield Figure(row="P9", measure=name, values=times[name], unit="ms", most=most)
        if broken is not None:
            ratios = [one / two for one, two in zip(times[name], bare, strict=True)]
            yield Figure(
                row="P9",
                measure=name,
                values=times[name],
                unit="ms",
                reference="python -c pass",
                ratios=ratios,
                quick_most=broken,
            )
