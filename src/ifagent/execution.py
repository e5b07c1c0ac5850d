"""Carrying out plans, beside the rounds: wave by wave, and of one link only so much in one go.

A plan falls apart into pieces of work that have nothing to do with each other: what needs the kernel to wait, and what
does not. Each is carried out by a task of its own. Nothing that has to do with it is planned meanwhile; everything else
is.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from anyio.abc import TaskGroup

from ifagent.core.agenda import Node
from ifagent.core.index import Index
from ifagent.core.link import Link, NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.operation import LinkOperation, NamespaceOperation, Operation, Outcome, Target
from ifagent.core.operations import CreateNamespace, RemoveNamespace, RenewAddress
from ifagent.core.plan import Plan, Step, Waves
from ifagent.core.planning import Planning
from ifagent.core.records import Records
from ifagent.core.resources import Key
from ifagent.core.retry import ErrorClass, RetryBook, classify, was_gone
from ifagent.core.scope import Scope
from ifagent.errors import AgentBug, KernelRefused
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.namespaces import NamespaceTracker
from ifagent.statistics import LoopCounters, Progress

PORTION: Final = 256
"""Most operations on one link that are carried out in one go."""

MOST: Final = 8
"""Most pieces of work under way at a time."""

_NAMESPACE = re.compile(r"\[(\d+)\]")


@dataclass(slots=True, eq=False)
class _Work:
    """One piece: ``steps`` of a plan, for ``keys``, with whatever ``others`` they have to do with.

    What becomes of resources afterwards: ``cut`` have more to be done, ``stale`` are not as they were observed in a
    namespace, ``held`` are in one of which too little is known.
    """

    steps: dict[Operation, Step]
    keys: frozenset[Key]
    others: frozenset[Node | NamespaceRef]
    held_namespaces: frozenset[NsId]
    progress: Progress
    cut: set[Key] = field(default_factory=set)
    stale: dict[Key, NsId] = field(default_factory=dict)
    held: dict[Key, NsId] = field(default_factory=dict)

    @property
    def namespaces(self) -> frozenset[NsId]:
        """Those that it is about, as far as they existed when it was planned."""
        return frozenset(namespace for operation in self.steps for namespace in operation.namespaces)


class Execution:
    """Has the kernel carry out plans, and notes what comes of it. Used by rounds only.

    ``fold`` takes in what has been said until now, ``wake`` has the next round begin; ``clock`` returns the monotonic
    time in seconds.
    """

    def __init__(
        self,
        kernel: Kernel,
        index: Index,
        planning: Planning,
        namespaces: NamespaceTracker,
        retry: RetryBook,
        records: Records,
        counters: LoopCounters,
        *,
        fold: Callable[[], Awaitable[None]],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.group: TaskGroup | None = None
        self._kernel = kernel
        self._index = index
        self._planning = planning
        self._namespaces = namespaces
        self._retry = retry
        self._records = records
        self._counters = counters
        self._fold = fold
        self._wake = wake
        self._clock = clock
        self._under_way: set[_Work] = set()

    @property
    def idle(self) -> bool:
        """True while nothing is under way."""
        return not self._under_way

    @property
    def busy(self) -> bool:
        """True while so much is under way that more has to wait."""
        return len(self._under_way) >= MOST

    def start(self, scope: Scope, planned: Plan, since: float | None) -> None:
        """Begin with what may be tried now; whatever is tried is planned again afterwards."""
        if self.group is None:
            raise AgentBug("Reconciler.run is not running, plans cannot be carried out")
        now = self._clock()
        for steps in _pieces(planned.steps):
            if not any(not step.after and self._may_try(step, now) for step in steps):
                continue
            keys = frozenset(key for step in steps for key in step.keys)
            others = frozenset(other for step in steps for other in step.operation.changes)
            progress = self._counters.begin(since)
            work = _Work({step.operation: step for step in steps}, keys, others, scope.held, progress)
            self._under_way.add(work)
            self._planning.begin(work, keys, others)
            self._index.namespaces.begin_use(work.namespaces)
            self.group.start_soon(self._carry_out, work)

    async def _carry_out(self, work: _Work) -> None:
        waves = Waves(work.steps)
        await self._fold()
        while wave := waves.next():
            steps = self._due(wave, work)
            if not steps:
                break
            due = [step.operation for step in steps]
            outcomes = await self._execute(due)
            self._counters.wave(work.progress, due, outcomes)
            for step, outcome in zip(steps, outcomes, strict=True):
                if outcome.errno == 0:
                    self._note_acceptance(step)
                    waves.done(step)
                    log.debug("operation done", operation=step.operation)
                else:
                    self._note_refusal(replace(outcome, operation=step.operation), step.keys, work)
            await self._fold()
            await self._open_new(due)
        self._finish(work)

    def _finish(self, work: _Work) -> None:
        self._under_way.discard(work)
        self._counters.end(work.progress)
        self._planning.end(work, work.keys, work.others)
        self._index.namespaces.end_use(work.namespaces)
        self._planning.slow_down(work.cut)
        for key, namespace in work.stale.items():
            if self._index.is_attached(namespace):
                self._namespaces.relist({namespace})
                self._planning.await_listing((key,), namespace)
        for key, namespace in work.held.items():
            if namespace in self._index.behind:
                self._planning.await_listing((key,), namespace)
        removed = (operation.id for operation in work.steps if isinstance(operation, RemoveNamespace))
        self._index.touching.nodes(removed)
        self._wake()

    def _due(self, wave: Sequence[Step], work: _Work) -> list[Step]:
        """Return what of a wave may be tried now."""
        now, due = self._clock(), list[Step]()
        of_link: Counter[Target] = Counter()
        for step in wave:
            operation = step.operation
            if not self._may_try(step, now):
                continue
            if work.held_namespaces and (held := work.held_namespaces.intersection(operation.namespaces)):
                work.held.update(dict.fromkeys(step.keys, min(held)))
                continue
            if isinstance(operation, LinkOperation):
                of_link[operation.target] += 1
                if of_link[operation.target] > PORTION:
                    work.cut |= step.keys
                    continue
            due.append(step)
        return due

    def _may_try(self, step: Step, now: float) -> bool:
        return self._retry.may_try(step.operation, now) and self._records.may_repair(step.keys, now)

    async def _open_new(self, operations: Sequence[Operation]) -> None:
        """Open the namespaces that were made, for what the plan has to do in them."""
        made = [op.namespace for op in operations if isinstance(op, CreateNamespace)]
        found = {id for ref in made if (id := self._index.namespace(ref)) is not None}
        new = {id: self._index.namespaces.to_follow(id)[0] for id in found if not self._index.is_attached(id)}
        if new:
            await self._namespaces.open(new)
            await self._fold()

    def _note_acceptance(self, step: Step) -> None:
        operation = step.operation
        if isinstance(operation, RenewAddress):
            self._retry.renewed(operation, step.keys, self._clock(), self.surroundings_of(operation))
        else:
            self._retry.accepted(operation, step.keys)

    def _note_refusal(self, outcome: Outcome, keys: frozenset[Key], work: _Work) -> None:
        text = self._with_references(str(KernelRefused(str(outcome.operation), outcome.errno, outcome.text)))
        self._retry.refused(outcome, keys, text, self._clock(), self.link_of(outcome.operation))
        if was_gone(outcome):
            log.debug("target already gone", operation=outcome.operation)
        else:
            named = errno.errorcode.get(outcome.errno, outcome.errno)
            log.info("kernel rejected operation", operation=str(outcome.operation), errno=named, text=outcome.text)
        if classify(outcome.errno) is ErrorClass.STALE:
            known = [id for id in outcome.operation.namespaces if self._index.is_attached(id)]
            work.stale.update(dict.fromkeys(keys, min(known)) if known else {})

    def note_ineffective(self, planned: Plan) -> None:
        """Space out what the kernel accepted without effect, as if it had been refused."""
        for operation in self._retry.take_ineffective(planned.steps):
            text = f"{operation}: the kernel accepted it, but it did not take effect"
            outcome = Outcome(operation, errno.EAGAIN, text)
            self._retry.refused(outcome, planned.steps[operation].keys, text, self._clock())

    def _with_references(self, text: str) -> str:
        """Name namespaces as people do, where an operation has their ids."""

        def named(match: re.Match[str]) -> str:
            refs = self._index.namespaces.leading_to(NsId(int(match[1])))
            return min(map(str, refs), default=match[0])

        return _NAMESPACE.sub(named, text)

    # What an operation is about

    async def _execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Have the kernel carry out one wave; what names a link that does not exist fails here."""
        concrete = [self._in_reach(operation.resolved(self._index)) for operation in operations]
        possible = [operation for operation in concrete if operation is not None]
        outcomes = iter(await self._kernel.execute(possible))
        return [
            Outcome(given, errno.ENODEV, "the link or namespace it needs is gone") if made is None else next(outcomes)
            for given, made in zip(operations, concrete, strict=True)
        ]

    def _in_reach(self, operation: Operation | None) -> Operation | None:
        """Return an operation unless a namespace that it is about is not listened to any more."""
        if operation is None or isinstance(operation, NamespaceOperation):
            return operation
        return operation if all(map(self._index.is_attached, operation.namespaces)) else None

    def link_of(self, operation: Operation) -> Link | None:
        """Return what is known of the link that an operation changes, ``None`` for one that does not change any."""
        targets = (target.resolved(self._index) for target in operation.targets)
        return next((self._index.observed().link(target.link) for target in targets if target), None)

    def surroundings_of(self, operation: Operation) -> object:
        """Return what it depends on whether an address of the link that an operation changes has duplicates."""
        link = self.link_of(operation)
        return link and link.surroundings(self._index.observed().peer(link))


def _pieces(steps: Mapping[Operation, Step]) -> list[list[Step]]:
    """Return what has nothing to do with each other: what the kernel is slow at, and the rest.

    With what it is slow at goes all that hangs together with it, by interfaces or by order.
    """
    slow: set[Key | Operation] = set()
    left, found = list(steps.values()), True
    while found:
        found, rest = False, list[Step]()
        for step in left:
            keys: tuple[Key | Operation, ...] = (step.operation, *step.keys, *step.after)
            if step.operation.slow or not slow.isdisjoint(keys):
                slow.update(keys)
                found = True
            else:
                rest.append(step)
        left = rest
    quick = set(map(id, left))
    return [piece for piece in (left, [s for s in steps.values() if id(s) not in quick]) if piece]
