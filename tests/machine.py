"""A machine with a real systemd, booted in a container (``systemd-nspawn``) from the root of ``debian_root``.

Its network, processes, mounts and control groups are its own; what it writes is in memory and goes with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from control_group import ControlGroup
from lab import until

ROOT = "IFAGENT_TEST_ROOT"
"""The variable with the path of the root; the nox session sets it."""

BOOT = 60.0
"""Seconds within which systemd has to answer."""


class Machine:
    """A machine that is not booted yet; its files can be written in ``root``."""

    def __init__(self, root: Path, log: Path, group: ControlGroup) -> None:
        self.root = root
        self._log = log
        self._group = group
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        """Boot it, and wait until everything that starts at boot has been started, or has failed."""
        command = ["systemd-nspawn", "--directory", str(self.root), "--boot", "--private-network", "--register=no"]
        command += ["--keep-unit", "--console=pipe", "--machine=ifagent-test"]
        with self._log.open("wb") as log:
            nspawn = subprocess.Popen(self._group.command(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._nspawn = nspawn
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")

        def is_up() -> bool:
            assert nspawn.poll() is None, self._log.read_text()
            self._leader = int((children.read_text().split() or ["0"])[0])
            told = self.run("systemctl", "is-system-running", check=False) if self._leader else ""
            return told in {"running", "degraded"}

        until(is_up, within=BOOT, what=self._log.read_text)

    def run(self, *command: str, check: bool = True, given: str = "") -> str:
        """Run a command inside, as its root, and return what it prints, without white space around it."""
        inside = ["nsenter", f"--target={self._leader}", "--all", *command]
        done = subprocess.run(inside, input=given, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout.strip()

    def end(self) -> None:
        """End it without further ado."""
        self._group.clean_up()
        if self._nspawn:
            self._nspawn.wait(BOOT)

    def until(self, condition: Callable[[], object], *, within: float = 20.0) -> None:
        """Wait for a condition."""
        until(condition, within=within, what=self.journal)

    def journal(self) -> str:
        """Return what the agent, and systemd about it, have said last."""
        return self.run("journalctl", "--unit=ifagent", "--no-pager", "--output=cat", "--lines=40", check=False)


def _why_not() -> str:
    if os.getuid():
        return "booting a machine needs root"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn is not installed: apt-get install systemd-container"
    return "" if os.environ.get(ROOT) else f"{ROOT} does not name a root; nox -s systemd makes one"


@contextmanager
def a_machine() -> Iterator[Machine]:
    """Have a machine, and take everything away after it. Skips the test where there can be none, but fails it in CI."""
    if missing := _why_not():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with ExitStack() as stack:
        # A tmpfs of the test run, as all below /run.
        folder = Path(stack.enter_context(TemporaryDirectory(dir="/run", ignore_cleanup_errors=True)))
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir={os.environ[ROOT]},upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(folder / "root")], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(folder / "root")], check=False)
        machine = Machine(folder / "root", folder / "log", ControlGroup())
        stack.callback(machine.end)
        yield machine
