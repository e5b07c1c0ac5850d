"""The loop: act, be quiet, compare; and the account of it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chaos.actions import Action, Simple, What, kind_of, line_of
from chaos.compare import differences_from_nearest
from chaos.intent import Intent, World
from chaos.observation import Observation
from chaos.perform import Performer
from chaos.script import Script
from chaos.stage import Stage
from chaos.steady import Steady

PATIENCE = 75.0
"""Seconds within which everything must be as it is to be; the agent spaces out repairs by up to 60 s."""

ACTIONS_BETWEEN_CHECKS = 40
PROGRESS = 10.0


class Wrong(Exception):
    """What is there is not what must be."""


@dataclass
class Account:
    """What has been done and seen."""

    actions: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    converged: list[float] = field(default_factory=list)

    def table(self) -> str:
        """Return it as text."""
        lines = [f"{count:7d}  {kind}" for kind, count in sorted(self.actions.items(), key=lambda item: -item[1])]
        restarts = self.actions[What.AGENT_START]
        etcds = self.actions[What.ETCD_START]
        times = sorted(self.converged) or [0.0]
        p50, p99 = statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]
        total = sum(self.actions.values())
        return "\n".join(
            [
                *lines,
                f"{total:7d}  actions in all",
                f"{self.checks:7d}  checks: kernel, states and namespaces as the model says",
                f"{restarts:7d}  restarts of the agent, {etcds} of etcd",
                f"   time to converge: p50 {p50:.2f} s, p99 {p99:.2f} s, longest {times[-1]:.2f} s",
            ]
        )


class Harness:
    """One run; ``say`` is given lines of progress."""

    def __init__(self, stage: Stage, script: Script, log: Path, *, say: Callable[[str], None] = print) -> None:
        self.stage = stage
        self.script = script
        self.intent = Intent()
        self.account = Account()
        self.macs: dict[str, str] = {}
        self._performer = Performer(stage, self.intent)
        self._steady = Steady(stage.lab.label)
        self._log = log
        self._say = say
        self._last: list[str] = []
        self._said = self._began = time.monotonic()
        self._logs_read: dict[Path, int] = {}

    def run(self, *, seconds: float = 0, rounds: int = 0) -> None:
        """Act and compare for a time, or so many times; raises :class:`Wrong`."""
        done = 0
        while (rounds and done < rounds) or time.monotonic() - self._began < seconds:
            self.act(self.script.actions(ACTIONS_BETWEEN_CHECKS))
            self.check()
            done += 1

    def act(self, actions: Iterable[Action]) -> None:
        """Carry out actions."""
        for action in actions:
            self._note(action)
            ended = isinstance(action, Simple) and action.what in {What.AGENT_KILL, What.AGENT_TERM}
            if not ended:
                self._agent_lives()
            self._steady.note(action, self.intent, self.stage.real)
            self._performer.perform(action)
            self._progress()

    def check(self) -> Observation:
        """Let things become quiet and compare them with the model; return what was seen."""
        self.act(self.script.calm())
        began = time.monotonic()
        looks = self._looks()
        seen, world, different = next(looks)
        while different:
            if time.monotonic() - began > PATIENCE:
                raise Wrong(self._report(different))
            self._progress()
            time.sleep(0.1)
            seen, world, different = next(looks)
        if disturbed := list(self._steady.check(seen)):
            raise Wrong(self._report(disturbed))
        self._steady.begin(seen, world)
        self.account.checks += 1
        self.account.converged.append(time.monotonic() - began)
        self.stage.settle(self.stage.facts(seen))
        self.intent.settle(world)
        for name, state in seen.states.items():
            wish = world.wishes.get(name)
            if state.get("config_state") == "APPLIED" and wish is not None and wish.peer and not wish.mac:
                self.macs.setdefault(name, state["phys_address"])
        self._look_for_errors()
        return seen

    def _looks(self) -> Iterator[tuple[Observation, World, list[str]]]:
        """Look, again and again; a look at many things takes a while, so that two must agree."""
        before: Observation | None = None
        while True:
            self._agent_lives()
            seen = self.stage.observe()
            facts = self.stage.facts(seen)
            world, different = differences_from_nearest(
                self.intent, facts, seen, self.stage.lab.label, self.macs, begun_anew=self.stage.agents_started > 1
            )
            if not different and before is not None and before.links == seen.links:
                yield seen, world, []
            else:
                yield seen, world, different or ["it still changes"]
            before = seen

    def _note(self, action: Action) -> None:
        line = line_of(action)
        self.account.actions[kind_of(action)] += 1
        self._last = [*self._last[-59:], line]
        with self._log.open("a") as log:
            log.write(f"{line}\n")

    def _agent_lives(self) -> None:
        agent = self.stage.agent
        if agent is not None and agent.poll() is not None:
            raise Wrong(self._report([f"the agent has ended by itself, with code {agent.returncode}"]))

    def _look_for_errors(self) -> None:
        for path in sorted(self.stage.folder.glob("agent-*.log")):
            with path.open() as log:
                log.seek(self._logs_read.get(path, 0))
                lines = log.readlines()
                self._logs_read[path] = log.tell()
            wrong = [
                line for line in lines if '"level": "error"' in line or '"critical"' in line or "Traceback" in line
            ]
            if wrong:
                raise Wrong(self._report([f"the agent has logged an error: {line.strip()}" for line in wrong]))

    def _report(self, different: list[str]) -> str:
        last = "\n  ".join(self._last)
        return (
            f"after {sum(self.account.actions.values())} actions and {self.account.checks} checks:\n  "
            + "\n  ".join(different)
            + f"\nlast actions:\n  {last}\nthe agent's log:\n{self.stage.agent_log()}"
        )

    def _progress(self) -> None:
        if time.monotonic() - self._said > PROGRESS:
            self._said = time.monotonic()
            total = sum(self.account.actions.values())
            self._say(
                f"{self._said - self._began:6.0f} s  {total} actions, {self.account.checks} checks, "
                f"{len(self.intent.declared)} interfaces"
            )
