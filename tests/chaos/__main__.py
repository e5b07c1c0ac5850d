"""``python -m chaos``: see ``--help``."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import docker_engine
import private
from chaos.harness import Account, Harness, Wrong
from chaos.script import Mix, Script
from chaos.soak import soak
from chaos.stage import Stage, stage


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _chaos(real: Stage, seed: int, seconds: float, folder: Path) -> Account:
    script = Script(seed, Mix(), containers=real.docker is not None)
    harness = Harness(real, script, folder / "actions.log", say=say)
    harness.run(seconds=seconds)
    return harness.account


def _soak(real: Stage, seed: int, seconds: float, folder: Path) -> Account:
    return soak(real, seed, seconds, folder, say)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Play havoc with a real agent, and see it put all right."
    )
    parser.add_argument("--soak", action="store_true", help="see whether the agent grows")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="whose list of actions it is (default: any)")
    parser.add_argument("--folder", type=Path, default=None, help="where logs go, and stay")
    parser.add_argument("--no-docker", action="store_true", help="without containers")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    # Whoever ends it has everything taken away; a shell has what runs in the background ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(f"ended by a signal, seed {seed}"))
    problem = private.enter()
    if problem:
        parser.error(problem)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="ifagent-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    say(f"seed {seed}, logs in {folder}")
    with ExitStack() as stack:
        docker = None
        if not given.no_docker and shutil.which("dockerd") and not docker_engine._why_not():
            docker = stack.enter_context(docker_engine.running())
        real = stack.enter_context(stage(folder, docker, remembers=seed % 2 == 0 and not given.soak))
        try:
            account = (_soak if given.soak else _chaos)(real, seed, given.minutes * 60, folder)
        except Wrong as wrong:
            say(f"WRONG {wrong}\n\nseed {seed}")
            return 1
        say(f"seed {seed}: all right\n{account.table()}")
    if given.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
