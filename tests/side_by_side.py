"""Run the test files of folders in several processes at a time: ``python tests/side_by_side.py COMMAND -- FOLDERS``.

Each process has a network and mounts of its own (:mod:`private`), so no test sees those of another process. The largest
files are dealt out first. What a process prints is shown when it ends; the exit code is 1 if any has failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

FILES_AT_A_TIME = 3
"""Test files of one process: starting one takes as long as several short tests."""

NO_TESTS = 5
"""pytest's exit code where no test was selected."""


def portions(folders: Sequence[str]) -> list[list[str]]:
    """Return the test files, a list for each process."""
    files = [path for folder in folders for path in Path(folder).rglob("test_*.py")]
    files.sort(key=lambda path: (-path.stat().st_size, path))
    count = -(-len(files) // FILES_AT_A_TIME)
    return [[str(path) for path in files[start::count]] for start in range(count)]


def main() -> int:
    """Run everything, and say which files have failed."""
    split = sys.argv.index("--")
    command, folders = sys.argv[1:split], sys.argv[split + 1 :]
    failed: list[str] = []

    def run(files: list[str]) -> tuple[list[str], subprocess.CompletedProcess[str]]:
        done = subprocess.run(
            [*command, *files],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return files, done

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for future in as_completed([threads.submit(run, files) for files in portions(folders)]):
            files, done = future.result()
            sys.stdout.write(done.stdout)
            sys.stdout.flush()
            if done.returncode not in {0, NO_TESTS}:
                failed += files
    if failed:
        sys.stdout.write(f"\nfailed, in one of each process's files:\n{chr(10).join(failed)}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
