"""One round: from whatever was said to a kernel that is as declared, as far as it can be.

A round folds the inbox into the index, opens the namespaces that matter, then plans, carries out and looks
again until there is nothing left that may be done now. It plans what was touched (:mod:`ifagent.core.islands`), and
ends with the states of what it has planned.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from ifagent.attention import Attention
from ifagent.core.existing import changes_link
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
    PromoteSecondaries,
    RemoveNamespace,
    Target,
    VethEnd,
)
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan, Verdict, Waves
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.report import Findings, deleted, report
from ifagent.core.retry import Fate, RetryBook, fate
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.core.views import Desired, Observed
from ifagent.errors import KernelRefused
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.runtime_file import RuntimeFile
from ifagent.sources.contract import NamespaceWatcher
from ifagent.statistics import LoopCounters
from ifagent.stream import StateHub

_NOTHING_FOUND = Verdict()

MANY = 50
"""Most interfaces that are logged one by one when they have become right, or gone, at once."""

MAX_PASSES = 16
"""Most times one round plans before it publishes what it has; the next round goes on from there."""


class Reconciler:
    """Brings the kernel to what the index says is desired. Used by the agent's loop only.

    ``runtime_file`` keeps what is remembered, before anything is done because of it. ``policy`` is what may be done at
    all; links that lead to ``hosts`` are not cut. With ``repairs_drift`` false, what somebody else has changed is only
    told. ``clock`` returns the monotonic time, in seconds, that ``next_time`` is measured in.
    """

    def __init__(
        self,
        kernel: Kernel,
        index: Index,
        inbox: Inbox,
        hub: StateHub,
        owner: Owner,
        watchers: Sequence[NamespaceWatcher] = (),
        *,
        runtime_file: RuntimeFile,
        policy: Policy = Policy(),  # noqa: B008 frozen
        hosts: Sequence[str] = (),
        repairs_drift: bool = True,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.kernel = kernel
        self.index = index
        self.inbox = inbox
        self.hub = hub
        self.owner = owner
        self.retry: RetryBook = RetryBook()
        self.counters: LoopCounters = LoopCounters()
        self._policy = policy
        self._hosts = hosts
        self._repairs_drift = repairs_drift
        self._clock = clock
        self.next_time: float | None = None
        self.covered: int = 0
        self._drift: dict[Name, str] = {}
        self._fulfilled: set[Name] = set()
        self._verdicts: dict[Name, Verdict] = {}
        self._found: dict[Name, Findings] = {}
        self._leaving: set[Name] = set()
        self._take_all_anew = False
        self._inspected: frozenset[LinkId] = frozenset()
        self._runtime_file = runtime_file
        self._attention = Attention(kernel, index, inbox, watchers)

    def look_at_everything(self, *, repair: bool = False) -> None:
        """Have the next round look at every namespace anew; with ``repair``, put right what was left as drifted."""
        self._take_all_anew = True
        self.retry.encourage()
        if repair:
            self.retry.forgive()
        self.inbox.wake()

    async def round(self) -> None:
        """Carry out one round; afterwards ``next_time`` says when the next is due without news.

        ``covered`` is then the inbox's sequence number that the published states account for.
        """
        achieved: set[Operation] = set()
        decided: set[Name] = set()
        for _ in range(MAX_PASSES):
            self._attention.fold()
            if self._take_all_anew:
                self._take_all_anew = False
                await self._attention.look_at_everything()
                self.index.touch_everything()
            exempt = await self._take_in()
            covered, planned_at = self.inbox.sequence, self._clock()
            self.counters.since = self.inbox.take_oldest()
            scope, planned = self._plan(planned_at)
            decided |= scope.names
            await self._runtime_file.save(self.index.remembered)
            self._note_drift(scope, planned, exempt)
            self._note_ineffective(planned, achieved)
            if not await self._carry_out(planned, achieved) and not self.inbox:
                break
        else:
            self.inbox.wake()
        self.covered = covered
        self._publish(decided)
        self.counters.rounds += 1
        # What has come due since the plan was made was not tried: that time is still to come.
        times = (self.retry.next_time(planned_at), self._attention.next_time(planned_at))
        self.next_time = min((t for t in times if t is not None), default=None)

    def _plan(self, now: float) -> tuple[Scope, Plan]:
        """Plan what was touched, or may be tried again by now, and remember what was found."""
        self.index.touch(*self.retry.due(now))
        self.retry.reconsider(self._link_of)
        relations = self.index.relations
        if self._policy.is_exceeded(len(relations.interfaces), len(relations.made_references())):
            self.index.touch_everything()
        scope = self.index.take_scope()
        planned = plan(scope.desired, scope.observed, self.owner, self._policy)
        self.retry.keep_only(planned.steps, names=scope.names, namespaces=scope.namespaces)
        for name in scope.names - planned.verdicts.keys():
            self._verdicts.pop(name, None)
        self._verdicts.update(planned.verdicts)
        self._leaving -= scope.names
        # Only of what had a state there is one that says how it goes.
        going = {name for step in planned.steps.values() for name in step.names} | planned.verdicts.keys()
        self._leaving |= (going & self.hub.states.keys()) - self.index.declared.keys()
        self.index.note(scope, planned)
        return scope, planned

    # What was learnt since the last planning

    async def _take_in(self) -> set[Name]:
        """Be ready to plan for everything said until now; return the interfaces that a declaration has changed."""
        exempt = self._forget_changed()
        await self._attention.attend()
        while self.index.changed:
            exempt |= self._forget_changed()
            await self._attention.attend()
        await self._inspect()
        return exempt

    async def _inspect(self) -> None:
        """Find out what the plan has to know of some links and the kernel does not tell by itself."""
        wanted = self.index.relations.without_checksums
        if wanted != self._inspected:
            self._inspected = frozenset(wanted)
            await self.kernel.inspect(wanted)
            self._attention.fold()
        if self._policy.asks_for_uplinks and any(map(changes_link, self.index.relations.interfaces.values())):
            self.index.set_uplinks(await self.kernel.uplinks(self._hosts))

    def _forget_changed(self) -> set[Name]:
        """Clear what stood in the way of changed interfaces; return them and everybody they have to do with."""
        changed = set(self.index.take_changed())
        for name in changed:
            if name in self.index.declared:
                self.retry.changed(name)
            else:
                self.retry.gone(name)
                self._drift.pop(name, None)
        interfaces = self.index.relations.interfaces
        self._attention.follow(interfaces[name].namespace for name in changed if name in interfaces)
        peers = {peer for name in changed for peer in self.index.relations.naming_as_peer(name)}
        for name in peers:
            self.retry.undone(name)
        return changed | peers

    def _note_drift(self, scope: Scope, planned: Plan, exempt: set[Name]) -> None:
        """Note every interface that was as declared and no longer is, though nobody declared otherwise."""
        for name, verdict in planned.verdicts.items():
            if verdict.differences and name not in exempt:
                text = "; ".join(verdict.differences)
                if name in self._fulfilled:
                    self._drift[name] = text
                    self.retry.drifted(name, self._clock(), repair=self._repairs_drift)
                    log.info("drift", interface=name, different=text)
                elif name in self._drift and verdict.link is None:
                    # A link that dies goes down and loses its addresses first; this is the whole of it.
                    self._drift[name] = text
        self._fulfilled -= scope.names
        for name, verdict in planned.verdicts.items():
            if verdict.fulfilled:
                self.retry.undone(name)
                self._fulfilled.add(name)

    def _note_ineffective(self, planned: Plan, achieved: set[Operation]) -> None:
        """Do not repeat within a round what the kernel accepted without effect."""
        for operation in achieved & planned.steps.keys():
            if isinstance(operation, PromoteSecondaries):  # nothing that is observed tells of it
                continue
            text = f"{operation}: the kernel accepted it, but it did not take effect"
            outcome = Outcome(operation, errno.EAGAIN, text)
            self.retry.refused(outcome, planned.steps[operation].names, text, self._clock())

    # Carrying out

    async def _carry_out(self, planned: Plan, achieved: set[Operation]) -> bool:
        """Carry out what may be tried now, wave by wave; tell whether anything was."""
        waves = Waves(planned.steps)
        tried = False
        while wave := waves.next():
            now = self._clock()
            steps = [step for step in wave if self.retry.may_try(step.operation, step.names, now)]
            if not steps:
                break
            tried = True
            due = [step.operation for step in steps]
            # What was tried is planned anew, whether or not anything is heard of it.
            self.index.touch(name for step in steps for name in step.names)
            self.index.touch(namespaces=(op.id for op in due if isinstance(op, RemoveNamespace)))
            outcomes = await self._execute(due)
            self.counters.wave(due, outcomes)
            stale: set[NsId] = set()
            for step, outcome in zip(steps, outcomes, strict=True):
                if outcome.errno == 0:
                    achieved.add(step.operation)
                    self.retry.succeeded(step.operation)
                    waves.done(step)
                    log.debug("done", operation=step.operation)
                    continue
                self._note_refusal(replace(outcome, operation=step.operation), step.names)
                if fate(outcome.errno) is Fate.STALE:
                    stale |= _namespaces_of(outcome.operation)
            self._attention.fold()
            if any(isinstance(op, CreateNamespace | RemoveNamespace) for op in due):
                await self._attention.attend()
            if stale:
                await self._attention.look(stale)
        return tried

    def _note_refusal(self, outcome: Outcome, names: frozenset[Name]) -> None:
        text = self._with_references(str(KernelRefused(outcome.operation, outcome.errno, outcome.text)))
        self.retry.refused(outcome, names, text, self._clock(), self._link_of(outcome.operation))
        log.info("refused", operation=str(outcome.operation), errno=outcome.errno, text=outcome.text)

    def _with_references(self, text: str) -> str:
        """Name namespaces as people do, where an operation has their ids."""
        for ref, id in self.index.observed().namespaces.items():
            text = text.replace(f"[{id}]", str(ref))
        return text

    async def _execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Have the kernel carry out one wave; what names a link that does not exist fails here."""
        concrete = [self._concrete(operation) for operation in operations]
        possible = [operation for operation in concrete if operation is not None]
        outcomes = iter(await self.kernel.execute(possible))
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
        link = self.index.link_named(namespace, target.host_name) if namespace is not None else None
        return Target(link.id.namespace, link.host_name, link.id.ifindex) if link else None

    def _link_of(self, operation: Operation) -> Link | None:
        """Return what is known of the link that an operation changes, ``None`` for one that does not change any."""
        if isinstance(operation, CreateNamespace | RemoveNamespace | CreateVeth):
            return None
        target = self._target(operation.target)
        if target is None or isinstance(target.namespace, NamespaceRef) or target.ifindex is None:
            return None
        return self.index.observed().link(LinkId(target.namespace, target.ifindex))

    def _namespace(self, place: Place) -> NsId | None:
        return self.index.namespace(place) if isinstance(place, NamespaceRef) else place

    # What to tell

    def _publish(self, decided: set[Name]) -> None:
        now, clock = self._clock(), time.time()
        desired, observed = self.index.desired(), self.index.observed()
        changed: dict[Name, InterfaceState] = {}
        gone: list[Name] = []
        told: list[InterfaceState] = []
        # What was declared anew since the plan was made is told after the next one.
        for name in decided - self.index.changed:
            before = self.hub.states.get(name)
            if name not in self.index.declared and name not in self._leaving:
                self._found.pop(name, None)
                if before is not None:
                    gone.append(name)
                continue
            found = self._findings(name, desired, observed)
            if before is not None and found.hold and found == self._found.get(name):
                continue
            self._found[name] = found
            state = report(found, before, now=now, clock=clock)
            if state is not before:
                changed[name] = state
                if before is None or (before.config_state, before.reason) != (state.config_state, state.reason):
                    told.append(state)
        self.hub.publish(changed, {name: deleted(self.hub.states[name], clock) for name in gone})
        _log(told, gone)

    def _findings(self, name: Name, desired: Desired, observed: Observed) -> Findings:
        verdict, interface = self._verdicts.get(name, _NOTHING_FOUND), desired.interfaces.get(name)
        link = observed.link(verdict.link)
        return Findings(
            name=name,
            declaration=self.index.declared.get(name),
            interface=interface,
            verdict=verdict,
            link=link,
            peer=observed.peer(link) if link else None,
            namespace_id=observed.namespaces.get(interface.namespace) if interface else None,
            refusals=self.retry.refusals_of(name),
            unrest=self.retry.unrest_of(name),
            last_drift=self._drift.get(name, ""),
        )


def _namespaces_of(operation: Operation) -> set[NsId]:
    """Return the namespaces in which a refused operation may have met something unknown."""
    match operation:
        case CreateVeth():
            places: tuple[Place, ...] = (operation.near.namespace, operation.far.namespace)
        case CreateNamespace() | RemoveNamespace():
            places = ()
        case MoveLink():
            places = (operation.target.namespace, operation.to)
        case _:
            places = (operation.target.namespace,)
    return {place for place in places if not isinstance(place, NamespaceRef)}


def _log(told: Sequence[InterfaceState], gone: Sequence[Name]) -> None:
    """Log what has become of interfaces; of many that are right, or gone, at once only how many they are."""
    applied = [state for state in told if state.config_state is ConfigState.APPLIED]
    for state in told if len(applied) <= MANY else (s for s in told if s.config_state is not ConfigState.APPLIED):
        fields = {"interface": state.name, "link": state.internal_name, "reason": state.reason}
        log.info(state.config_state.lower(), **{key: value for key, value in fields.items() if value})
    if len(applied) > MANY:
        log.info("applied", interfaces=len(applied))
    for name in gone if len(gone) <= MANY else ():
        log.info("deleted", interface=name)
    if len(gone) > MANY:
        log.info("deleted", interfaces=len(gone))
