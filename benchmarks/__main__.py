"""The command: measure rows, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import private
from etcd_server import running

from benchmarks import (
    change,
    cold_start,
    deletion,
    events,
    floods,
    kinds,
    memory,
    others,
    outlets,
    readers,
    resync,
    scaling,
    starts,
    storms,
)
from benchmarks.bench import Bench
from benchmarks.results import Figure, machine, say, table, write_into
from benchmarks.store import Store

Measure = Callable[[Bench], Iterator[Figure]]

ROWS: dict[str, Measure] = {
    "P1": cold_start.run,
    "P2": cold_start.run,
    "P3": change.run,
    "P4": resync.run,
    "P5": deletion.run,
    "P6": events.run,
    "P7": memory.run,
    "P8": cold_start.run_wide,
    "P9": starts.run,
    "P10": others.run,
    "K1": kinds.run,
    "R1": readers.run,
    "O1": outlets.run,
    "S1": scaling.run_interfaces,
    "S2": scaling.run_namespaces,
    "S3": scaling.run_events,
    "T1": storms.run,
    "T11": floods.run,
}
"""What measures each row; a function may measure several."""

QUICK = ["P1", "P3", "P4", "P5", "P9"]
"""The rows of ``--quick``, unless others are asked for."""


def main() -> int:
    """Measure what was asked for; fail if that cannot be done, and with ``--quick`` if a ratio is far out."""
    options = _options()
    wanted = (QUICK if options.quick else list(ROWS)) if options.rows is None else options.rows.split(",")
    if unknown := set(wanted) - ROWS.keys():
        say(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
        return 2
    if problem := private.enter():
        say(problem)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # etcd and agents are to end with it
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: list[Figure] = []
    failed: list[str] = []
    about = machine()
    say("  ".join(f"{name} {value}" for name, value in about.items()))
    with tempfile.TemporaryDirectory(dir="/run") as name:
        folder = Path(name)
        (folder / "etcd").mkdir()
        with running(folder / "etcd") as etcd:
            bench = Bench(Store(etcd.url), folder, options.repeats or (2 if options.quick else 5), options.quick)
            for measure in dict.fromkeys(ROWS[row] for row in wanted):
                say(f"{measure.__module__} {measure.__name__}, load {os.getloadavg()[0]:.1f}")
                try:
                    for measured in measure(bench):
                        figure = measured.quick() if options.quick else measured
                        figures.append(figure)
                        say(f"  {figure.row} {figure.measure}: {statistics.median(figure.values):.4g} {figure.unit}")
                except Exception:  # noqa: BLE001 what was measured before is worth having
                    say(traceback.format_exc())
                    failed.append(measure.__module__)
            bench.store.close()
    told = f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n{table(figures)}\n"
    print(told)
    if options.document:
        write_into(options.document, told)
    if options.json:
        report = {"machine": about, "quick": options.quick, "figures": [figure.as_json() for figure in figures]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if failed:
        say(f"could not be measured: {', '.join(failed)}")
    return 1 if failed or (options.quick and any(figure.met is False for figure in figures)) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rows", help=f"some of {','.join(ROWS)}; all unless given, {','.join(QUICK)} if quick")
    parser.add_argument("--repeats", type=int, help="how often each thing is measured; 5 unless given, 2 if quick")
    parser.add_argument("--quick", action="store_true", help="small numbers, and fail if a ratio is far out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--document", type=Path, metavar="FILE", help="put the table into this document, between marks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
