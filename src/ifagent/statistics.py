"""What the agent counts: plain attributes that its loop adds to, and snapshots of them for everybody else.

Counting costs the loop a few dictionary look-ups a wave. Nothing is computed before somebody asks, see
:meth:`ifagent.Agent.statistics`.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from errno import errorcode
from functools import cache

from ifagent.core.counters import Counters
from ifagent.core.names import Name
from ifagent.core.operation import Operation, Outcome
from ifagent.core.state import ConfigState

OK = "ok"
"""The result of an operation that the kernel has carried out; others are errno names such as ``EBUSY``."""

REACTION_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets of :attr:`Statistics.reaction`, in seconds."""

STALL = 60.0
"""Seconds without progress after which a round is taken to hang; one wave is far quicker than that."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are spread: ``counts`` has one number for each of ``bounds``, and one for what is above.

    A value equal to a bound counts there; the counts are not cumulative.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatistics:
    """How one source is: whether it has said what it has, and what keeps it from being heard, if anything does."""

    name: str
    synced: bool
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether an agent is alive and ready, and why not.

    ``ready`` is true from when every source has synced and the first round is done, until the agent has ended.
    ``stalled_for`` is for how many seconds the round in progress has not moved, 0 while the agent waits for something
    to happen. ``sources`` are in the order in which they count.
    """

    ready: bool
    ended: bool
    stalled_for: float
    sources: tuple[SourceStatistics, ...]

    @property
    def trouble(self) -> str:
        """Why the loop does not turn, empty while it does: it has ended, or a round has not moved for :data:`STALL`."""
        if self.ended:
            return "the agent has ended"
        return f"reconciliation stalled for {self.stalled_for:.0f} s" if self.stalled_for > STALL else ""

    @property
    def alive(self) -> bool:
        """Whether the loop turns, see ``trouble``."""
        return not self.trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Health):
    """What an agent has counted since it was made, and how it is at this moment.

    ``rounds`` counts finished rounds. ``operations`` counts what the kernel was asked for, by kind (``create_link``,
    ``set_link``, ``add_address``, ...) and result: ``ok`` or the name of an errno. ``reaction`` has one value in
    seconds for every operation that news led to: from when the oldest event that its plan took in was said, until
    its wave was done. What is only tried again has no value there.

    ``inbox`` is the number of events that wait for a round, ``namespaces`` how many are open, ``subscribers`` how many
    read states. ``interfaces`` has a number for every config state of declared interfaces. ``counters`` are what the
    interfaces' links have counted, if the settings have that read.
    """

    rounds: int
    operations: Mapping[tuple[str, str], int]
    reaction: Histogram
    inbox: int
    namespaces: int
    subscribers: int
    interfaces: Mapping[ConfigState, int]
    counters: Mapping[Name, Counters] = field(default_factory=dict)

    @property
    def refused(self) -> int:
        """How many operations the kernel has refused."""
        return sum(count for (_kind, result), count in self.operations.items() if result != OK)


@dataclass(slots=True, eq=False)
class Progress:
    """How some work that was planned goes on, in monotonic time.

    ``since`` is when the oldest event behind the plan was said, if any was, ``moved`` when something was last done.
    """

    since: float | None
    moved: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class LoopCounters:
    """What the loop adds to.

    ``moved`` is when the round in progress began, monotonic; ``None`` while there is none. ``under_way`` is all that is
    being carried out.
    """

    rounds: int = 0
    operations: dict[tuple[str, str], int] = field(default_factory=dict)
    reaction: list[int] = field(default_factory=lambda: [0] * (len(REACTION_BOUNDS) + 1))
    reaction_sum: float = 0.0
    moved: float | None = None
    under_way: set[Progress] = field(default_factory=set)

    def moves(self) -> None:
        """Note that something is being done."""
        self.moved = time.monotonic()

    def rests(self) -> None:
        """Note that there is nothing to do any more."""
        self.moved = None

    def begin(self, since: float | None) -> Progress:
        """Note that some work begins; ``since`` as in :class:`Progress`."""
        progress = Progress(since)
        self.under_way.add(progress)
        return progress

    def end(self, progress: Progress) -> None:
        """Note that some work is done."""
        self.under_way.discard(progress)

    def wave(self, progress: Progress, operations: Sequence[Operation], outcomes: Sequence[Outcome]) -> None:
        """Count one wave that is done."""
        progress.moved = now = time.monotonic()
        for operation, outcome in zip(operations, outcomes, strict=True):
            key = (kind_of(operation), errorcode.get(outcome.errno, str(outcome.errno)) if outcome.errno else OK)
            self.operations[key] = self.operations.get(key, 0) + 1
        if progress.since is not None:
            seconds = now - progress.since
            self.reaction[bisect_left(REACTION_BOUNDS, seconds)] += len(operations)
            self.reaction_sum += seconds * len(operations)

    @property
    def stalled_for(self) -> float:
        """For how many seconds the round in progress, or some work under way, has not moved, 0 if there is none."""
        moved = [*(() if self.moved is None else (self.moved,)), *(progress.moved for progress in self.under_way)]
        return time.monotonic() - min(moved) if moved else 0.0

    def histogram(self) -> Histogram:
        """Return the reaction times as they are now."""
        return Histogram(REACTION_BOUNDS, tuple(self.reaction), self.reaction_sum)


def kind_of(operation: Operation) -> str:
    """Return an operation's kind in statistics, such as ``create_link``."""
    return _in_snake_case(type(operation).__name__)


@cache
def _in_snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def build_version() -> str:
    """Return the running version, empty if it is run from a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ifagent")
    except PackageNotFoundError:
        return ""
