"""Real processes for tests, under a process id of the test's choice where that matters."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from patience import PATIENCE

SLEEP = ("sleep", "600")
"""A process that only is there."""

OWN_SPACE = ("unshare", "-n")
"""In front of a command: run it in a network namespace of its own."""

_START_AS = """
import ctypes, os, struct, sys
pid, command, libc = int(sys.argv[1]), sys.argv[2:], ctypes.CDLL(None, use_errno=True)
set_tid = ctypes.c_int(pid)
arguments = struct.pack("=11Q", 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(set_tid), 1, 0)
started = libc.syscall(435, arguments, len(arguments))  # clone3
if started == 0:
    os.execvp(command[0], command)
if started < 0:
    print(os.strerror(ctypes.get_errno()), flush=True)
    sys.exit(1)
print(flush=True)
sys.stdin.read()
os.waitpid(started, 0)
"""
"""Starts a program under a given process id, and collects it once the standard input is closed."""


class Spawned:
    """A process that runs ``command`` until the context is left."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def kill(self) -> None:
        """Kill it, and leave a zombie."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def tell(self) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Kill it and collect it, so that its id is free."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()

    @property
    def space(self) -> int:
        """The network namespace that it is in."""
        return space_of(self.pid)


class SpawnedAs:
    """A process that runs ``command`` under a process id that nobody has, until the context is left.

    Raises ``PermissionError`` where an id may not be chosen.
    """

    def __init__(self, pid: int, *command: str) -> None:
        self.pid = pid
        self._starter = subprocess.Popen(
            [sys.executable, "-ISc", _START_AS, str(pid), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._starter.stdout
        if problem := self._starter.stdout.readline().strip():
            self._collect()
            raise PermissionError(f"process {pid} cannot be made: {problem}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill it and collect it, so that its id is free."""
        if self._starter.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self._collect()

    @property
    def space(self) -> int:
        """The network namespace that it is in."""
        return space_of(self.pid)

    def _collect(self) -> None:
        self._starter.communicate(timeout=10 * PATIENCE)


def space_of(pid: int) -> int:
    """Return the network namespace of a process, 0 if it has none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


def free_pid() -> int:
    """Return a process id that nobody has, and is not the next in turn."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    while True:
        pid = random.randrange(highest // 2, highest)
        if not Path(f"/proc/{pid}").exists():
            return pid


def open_files() -> list[str]:
    """Return what the process has open, without numbers, for comparing."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(re.sub(r"\d+", "", str(entry.readlink())))
    return sorted(found)


def pidfds() -> int:
    """Count the processes that the process holds on to."""
    return sum("pidfd" in file for file in open_files())
