"""The tests on the kernels of several Debian releases: ``python tests/kernels.py FOLDER``.

Each kernel is fetched into the folder, and booted once for each suite; a table tells what passed, was skipped, failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import user_mode_linux

RELEASES = ("bookworm", "trixie", "forky")
SUITES = {
    "conformance": ("tests/conformance",),
    "kinds": ("tests/kinds",),
    **{
        name: (f"tests/integration/test_{name}.py",)
        for name in (
            *("life", "addresses", "taps", "restart", "references", "namespaces", "existing", "neighbours"),
            *("crash", "kernel_listening", "kernel_names", "counters", "hostile"),
        )
    },
}
"""What to run together, by the name that the table has for it."""

LIMIT = 1800.0
"""Seconds that one suite may take."""


@dataclass
class Result:
    """What became of one suite on one kernel."""

    kernel: str
    suite: str
    passed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> str:
        """Return it as a row of the table."""
        why = "; ".join(f"{count}: {reason}" for reason, count in self.skipped.items())
        skipped = f"{self.skipped.total()} ({why})" if why else "0"
        failed = f"{len(self.failed)} ({', '.join(self.failed)})" if self.failed else "0"
        return f"| {self.kernel} | {self.suite} | {self.passed} | {skipped} | {failed} |"


def test(release: str, suite: str, tests: Sequence[str], folder: Path) -> Result:
    """Boot a kernel and run tests inside."""
    kernel = folder / release
    out = folder / "out" / release / suite
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began, report = time.monotonic(), out / "report.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    process = user_mode_linux.start(kernel, pytest, out)
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    found = Result(user_mode_linux.version(kernel), suite, seconds=time.monotonic() - began)
    if not report.exists():
        found.failed.append(f"no result; see {out}")
        return found
    for case in ET.parse(report).iter("testcase"):
        if (skip := case.find("skipped")) is not None:
            found.skipped[skip.get("message", "")] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            found.failed.append(case.get("name", ""))
        else:
            found.passed += 1
    return found


def main() -> int:
    """Test on all releases, or on those that are named; return the exit code."""
    parser = ArgumentParser(description="Run tests on the kernels of Debian releases, by user-mode Linux.")
    parser.add_argument("folder", type=Path, help="where kernels and results are kept")
    parser.add_argument("--release", action="append", help="a release by its name; may be repeated")
    parser.add_argument("tests", nargs="*", help="files of tests instead of the usual ones")
    options = parser.parse_intermixed_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    suites = {Path(test).stem: (test,) for test in options.tests} or SUITES
    results = []
    for release in options.release or RELEASES:
        user_mode_linux.fetch(release, folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = [
            pool.submit(test, release, suite, tests, folder)
            for suite, tests in suites.items()
            for release in options.release or RELEASES
        ]
        print("| kernel | tests | passed | skipped | failed |\n|---|---|---|---|---|")
        for future in asked:
            results.append(future.result())
            print(results[-1].row(), flush=True)
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
