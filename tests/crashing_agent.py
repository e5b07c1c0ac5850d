"""Agents that end themselves by SIGKILL at a chosen step: ``python crashing_agent.py``.

The program loads everything once and then makes an agent for each line that it reads, by forking, which saves the
better part of a second each time. A line is a JSON object: ``label``, ``store``, ``socket``, ``log``, and ``kill_at``,
the number of the step before which the agent is to end, from 1, or 0 for an agent that does not. The answer is a line
with the agent's process id.

A step is one operation on the kernel, carried out by itself, or half of one: that a namespace's file is there before
the namespace is, that the namespace carries its mark before it has its name, that a name is taken away before its file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import ifagent.stores.etcd.outlet
import ifagent.stores.etcd.source
from ifagent.cli import logs
from ifagent.cli.run import serve
from ifagent.core.operation import Operation, Outcome
from ifagent.core.ownership import Owner
from ifagent.kernel import netns
from ifagent.kernel.linux import LinuxKernel
from ifagent.settings import Settings

LOADED = (ifagent.stores.etcd.outlet, ifagent.stores.etcd.source)
"""What an agent would load only when it needs it."""


class Fuse:
    """Ends the process before step number ``at``."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self, what: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.write(2, json.dumps({"event": "killed", "before": str(what)}, separators=(",", ":")).encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``work`` with a step behind it."""

        def done(*arguments: Any, **options: Any) -> Any:
            result = work(*arguments, **options)
            self.step(f"what follows {getattr(work, '__name__', work)}{arguments}")
            return result

        return done


class SteppingKernel(LinuxKernel):
    """The real kernel, which carries out one operation at a time."""

    def __init__(self, *, mark: str, fuse: Fuse) -> None:
        super().__init__(mark=mark)
        self._fuse = fuse

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes = []
        for operation in operations:
            self._fuse.step(operation)
            outcomes += await super().execute([operation])
        return outcomes


def run_agent(*, label: str, store: str, socket: str, log: str, kill_at: int) -> None:
    """Run one agent; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Path(log).open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    logs.configure(level="debug", format="json")
    fuse = Fuse(kill_at)
    for name in ("_claim", "_mark", "unmount"):
        setattr(netns, name, fuse.after(getattr(netns, name)))
    kernel = SteppingKernel(mark=Owner(label).namespace_mark, fuse=fuse)
    settings = Settings(label=label, runtime_dir=Path(socket).parent)
    anyio.run(partial(serve, settings, [store], Path(socket), kernel), backend="asyncio")


def main() -> None:
    """Make an agent for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that none stays as a zombie
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                run_agent(**json.loads(line))
            finally:
                os._exit(1)
        print(pid, flush=True)  # noqa: T201 the answer


if __name__ == "__main__":
    main()
