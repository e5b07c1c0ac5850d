"""What the planner returns: steps to take, and a verdict on every declared interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from ifagent.core.interface import Name
from ifagent.core.link import LinkId
from ifagent.core.operations import Operation
from ifagent.core.state import ConfigState


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a plan: for which interfaces, and after which other operations."""

    operation: Operation
    names: frozenset[Name]
    after: frozenset[Operation] = frozenset()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an interface cannot be realised now, in one sentence.

    ``config_state`` is ``PENDING`` (what is ``missing`` may come), ``FAILED`` (something of somebody else's
    is in the way) or ``INVALID`` (the declarations contradict each other; ``field`` names where).
    """

    config_state: ConfigState
    reason: str
    missing: tuple[str, ...] = ()
    field: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the planner found about one declared interface.

    ``link`` is where its link is, if it has one. ``differences`` say in words what the kernel has otherwise
    than wanted. Without obstacle and differences the interface is as declared.
    """

    link: LinkId | None = None
    obstacle: Obstacle | None = None
    differences: tuple[str, ...] = ()

    @property
    def fulfilled(self) -> bool:
        """True if the kernel has exactly what was declared."""
        return self.obstacle is None and not self.differences


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps by operation, and verdicts by name.

    A step whose prerequisite failed is not to be taken. Iterating the waves of :meth:`sorter` never meets a
    cycle.
    """

    steps: Mapping[Operation, Step] = field(default_factory=dict)
    verdicts: Mapping[Name, Verdict] = field(default_factory=dict)

    def sorter(self) -> TopologicalSorter[Operation]:
        """Return the operations as a prepared topological sorter."""
        sorter: TopologicalSorter[Operation] = TopologicalSorter()
        for step in self.steps.values():
            sorter.add(step.operation, *(op for op in step.after if op in self.steps))
        sorter.prepare()
        return sorter

    def waves(self) -> Iterator[tuple[Operation, ...]]:
        """Yield the operations in waves: each depends on earlier waves only."""
        sorter = self.sorter()
        while sorter.is_active():
            wave = sorter.get_ready()
            yield wave
            sorter.done(*wave)

    def __str__(self) -> str:
        """One line per operation in a possible order, then one per interface that must wait."""
        lines = [str(operation) for wave in self.waves() for operation in wave]
        lines += [
            f"{name}: {verdict.obstacle.config_state}, {verdict.obstacle.reason}"
            for name, verdict in sorted(self.verdicts.items())
            if verdict.obstacle
        ]
        return "\n".join(lines)
