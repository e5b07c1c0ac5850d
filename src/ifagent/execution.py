"""Carrying out a plan: wave by wave, namespaces in parallel, and of one link only so much in one go."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from ifagent.attention import Attention
from ifagent.core.index import Index
from ifagent.core.interface import Name, NamespaceRef
from ifagent.core.islands import Scope
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.operations import (
    AddAddress,
    CreateNamespace,
    CreateVeth,
    MoveLink,
    Operation,
    Outcome,
    Place,
    RemoveNamespace,
    RenewAddress,
    Target,
    VethEnd,
)
from ifagent.core.plan import Plan, Step, Waves
from ifagent.core.retry import Fate, RetryBook, fate
from ifagent.errors import KernelRefused
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.statistics import LoopCounters

PORTION = 256
"""Most operations on one link that are carried out in one go."""

_NAMESPACE = re.compile(r"\[(\d+)\]")


class Execution:
    """Has the kernel carry out plans, and notes what comes of it. Used by rounds only.

    ``fold`` takes in what has been said until now; ``clock`` returns the monotonic time in seconds.
    """

    def __init__(
        self,
        kernel: Kernel,
        index: Index,
        attention: Attention,
        retry: RetryBook,
        counters: LoopCounters,
        *,
        fold: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._index = index
        self._attention = attention
        self._retry = retry
        self._counters = counters
        self._fold = fold
        self._clock = clock

    async def carry_out(self, scope: Scope, planned: Plan) -> None:
        """Carry out what may be tried now; whatever was tried is planned anew."""
        waves = Waves(planned.steps)
        while wave := waves.next():
            steps = self._due(wave, scope)
            if not steps:
                break
            due = [step.operation for step in steps]
            outcomes = await self._execute(due)
            self._counters.wave(due, outcomes)
            stale: dict[Step, set[NsId]] = {}
            for step, outcome in zip(steps, outcomes, strict=True):
                if outcome.errno == 0:
                    self._note_acceptance(step)
                    waves.done(step)
                    log.debug("done", operation=step.operation)
                    continue
                self._note_refusal(replace(outcome, operation=step.operation), step.names)
                if fate(outcome.errno) is Fate.STALE:
                    stale[step] = _namespaces_of(outcome.operation)
            await self._fold()
            await self._open_new(due)
            self._look_at_stale(stale)

    def _due(self, wave: Sequence[Step], scope: Scope) -> list[Step]:
        """Return what of a wave may be tried now, and have planned anew whatever it is for."""
        now, due = self._clock(), list[Step]()
        of_link: Counter[Target] = Counter()
        cut: set[Name] = set()
        for step in wave:
            operation = step.operation
            if not self._retry.may_try(operation, step.names, now):
                continue
            if scope.held and (held := _namespaces_of(operation) & scope.held):
                self._index.await_listing(step.names, min(held))
                continue
            if not isinstance(operation, CreateNamespace | RemoveNamespace | CreateVeth):
                of_link[operation.target] += 1
                if of_link[operation.target] > PORTION:
                    cut |= step.names
                    continue
            due.append(step)
        self._index.touch_again({name for step in due for name in step.names} - cut)
        self._index.touch(cut)
        self._index.touch(namespaces=(s.operation.id for s in due if isinstance(s.operation, RemoveNamespace)))
        return due

    async def _open_new(self, operations: Sequence[Operation]) -> None:
        """Open the namespaces that were made, for what the plan has to do in them."""
        made = [op.namespace for op in operations if isinstance(op, CreateNamespace)]
        found = {id for ref in made if (id := self._index.namespace(ref)) is not None}
        new = {id: self._index.way_to(id)[0] for id in found if not self._index.is_attached(id)}
        if new:
            await self._attention.open(new)
            await self._fold()

    def _look_at_stale(self, stale: dict[Step, set[NsId]]) -> None:
        """Have looked at anew what is not as it was observed, before anything more is done about it."""
        for step, namespaces in stale.items():
            if known := {namespace for namespace in namespaces if self._index.is_attached(namespace)}:
                self._attention.look(known)
                self._index.await_listing(step.names, min(known))

    def _note_acceptance(self, step: Step) -> None:
        operation = step.operation
        if isinstance(operation, RenewAddress):
            self._retry.renewed(operation, step.names, self._clock(), self.surroundings_of(operation))
        else:
            self._retry.accepted(operation, step.names)

    def _note_refusal(self, outcome: Outcome, names: frozenset[Name]) -> None:
        text = self._with_references(str(KernelRefused(outcome.operation, outcome.errno, outcome.text)))
        self._retry.refused(outcome, names, text, self._clock(), self.link_of(outcome.operation))
        log.info("refused", operation=str(outcome.operation), errno=outcome.errno, text=outcome.text)

    def note_ineffective(self, planned: Plan) -> None:
        """Space out what the kernel accepted without effect, as if it had been refused."""
        for operation in self._retry.take_ineffective(planned.steps):
            text = f"{operation}: the kernel accepted it, but it did not take effect"
            outcome = Outcome(operation, errno.EAGAIN, text)
            self._retry.refused(outcome, planned.steps[operation].names, text, self._clock())

    def _with_references(self, text: str) -> str:
        """Name namespaces as people do, where an operation has their ids."""

        def named(match: re.Match[str]) -> str:
            refs = self._index.relations.leading_to(NsId(int(match[1])))
            return min(map(str, refs), default=match[0])

        return _NAMESPACE.sub(named, text)

    # What an operation is about

    async def _execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Have the kernel carry out one wave; what names a link that does not exist fails here."""
        concrete = [self._concrete(operation) for operation in operations]
        possible = [operation for operation in concrete if operation is not None]
        outcomes = iter(await self._kernel.execute(possible))
        return [
            Outcome(given, errno.ENODEV, "what it depends on is gone") if made is None else next(outcomes)
            for given, made in zip(operations, concrete, strict=True)
        ]

    def _concrete(self, operation: Operation) -> Operation | None:  # noqa: PLR0911 one for each kind
        """Fill in ids that were not known when the operation was planned; ``None`` if they still are not."""
        match operation:
            case CreateNamespace() | RemoveNamespace():
                return operation
            case CreateVeth():
                near, far = self._end(operation.near), self._end(operation.far)
                return CreateVeth(near, far, operation.group) if near and far else None
            case _:
                target = self._target(operation.target)
                if target is None:
                    return None
                if isinstance(operation, MoveLink):
                    to = self._namespace(operation.to)
                    return None if to is None else replace(operation, target=target, to=to)
                if target is operation.target:
                    return operation
                if isinstance(operation, AddAddress):  # there are many, and replace() is slow
                    return AddAddress(target, operation.address)
                return replace(operation, target=target)

    def _end(self, end: VethEnd) -> VethEnd | None:
        if not isinstance(end.namespace, NamespaceRef):
            return end
        namespace = self._namespace(end.namespace)
        return None if namespace is None else VethEnd(namespace, end.host_name, end.mac, end.mtu)

    def _target(self, target: Target) -> Target | None:
        if target.ifindex is not None:
            return target
        namespace = self._namespace(target.namespace)
        link = self._index.link_named(namespace, target.host_name) if namespace is not None else None
        return Target(link.id.namespace, link.host_name, link.id.ifindex) if link else None

    def link_of(self, operation: Operation) -> Link | None:
        """Return what is known of the link that an operation changes, ``None`` for one that does not change any."""
        if isinstance(operation, CreateNamespace | RemoveNamespace | CreateVeth):
            return None
        target = self._target(operation.target)
        if target is None or isinstance(target.namespace, NamespaceRef) or target.ifindex is None:
            return None
        return self._index.observed().link(LinkId(target.namespace, target.ifindex))

    def surroundings_of(self, operation: Operation) -> object:
        """Return what it depends on whether an address of the link that an operation changes has duplicates."""
        link = self.link_of(operation)
        return link and link.surroundings(self._index.observed().peer(link))

    def _namespace(self, place: Place) -> NsId | None:
        return self._index.namespace(place) if isinstance(place, NamespaceRef) else place


def _namespaces_of(operation: Operation) -> set[NsId]:
    """Return the namespaces in which an operation does something, as far as they exist already."""
    match operation:
        case CreateVeth():
            places: tuple[Place, ...] = (operation.near.namespace, operation.far.namespace)
        case CreateNamespace():
            places = ()
        case RemoveNamespace():
            places = (operation.id,)
        case MoveLink():
            places = (operation.target.namespace, operation.to)
        case _:
            places = (operation.target.namespace,)
    return {place for place in places if not isinstance(place, NamespaceRef)}
