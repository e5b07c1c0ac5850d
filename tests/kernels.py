"""The tests on the kernels of several Debian releases: ``python tests/kernels.py FOLDER``.

Each kernel is fetched into the folder, and booted once for each suite; a table tells what passed, was skipped, failed.
A kernel that is not to be had on this machine is skipped with the reason, which is no failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import user_mode_linux

RELEASES = ("bookworm", "trixie", "forky")
Suites = Mapping[str, Sequence[str]]
"""What to run together, by the name that the table has for it."""

ALL: Suites = {
    "kinds": ("tests/kinds",),
    # The oldest kernel is the slowest, and this is the longest of them.
    "address lists": ("tests/conformance/test_address_lists.py",),
    "conformance": ("tests/conformance", "--ignore=tests/conformance/test_address_lists.py"),
    **{
        name: (f"tests/integration/test_{name}.py",)
        for name in (
            *("life", "addresses", "taps", "restart", "references", "namespaces", "existing", "neighbours"),
            *("crash", "kernel_listening", "kernel_names", "counters", "hostile"),
        )
    },
}

CHOSEN: Suites = {
    "chosen": (
        "tests/kinds/test_every_kind.py",
        "tests/kinds/test_labs.py",
        *(
            f"tests/kinds/test_stacked_kinds.py::{name}"
            for name in (
                "test_it_is_made_and_a_restart_writes_nothing",
                "test_ports_join_leave_and_follow_their_master",
                "test_its_lower_link_may_be_in_another_namespace",
            )
        ),
        "tests/kinds/test_bridge_vlans.py::test_a_port_is_in_what_it_says_and_in_nothing_else",
        "tests/kinds/test_tunnels.py::test_by_which_link_it_sends_is_changed_in_place",
        *(
            f"tests/conformance/test_{name}[linux]"
            for name in (
                "links.py::test_pair_in_two_namespaces",
                "links.py::test_all_attributes_at_once",
                "links.py::test_rename",
                "links.py::test_move",
                "links.py::test_delete_one_end",
                "links.py::test_carrier_needs_both_ends",
                "links.py::test_renamed_while_it_is_up_a_link_keeps_its_addresses",
                "links.py::test_many_deleted_at_once_leave_the_others",
                "altnames.py::test_altnames_are_told",
                "addresses.py::test_ipv4_in_the_order_added_then_the_secondaries",
                "addresses.py::test_down_takes_ipv6_away",
                "addresses.py::test_ipv6_off_in_the_namespace",
                "checksums.py::test_what_somebody_else_switches_is_told",
                "namespaces.py::test_attach_lists_everything",
                "namespaces.py::test_remove_with_links_in_it",
            )
        ),
        "tests/integration/test_restart.py::test_a_restart_touches_nothing_that_is_right",
        "tests/integration/test_taps.py::test_a_tap_is_waited_for_adopted_and_given_back",
    )
}
"""What is likely to differ between kernels: one test for each thing that is asked of them, a minute in all."""

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
        return f"| {self.kernel} | {self.suite} | {self.passed} | {skipped} | {failed} | {self.seconds:.0f} s |"


def test(release: str, suite: str, tests: Sequence[str], folder: Path) -> Result:
    """Boot a kernel and run tests inside: those that need one."""
    kernel = folder / release
    out = folder / "out" / release / suite.replace(" ", "_")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began, report = time.monotonic(), out / "report.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "kernel", f"--junitxml={report}"]
    process = user_mode_linux.start(kernel, [*pytest, *tests], out)
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
    if not (found.passed or found.skipped or found.failed):
        found.failed.append(f"none of these tests needs a kernel; see {out}")
    return found


def available(releases: Iterable[str], folder: Path, *, within: float) -> list[str]:
    """Fetch kernels, and return the releases whose kernel can be had; the reason is printed for the others."""
    found: list[str] = []
    ends = time.monotonic() + within
    for release in releases:
        try:
            kernel = user_mode_linux.fetch(release, folder, within=max(ends - time.monotonic(), 1))
            if not found:
                (out := folder / "out" / "boots").mkdir(parents=True, exist_ok=True)
                user_mode_linux.check_boots(kernel, out)
        except user_mode_linux.Unavailable as problem:
            print(f"SKIPPED: the kernel of Debian {release}, which cannot be had: {problem}", flush=True)
        else:
            found.append(release)
    return found


def options() -> Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description="Run tests on the kernels of Debian releases, by user-mode Linux.")
    parser.add_argument("folder", type=Path, help="where kernels and results are kept")
    parser.add_argument("--release", action="append", help="a release by its name; may be repeated")
    parser.add_argument("--all", action="store_true", help="everything that asks something of the kernel; half an hour")
    parser.add_argument(
        "--within",
        type=float,
        default=user_mode_linux.WITHIN,
        help="seconds for fetching kernels (default: %(default)s)",
    )
    parser.add_argument("tests", nargs="*", help="files of tests instead of the chosen ones")
    return parser.parse_intermixed_args()


def main() -> int:
    """Test on all releases, or on those that are named; return the exit code."""
    given = options()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    named = {Path(test).stem: (test,) for test in given.tests}
    suites = named or (ALL if given.all else CHOSEN)
    releases = available(given.release or RELEASES, folder, within=given.within)
    if not releases:
        print("SKIPPED: no test ran on another kernel")
        return 0
    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = [
            pool.submit(test, release, suite, tests, folder) for suite, tests in suites.items() for release in releases
        ]
        print("| kernel | tests | passed | skipped | failed | took |\n|---|---|---|---|---|---|", flush=True)
        for future in asked:
            result = future.result()
            failed = failed or bool(result.failed)
            print(result.row(), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
