"""Fuzz the decoders, guided by what code an input reaches: ``nox -s fuzz -- [options] [targets]``.

Each target of :mod:`fuzz.targets` runs in a process of its own, from its samples and its kept corpus, until it has had
its share of the executions. An input that raises, takes too long or too much memory ends its target; it is kept under
``--crashes`` and the program exits with 1. With ``--keep`` the corpus takes in what reaches new code.

The table says for each target how many executions there were, in what time, and the most memory of its process.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

from fuzz.targets import CORPUS, TARGETS, Target

MAX_KEPT = 24
"""Most files that are kept for one target."""

_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)
_HEAD = "| target | executions | time | crashes | hangs | peak memory |\n| --- | --: | --: | --: | --: | --: |"

Way = tuple[CodeType, int, int]
"""Two lines of a function that were executed one after the other."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one target's run went; ``artifact`` is the input that ended it early, or what it said, if anything did."""

    name: str
    executions: int
    seconds: float
    peak_mb: int
    artifact: Path | None

    def __str__(self) -> str:
        """One row of the table."""
        hung = self.artifact is not None and self.artifact.name.startswith(("timeout", "slow"))
        crashed = self.artifact is not None and not hung
        return (
            f"| {self.name} | {self.executions:,} | {self.seconds:,.0f} s | {crashed:d} | {hung:d} "
            f"| {self.peak_mb} MiB |"
        )


def main() -> int:
    """Run the chosen targets one after the other; return the exit code."""
    options = _options()
    logging.getLogger("ifagent").setLevel(logging.CRITICAL)
    chosen = [TARGETS[name] for name in options.targets or TARGETS]
    shares = sum(target.share for target in chosen)
    results = []
    print(_HEAD)
    for target in chosen:
        result = _fuzz(target, max(1, options.runs * target.share // shares), options)
        results.append(result)
        print(result, flush=True)
    total, seconds = sum(result.executions for result in results), sum(result.seconds for result in results)
    print(f"| all | {total:,} | {seconds:,.0f} s | | | {max(result.peak_mb for result in results)} MiB |")
    for result in results:
        if result.artifact:
            print(f"{result.name}: see {result.artifact}", file=sys.stderr)
    return 1 if any(result.artifact for result in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"all unless given: {', '.join(TARGETS)}")
    parser.add_argument("--runs", type=int, default=30_000, help="executions of all targets together (%(default)s)")
    parser.add_argument("--timeout", type=int, default=10, help="most seconds for one input (%(default)s)")
    parser.add_argument("--memory", type=int, default=1024, help="most MiB of a process (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes; 0 for another one each time")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), help="folder for what crashes")
    parser.add_argument("--keep", action="store_true", help="change the corpus for what reaches new code")
    options = parser.parse_args()
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    return options


def _fuzz(target: Target, runs: int, options: argparse.Namespace) -> Result:
    """Run one target in a process of its own."""
    crashes = options.crashes.absolute() / target.name
    shutil.rmtree(crashes, ignore_errors=True)
    crashes.mkdir(parents=True)
    limits = [f"-runs={runs}", f"-timeout={options.timeout}", f"-rss_limit_mb={options.memory}"]
    limits += [f"-max_len={target.longest}", f"-artifact_prefix={crashes}/", f"-seed={options.seed}"]
    with tempfile.TemporaryDirectory() as scratch:
        found, seeds = Path(scratch) / "found", Path(scratch) / "seeds"
        found.mkdir()
        seeds.mkdir()
        for data in (*target.samples(), *(path.read_bytes() for path in target.kept)):
            (seeds / _digest(data)).write_bytes(data)
        start = time.monotonic()
        command = [sys.executable, "-m", "fuzz.one_target", target.name, "-print_final_stats=1", "-detect_leaks=0"]
        done = subprocess.run(
            [*command, *limits, str(found), str(seeds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        seconds = time.monotonic() - start
        if options.keep:
            _keep(target, found)
    said = done.stdout.decode(errors="replace")
    statistics = {key: int(value) for key, value in _STATISTIC.findall(said)}
    artifacts = sorted(crashes.iterdir())
    if done.returncode or artifacts:
        (crashes / "log").write_text(said)
        artifacts.append(crashes / "log")
    else:
        crashes.rmdir()
    return Result(
        name=target.name,
        executions=statistics.get("number_of_executed_units", 0),
        seconds=seconds,
        peak_mb=statistics.get("peak_rss_mb", 0),
        artifact=artifacts[0] if artifacts else None,
    )


def _keep(target: Target, found: Path) -> None:
    """Leave in the corpus the few inputs, short ones first, that take ways through the code that samples do not."""
    folder = CORPUS / target.name
    inputs = {path.read_bytes() for place in (found, folder) for path in place.glob("*")}
    ways = {data: _ways(target, data) for data in sorted(inputs, key=lambda data: (len(data), data))}
    seen = set[Way]().union(*(_ways(target, data) for data in target.samples()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for _ in range(MAX_KEPT):
        best = max(ways, key=lambda data: len(ways[data] - seen), default=b"")
        if not ways.get(best, set()) - seen:
            break
        seen |= ways[best]
        (folder / _digest(best)[:16]).write_bytes(best)


def _ways(target: Target, data: bytes) -> set[Way]:
    """Return the ways through ifagent's code that an input takes."""
    found: set[Way] = set()

    def follow(frame: FrameType, event: str, _: object) -> object:
        code, before = frame.f_code, 0
        if event != "call" or "/ifagent/" not in code.co_filename:
            return None

        def line(frame: FrameType, event: str, _: object) -> object:
            nonlocal before
            if event == "line":
                found.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line

    sys.settrace(follow)  # type: ignore[arg-type]
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
