"""From what was found to the states that everybody sees, and to lines in the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

from ifagent.core.desired import Desired
from ifagent.core.index import Index
from ifagent.core.observed import Observed
from ifagent.core.records import Record, Records
from ifagent.core.report import Beside, Findings, build_state, deleted
from ifagent.core.resources import Key
from ifagent.core.retry import RetryBook
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.log import log
from ifagent.pauses import Pauses
from ifagent.stream import StateHub

LOG_ONE_BY_ONE_MAX = 50
"""Most interfaces that are logged one by one when their state has become the same, or they are gone, in one go."""

EXAMPLES = 5
"""How many of more that are not applied are logged one by one nevertheless, as their reasons tell why."""

AT_ONCE = 64
"""Most states that are published in one go, some 5 ms of work."""

TELL = 1.0
"""Seconds after which what has become of interfaces is logged, though there is still more to do."""


class Publishing:
    """Publishes states in ``hub``. Used by rounds only; ``clock`` returns the monotonic time in seconds."""

    def __init__(
        self, hub: StateHub, index: Index, records: Records, retry: RetryBook, *, clock: Callable[[], float]
    ) -> None:
        self._hub = hub
        self._index = index
        self._records = records
        self._retry = retry
        self._clock = clock
        self._log = _Account()

    def note_removals(self, keys: Iterable[Key], busy: Collection[Key]) -> None:
        """Note which of these resources are being removed; ``busy`` are those for which a plan has something to do."""
        for key in keys:
            # Only of what had a state there is one that says how it goes.
            if key not in self._index.declared and key in self._hub.states:
                record = self._records.of(key)
                record.being_removed = key in busy or record.verdict is not None

    async def publish(self, planned: Mapping[Key, int]) -> dict[Key, int]:
        """Publish what is different of the states of resources that were planned, with pauses; return those it did.

        What was declared anew, or had something done for it since the plan was made, is published after the next one.
        """
        published: dict[Key, int] = {}
        left, pauses = iter(planned.items()), Pauses()
        while some := dict(islice(left, AT_ONCE)):
            for key in [key for key in some if self._index.is_about_to_change(key)]:
                del some[key]
            self._publish(some)
            published |= some
            await pauses.now_and_then()
        return published

    def _publish(self, keys: Iterable[Key]) -> None:
        now, clock = self._clock(), time.time()
        desired, observed = self._index.desired(), self._index.observed()
        changed: dict[Key, InterfaceState] = {}
        gone: list[Key] = []
        for key in keys:
            before, record = self._hub.states.get(key), self._records.of(key)
            if key in self._index.declared:
                record.being_removed = False
            elif not record.being_removed:
                self._records.forget(key)
                if before is not None:
                    gone.append(key)
                continue
            found = self._findings(key, record, desired, observed)
            if before is not None and found.is_time_independent and found == record.findings:
                continue
            record.findings = found
            state = build_state(found, before, now=now, clock=clock)
            if state is not before:
                changed[key] = state
                if before is None or (before.config_state, before.reason) != (state.config_state, state.reason):
                    self._log.changed(state, now)
        self._log.gone(gone, now)
        self._hub.publish(changed, {key: deleted(self._hub.states[key], clock) for key in gone})

    def tell(self, *, rests: bool) -> None:
        """Log what has become of interfaces, if there is nothing more to do, or enough time has passed."""
        self._log.tell(self._clock(), rests=rests)

    def _findings(self, key: Key, record: Record, desired: Desired, observed: Observed) -> Findings:
        verdict, interface = record.verdict, desired.interfaces.get(key.name)
        link = observed.link(verdict.link) if verdict else None
        return Findings(
            key=key,
            declaration=self._index.declared.get(key),
            interface=interface,
            verdict=verdict,
            link=link,
            beside=Beside.of(link, observed),
            namespace_id=observed.namespaces.get(interface.namespace) if interface else None,
            refusals=self._retry.refusals_of(key),
            drift=record.drift,
            remark=self._index.remark(interface.namespace) if interface else "",
        )


class _Account:
    """What is to be logged: of many interfaces whose state has become the same in one stretch of work only how many."""

    def __init__(self) -> None:
        self._states: list[InterfaceState] = []
        self._gone: list[Key] = []
        self._since: float | None = None

    def changed(self, state: InterfaceState, now: float) -> None:
        self._since = now if self._since is None else self._since
        self._states.append(state)

    def gone(self, keys: Collection[Key], now: float) -> None:
        if keys:
            self._since = now if self._since is None else self._since
            self._gone.extend(keys)

    def tell(self, now: float, *, rests: bool) -> None:
        if self._since is None or not (rests or now - self._since >= TELL):
            return
        self._since = None
        states, self._states, gone, self._gone = self._states, [], self._gone, []
        counts, logged = Counter(state.config_state for state in states), Counter[ConfigState]()
        for state in states:
            many = counts[state.config_state] > LOG_ONE_BY_ONE_MAX
            if not many or (state.config_state is not ConfigState.APPLIED and logged[state.config_state] < EXAMPLES):
                logged[state.config_state] += 1
                _log_state(state)
        for config_state, count in counts.items():
            if count > LOG_ONE_BY_ONE_MAX:
                log.info(f"interfaces {config_state.lower()}", interfaces=count)
        for key in gone if len(gone) <= LOG_ONE_BY_ONE_MAX else ():
            log.info("interface deleted", interface=key.name)
        if len(gone) > LOG_ONE_BY_ONE_MAX:
            log.info("interfaces deleted", interfaces=len(gone))


def _log_state(state: InterfaceState) -> None:
    fields = {"interface": state.name, "link": state.internal_name, "reason": state.reason}
    log.info(f"interface {state.config_state.lower()}", **{key: value for key, value in fields.items() if value})
