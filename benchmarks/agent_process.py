"""The agent as a real process; how far it is comes from its log, the line's arrival being the time that counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

PATIENCE = 300.0
"""Seconds after which a wait is given up."""


_UNBOUNDED = (
    "from ifagent import log_limit; log_limit.IN_A_ROW = log_limit.ABOUT_ONE = 1 << 60; "
    "from ifagent.cli import main; main()"
)
"""The command ``ifagent`` without a bound on log lines: they tell when each interface was applied."""


_ORDINARY = "from ifagent.cli import main; main()"
"""The command ``ifagent``."""


class AgentProcess:
    """``ifagent run`` for one label, from the block's beginning to its end.

    ``born`` is when the process was made, ``started`` when the program was read and began, ``ready`` when its first
    round was done, in seconds of ``time.perf_counter``. ``applied`` and ``deleted`` are how often an interface was said
    to be so. With ``every_line`` false it runs as anybody runs it: of many lines with one cause most are left out.
    ``environment`` has variables beside those of this process.
    """

    def __init__(
        self,
        label: str,
        store: str,
        *,
        netns_dir: Path,
        folder: Path,
        under: Sequence[str] = (),
        options: Sequence[str] = (),
        every_line: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.born = 0.0
        self.started = 0.0
        self.spent_before = 0.0
        self.ready = 0.0
        self.applied = 0
        self.deleted = 0
        self._last = 0.0
        self._others: list[bytes] = []
        self._environment = {**os.environ, **(environment or {})}
        self._command = [
            *(
                *under,
                sys.executable,
                "-c",
                _UNBOUNDED if every_line else _ORDINARY,
                "run",
                "--label",
                label,
                "--store",
                store,
            ),
            *("--socket", str(folder / f"{label}.sock"), "--netns-dir", str(netns_dir), "--log-format", "json"),
            *options,
        ]

    def __enter__(self) -> Self:
        self.born = time.perf_counter()
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, env=self._environment)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End it in order, so that the label is free at once."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self) -> float:
        """Wait until it says so; return when."""
        self._until(lambda: bool(self.ready))
        return self.ready

    def wait_applied(self, count: int) -> float:
        """Wait until so many interfaces have been applied; return when the last was."""
        self._until(lambda: self.applied >= count)
        return self._last

    def wait_deleted(self, count: int) -> float:
        """Wait until so many interfaces have been deleted; return when the last was."""
        self._until(lambda: self.deleted >= count)
        return self._last

    def wait_idle(self) -> None:
        """Wait until it has used next to no processor time for a while."""
        before, quiet = self.processor_time, 0
        while quiet < 3:
            time.sleep(0.01)
            now = self.processor_time
            quiet = quiet + 1 if now - before < 0.0005 else 0
            before = now

    @property
    def processor_time(self) -> float:
        """Seconds that its main thread has run."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    @property
    def spent(self) -> float:
        """Seconds of processor time that all its threads have used since it has started."""
        return self._spent - self.spent_before

    @property
    def _spent(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.pid)

    @property
    def open_files(self) -> int:
        """How many files it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.perf_counter() + PATIENCE
        while not condition():
            if self._process.poll() is not None or time.perf_counter() > deadline:
                said = b"".join(self._others[-20:]).decode()
                raise RuntimeError(f"the agent has {self.applied} interfaces applied, and said: {said}")
            time.sleep(0.005)

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            now = time.perf_counter()
            if b'"event":"interface applied"' in line or b'"event":"interfaces applied"' in line:
                self._last = now
                self.applied += json.loads(line).get("interfaces", 1)
            elif b'"event":"interface deleted"' in line or b'"event":"interfaces deleted"' in line:
                self._last = now
                self.deleted += json.loads(line).get("interfaces", 1)
            elif b'"event":"agent started"' in line:
                self.started = now
                self.spent_before = self._spent
            elif b'"event":"agent ready"' in line:
                self.ready = now
            else:
                self._others.append(line)
