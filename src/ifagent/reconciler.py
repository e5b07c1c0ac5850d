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
from ifagent.core.index import HOST_ROUTES, Index
from ifagent.core.ownership import Owner
from ifagent.core.plan import Plan
from ifagent.core.planner import Planner, plan
from ifagent.core.planning import Planning
from ifagent.core.policy import Policy
from ifagent.core.records import Records
from ifagent.core.resources import Key
from ifagent.core.retry import RetryBook
from ifagent.core.scope import Scope
from ifagent.execution import Execution
from ifagent.folding import Folding
from ifagent.host_routes import HostRoutesWatch
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.namespaces import NamespaceTracker
from ifagent.publishing import Publishing
from ifagent.runtime_file import RuntimeFile
from ifagent.settling import Settling
from ifagent.statistics import LoopCounters
from ifagent.stream import StateHub
from ifagent.watchers.contract import NamespaceWatcher

MAX_PASSES = 16
"""Most times one round plans before it publishes what it has; the next round goes on from there."""


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
        self.index = index
        self.inbox = inbox
        self.owner = owner
        self.records: Records = Records()
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
        self._budget = Budget()
        self._folding = Folding(kernel, index, inbox)
        self._host_routes = HostRoutesWatch(kernel, inbox, hosts, index.host.attached)
        self._publishing = Publishing(hub, index, self.records, self.retry, clock=clock)
        self._planning = Planning(index, owner, policy)
        self._execution = Execution(
            kernel,
            index,
            self._planning,
            self.namespaces,
            self.retry,
            self.records,
            self.counters,
            fold=self._folding.fold,
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
        now, beside = self._clock(), (self._execution, self.namespaces, self._host_routes)
        return self.index.agenda.next_time(now) != now and all(each.idle for each in beside)

    def request_full_resync(self, *, repair: bool = False) -> anyio.Event:
        """Look at every namespace anew and plan everything; with ``repair``, put right what was left as drifted.

        The event says when the looking is done.
        """
        self.retry.retry_permanent()
        if repair:
            self.records.resume_repairs()
        self.index.touch_everything()
        self.inbox.wake()
        return self.namespaces.relist_all()

    async def round(self) -> None:
        """Carry out one round; afterwards ``next_time`` says when the next is due without news."""
        began, planned = self._clock(), dict[Key, int]()
        for _ in range(MAX_PASSES):
            more, now = await self._pass(planned), self._clock()
            if not more or now - began >= AIM or not (self.inbox or self._next_planning(now) == now):
                break
        self.settling.look(self._folding.folded, await self._publishing.publish(planned))
        self.counters.rounds += 1
        due = [self.retry.next_time(), self.records.next_time(), self._next_planning(now)]
        self.next_time = min((max(time, now) for time in due if time is not None), default=None)
        self._publishing.tell(rests=self.next_time is None or self.next_time > now)

    async def _pass(self, decided: dict[Key, int]) -> bool:
        """Take in what was said, plan some of what was touched and begin with it; return whether there was anything."""
        await self._folding.fold()
        self._note_changed()
        self.namespaces.attach_needed()
        await self._folding.inspect()
        folded, now, since = self._folding.folded, self._clock(), self.inbox.take_oldest()
        scope = self._scope(now)
        if scope is None:
            return False
        planned = self._plan(scope)
        decided.update(dict.fromkeys(scope.keys, folded))
        await self._runtime_file.save(self.index.remembered)
        self._execution.note_ineffective(planned)
        self._execution.start(scope, planned, since)
        self._budget.spent(len(scope.nodes), self._clock() - now)
        return True

    def _note_changed(self) -> None:
        """Clear what stood in the way of changed interfaces; what is different of them and their peers is no drift."""
        interfaces = self.index.graph.interfaces
        changed = self.index.take_changed()
        for key in changed:
            self.retry.forget(key)
            self.records.declaration_changed(key, is_declared=key in self.index.declared)
            for other in self.index.graph.referring_to(key):
                self.records.reference_changed(other)
        self.namespaces.update_watchers(interfaces[key.name].namespace for key in changed if key.name in interfaces)

    # Planning

    def _next_planning(self, now: float) -> float | None:
        """Return when something may be planned next; while too much is under way, its end is waited for."""
        return None if self._execution.busy else self.index.agenda.next_time(now)

    def _scope(self, now: float) -> Scope | None:
        """Return what is to be planned now, ``None`` if there is nothing."""
        self.index.touching.nodes(self.retry.due(now))
        self.index.touching.keys(self.records.due(now))
        if self._next_planning(now) != now:
            return None
        scope = self._planning.take_scope(now, self._budget.size)
        if self.index.agenda.awaits(HOST_ROUTES):
            self._host_routes.ask()
        return scope or None

    def _plan(self, scope: Scope) -> Plan:
        """Plan, and note what was found."""
        self.retry.retry_if_link_changed(scope.keys, self._execution.link_of, self._execution.surroundings_of)
        planned = self._plan_scope(scope.desired, scope.observed, self.owner, self._policy)
        self.retry.keep_only(planned.steps, scope.nodes)
        now, repair = self._clock(), self._repairs_drift
        for key, different in self.records.take_in(scope.keys, planned.verdicts, now, repair=repair):
            log.info("interface drifted", interface=key.name, different=different)
        self._publishing.note_removals(scope.keys, {key for step in planned.steps.values() for key in step.keys})
        self.index.note(planned)
        return planned
