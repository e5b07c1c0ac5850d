"""One round: from whatever was said to a kernel that is as declared, as far as it can be.

A round folds the inbox into the index, then plans, carries out and looks again until there is nothing left that may be
done now, or others have waited long enough. Each time it plans some of what was touched (:mod:`ifagent.core.agenda`),
and it ends with the states of what it has planned. What is left over waits for the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskStatus

from ifagent.core.budget import AIM, Budget
from ifagent.core.desired import Desired
from ifagent.core.drift import Drift
from ifagent.core.index import HOST_ROUTES, Index
from ifagent.core.interface import Name
from ifagent.core.link import LinkId
from ifagent.core.observed import Observed
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.planner import plan
from ifagent.core.planning import Planning
from ifagent.core.policy import Policy
from ifagent.core.retry import RetryBook
from ifagent.core.scope import Scope
from ifagent.execution import Execution
from ifagent.host_routes import HostRoutesWatch
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.namespaces import NamespaceTracker
from ifagent.pauses import Pauses
from ifagent.publishing import Publishing
from ifagent.runtime_file import RuntimeFile
from ifagent.settling import Settling
from ifagent.statistics import LoopCounters
from ifagent.stream import StateHub
from ifagent.watchers.contract import NamespaceWatcher

MAX_PASSES = 16
"""Most times one round plans before it publishes what it has; the next round goes on from there."""


Planner = Callable[[Desired, Observed, Owner, Policy], Plan]
"""What decides, such as :func:`ifagent.core.planner.plan`."""


class Reconciler:
    """Brings the kernel to what the index says is desired. Used by the agent's loop only.

    ``runtime_file`` keeps what is remembered, before anything is done because of it. ``policy`` is what may be done at
    all; links that lead to ``hosts`` are not cut. With ``repairs_drift`` false, external changes are only
    reported. ``plan`` decides. ``clock`` returns the monotonic time, in seconds, that ``next_time`` is measured in.
    :meth:`run` has to run beside the rounds.
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
        plan: Planner = plan,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.kernel = kernel
        self.index = index
        self.inbox = inbox
        self.owner = owner
        self.retry: RetryBook = RetryBook()
        self.counters: LoopCounters = LoopCounters()
        self.settling: Settling = Settling(inbox, index.agenda)
        self.namespaces: NamespaceTracker = NamespaceTracker(kernel, index, inbox, watchers)
        self.next_time: float | None = None
        self._runtime_file = runtime_file
        self._policy = policy
        self._repairs_drift = repairs_drift
        self._plan_scope = plan
        self._clock = clock
        self._folded = 0
        self._folding = anyio.Lock()
        self._changed_by_intent: set[Name] = set()
        self._inspected: frozenset[LinkId] = frozenset()
        self._budget = Budget()
        self._drift = Drift()
        self._host_routes = HostRoutesWatch(kernel, inbox, hosts, index.attached_of_host)
        self._publishing = Publishing(hub, index, self.retry, self._drift, clock=clock)
        self._planning = Planning(index, owner, policy)
        self._execution = Execution(
            kernel,
            index,
            self._planning,
            self.namespaces,
            self.retry,
            self.counters,
            fold=self._fold,
            wake=inbox.wake,
            clock=clock,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Do what rounds do not wait for, until cancelled."""
        async with anyio.create_task_group() as group:
            self._execution.group = group
            group.start_soon(self.namespaces.run)
            group.start_soon(self._host_routes.run)
            task_status.started()

    @property
    def idle(self) -> bool:
        """True while nothing is being done or found out beside the rounds that the next ones wait for."""
        now = self._clock()
        rests = self.index.agenda.next_time(now) != now
        return rests and self._execution.idle and self.namespaces.idle and self._host_routes.idle

    def request_full_resync(self, *, repair: bool = False) -> anyio.Event:
        """Look at every namespace anew and plan everything; with ``repair``, put right what was left as drifted.

        The event says when the looking is done.
        """
        self.retry.retry_permanent()
        if repair:
            self.retry.resume_repairs()
        self.index.touch_everything()
        self.inbox.wake()
        return self.namespaces.relist_all()

    async def round(self) -> None:
        """Carry out one round; afterwards ``next_time`` says when the next is due without news."""
        began, planned = self._clock(), dict[Name, int]()
        for _ in range(MAX_PASSES):
            more, now = await self._pass(planned), self._clock()
            if not more or now - began >= AIM or not (self.inbox or self._next_time(now) == now):
                break
        # What was declared anew, or had something done for it since the plan was made, is told after the next one.
        agenda, changed = self.index.agenda, self.index.changed
        told = {n: folded for n, folded in planned.items() if not (n in changed or agenda.will_be_told_later(n))}
        self._publishing.publish(told)
        self.settling.look(self._folded, told)
        self.counters.rounds += 1
        times = [time for time in (self.retry.next_time(now), self._next_time(now)) if time is not None]
        self.next_time = min(times, default=None)
        self._publishing.tell(rests=self.next_time is None or self.next_time > now)

    async def _pass(self, decided: dict[Name, int]) -> bool:
        """Take in what was said, plan some of what was touched and begin with it; return whether there was anything."""
        await self._fold()
        self._forget_changed()
        self.namespaces.attach_needed()
        await self._inspect()
        folded, now = self._folded, self._clock()
        since = self.inbox.take_oldest()
        scope = self._scope(now)
        if scope is None:
            return False
        planned = self._plan(scope)
        decided.update(dict.fromkeys(scope.names, folded))
        await self._runtime_file.save(self.index.remembered)
        self._note_drift(scope, planned)
        self._execution.note_ineffective(planned)
        self._execution.start(scope, planned, since)
        self._budget.spent(len(scope.nodes), self._clock() - now)
        return True

    async def _fold(self) -> None:
        """Take in everything that has been said until now."""
        self.kernel.drain()
        async with self._folding:  # one after the other: what was said later counts
            events, sequence = self.inbox.drain(), self.inbox.sequence
            pauses = Pauses()
            for event in events:
                self.index.take(event)
                await pauses.now_and_then()
            while self.index.unsettled:
                self.index.settle()
                await pauses.now_and_then()
            self._folded = sequence

    async def _inspect(self) -> None:
        """Find out what the plan has to know of some links and the kernel does not tell by itself."""
        wanted = self.index.marks.without_checksums
        if wanted != self._inspected:
            self._inspected = frozenset(wanted)
            await self.kernel.inspect(wanted)
            await self._fold()

    def _forget_changed(self) -> None:
        """Clear what stood in the way of changed interfaces; what is different of them and their peers is no drift."""
        changed = set(self.index.take_changed())
        for name in changed:
            if name in self.index.declared:
                self.retry.changed(name)
            else:
                self.retry.forget(name)
                self._drift.forget(name)
        interfaces = self.index.graph.interfaces
        self.namespaces.update_watchers(interfaces[name].namespace for name in changed if name in interfaces)
        peers = {peer for name in changed for peer in self.index.graph.referring_to(name)}
        for name in peers:
            self.retry.drift_resolved(name)
        self._changed_by_intent |= changed | peers

    # Planning

    def _next_time(self, now: float) -> float | None:
        """Return when something may be planned next; while too much is under way, its end is waited for."""
        return None if self._execution.busy else self.index.agenda.next_time(now)

    def _scope(self, now: float) -> Scope | None:
        """Return what is to be planned now, ``None`` if there is nothing."""
        self.index.touch_nodes(self.retry.due(now))
        if self._next_time(now) != now:
            return None
        scope = self._planning.take_scope(now, self._budget.size)
        if self.index.agenda.awaits(HOST_ROUTES):
            self._host_routes.ask()
        return scope or None

    def _plan(self, scope: Scope) -> Plan:
        self.retry.retry_if_link_changed(scope.names, self._execution.link_of, self._execution.surroundings_of)
        planned = self._plan_scope(scope.desired, scope.observed, self.owner, self._policy)
        self.retry.keep_only(planned.steps, scope.nodes)
        busy = {name for step in planned.steps.values() for name in step.names}
        self._publishing.take_in(scope.names, planned.verdicts, busy)
        self.index.note(planned)
        return planned

    def _note_drift(self, scope: Scope, planned: Plan) -> None:
        """Note every interface that was as declared and no longer is, though nobody declared otherwise."""
        for name, text in self._drift.find(scope.names, planned.verdicts, self._changed_by_intent):
            self.retry.drifted(name, self._clock(), repair=self._repairs_drift)
            log.info("interface drifted", interface=name, different=text)
        self._changed_by_intent -= scope.names
        for name, verdict in planned.verdicts.items():
            if verdict.fulfilled and name in scope.names:
                self.retry.drift_resolved(name)
