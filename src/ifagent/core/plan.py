"""What the planner returns: steps to take, and a verdict on every declared resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ifagent.core.link import LinkId
from ifagent.core.operation import Operation
from ifagent.core.remembered import Learnt
from ifagent.core.resources import Key
from ifagent.core.state import ConfigState


class Step(NamedTuple):
    """One operation of a plan: for which resources, and after which other operations."""

    operation: Operation
    keys: frozenset[Key]
    after: frozenset[Operation] = frozenset()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a resource cannot be applied now, in one sentence.

    ``config_state`` is ``PENDING`` (what is ``missing`` may come), ``FAILED`` (something that is not the
    agent's is in the way) or ``INVALID`` (the declarations contradict each other; ``field`` names where).
    """

    config_state: ConfigState
    reason: str
    missing: tuple[str, ...] = ()
    field: str = ""


class Verdict(NamedTuple):
    """What the planner found about one declared resource.

    ``link`` is where its link is, if it has one. ``differences`` say in words what the kernel has otherwise
    than wanted. Without obstacle and differences it is as declared.
    """

    link: LinkId | None = None
    obstacle: Obstacle | None = None
    differences: tuple[str, ...] = ()

    @property
    def fulfilled(self) -> bool:
        """True if the kernel has exactly what was declared."""
        return self.obstacle is None and not self.differences


class Waves:
    """Steps in waves: each wave has what depends only on steps that are done by then.

    What :mod:`graphlib` does, without its search for cycles, which a plan has none of, and with the steps of a
    wave in the order of the plan.
    """

    def __init__(self, steps: Mapping[Operation, Step]) -> None:
        self._waits: dict[int, int] = {}
        self._before: dict[int, list[Step]] = {}
        self._ready: list[Step] = []
        for step in steps.values():
            after = [steps[operation] for operation in step.after if operation in steps]
            if not after:
                self._ready.append(step)
                continue
            self._waits[id(step)] = len(after)
            for each in after:
                self._before.setdefault(id(each), []).append(step)

    def next(self) -> list[Step]:
        """Return what may be taken and was not returned before; nothing once nothing more may be."""
        ready, self._ready = self._ready, []
        return ready

    def done(self, step: Step) -> None:
        """Note that a step was taken."""
        for waiting in self._before.get(id(step), ()):
            self._waits[id(waiting)] -= 1
            if not self._waits[id(waiting)]:
                self._ready.append(waiting)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps by operation, and verdicts by resource.

    A step whose prerequisite failed is not to be taken. Steps are in an order in which they may be taken, and those
    about one link in the order in which they have to be. ``learnt`` is to be remembered before any of them is taken.
    """

    steps: Mapping[Operation, Step] = field(default_factory=dict)
    verdicts: Mapping[Key, Verdict] = field(default_factory=dict)
    learnt: Learnt = field(default_factory=Learnt)

    def waves(self) -> Iterator[tuple[Operation, ...]]:
        """Yield the operations in waves: each depends on earlier waves only."""
        waves = Waves(self.steps)
        while wave := waves.next():
            yield tuple(step.operation for step in wave)
            for step in wave:
                waves.done(step)

    def __str__(self) -> str:
        """One line per operation in a possible order, then one per resource that must wait."""
        lines = [str(operation) for wave in self.waves() for operation in wave]
        lines += [
            f"{key.name}: {verdict.obstacle.config_state}, {verdict.obstacle.reason}"
            for key, verdict in sorted(self.verdicts.items())
            if verdict.obstacle
        ]
        return "\n".join(lines)
