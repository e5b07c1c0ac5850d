"""A control group for everything that a test starts: whatever it becomes, it is found there, ended, and taken away."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

WITHIN = 10.0
"""Seconds within which killed processes have to be gone."""


class ControlGroup:
    """One group in every hierarchy that a service manager makes groups in; begins without processes."""

    def __init__(self) -> None:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        used = [
            Path(target)
            for _, target, kind, options, *_ in mounts
            if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
        ]
        name = f"ifagent-test-{uuid.uuid4().hex[:8]}"
        self._groups = [hierarchy / name for hierarchy in used]
        for group in self._groups:
            group.mkdir()

    def command(self, command: Sequence[str]) -> list[str]:
        """Return a command that does the same inside."""
        enter = "".join(f"echo $$ >{group}/cgroup.procs && " for group in self._groups)
        return ["/bin/sh", "-c", enter + 'exec "$0" "$@"', *command]

    def clean_up(self) -> None:
        """Kill everything inside and remove the groups."""
        deadline = time.monotonic() + WITHIN
        while pids := set(self._pids()):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"cannot be killed: {pids}"
            time.sleep(0.01)
        for group in self._groups:
            for one in (*sorted(group.rglob("*/"), reverse=True), group):
                while not _is_removed(one):
                    assert time.monotonic() < deadline, f"cannot be removed: {one}"
                    time.sleep(0.01)

    def _pids(self) -> Iterator[int]:
        for group in self._groups:
            for path in group.rglob("cgroup.procs"):
                with suppress(OSError):
                    yield from map(int, path.read_text().split())


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
