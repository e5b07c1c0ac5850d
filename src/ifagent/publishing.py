"""From what was found to the states that everybody sees, and to lines in the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from ifagent.core.desired import Desired
from ifagent.core.drift import Drift
from ifagent.core.index import Index
from ifagent.core.interface import Name
from ifagent.core.observed import Observed
from ifagent.core.plan import Verdict
from ifagent.core.report import Findings, build_state, deleted
from ifagent.core.retry import RetryBook
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.log import log
from ifagent.stream import StateHub

LOG_ONE_BY_ONE_MAX = 50
"""Most interfaces that are logged one by one when they have become right, or gone, in one stretch of work."""

TELL = 1.0
"""Seconds after which what has become of interfaces is logged, though there is still more to do."""

_NOTHING_FOUND = Verdict()


class Publishing:
    """Publishes states in ``hub``. Used by rounds only; ``clock`` returns the monotonic time in seconds."""

    def __init__(
        self, hub: StateHub, index: Index, retry: RetryBook, drift: Drift, *, clock: Callable[[], float]
    ) -> None:
        self._hub = hub
        self._index = index
        self._retry = retry
        self._drift = drift
        self._clock = clock
        self._verdicts: dict[Name, Verdict] = {}
        self._found: dict[Name, Findings] = {}
        self._leaving: set[Name] = set()
        self._log = _Account()

    def take_in(self, names: Collection[Name], verdicts: Mapping[Name, Verdict], busy: Collection[Name]) -> None:
        """Take in what a plan says of interfaces; ``busy`` are those for which it has something to do."""
        for name in names:
            verdict = verdicts.get(name)
            if verdict is None:
                self._verdicts.pop(name, None)
            else:
                self._verdicts[name] = verdict
            # Only of what had a state there is one that says how it goes.
            going = name not in self._index.declared and name in self._hub.states
            if going and (name in busy or verdict is not None):
                self._leaving.add(name)
            else:
                self._leaving.discard(name)

    def publish(self, names: Iterable[Name]) -> None:
        """Publish what is different of the states of these interfaces."""
        now, clock = self._clock(), time.time()
        desired, observed = self._index.desired(), self._index.observed()
        changed: dict[Name, InterfaceState] = {}
        gone: list[Name] = []
        for name in names:
            before = self._hub.states.get(name)
            if name not in self._index.declared and name not in self._leaving:
                self._found.pop(name, None)
                if before is not None:
                    gone.append(name)
                continue
            found = self._findings(name, desired, observed)
            if before is not None and found.is_time_independent and found == self._found.get(name):
                continue
            self._found[name] = found
            state = build_state(found, before, now=now, clock=clock)
            if state is not before:
                changed[name] = state
                if before is None or (before.config_state, before.reason) != (state.config_state, state.reason):
                    self._log.changed(state, now)
        self._log.gone(gone, now)
        self._hub.publish(changed, {name: deleted(self._hub.states[name], clock) for name in gone})

    def tell(self, *, rests: bool) -> None:
        """Log what has become of interfaces, if there is nothing more to do, or enough time has passed."""
        self._log.tell(self._clock(), rests=rests)

    def _findings(self, name: Name, desired: Desired, observed: Observed) -> Findings:
        verdict, interface = self._verdicts.get(name, _NOTHING_FOUND), desired.interfaces.get(name)
        link = observed.link(verdict.link)
        return Findings(
            name=name,
            declaration=self._index.declared.get(name),
            interface=interface,
            verdict=verdict,
            link=link,
            peer=observed.peer(link) if link else None,
            namespace_id=observed.namespaces.get(interface.namespace) if interface else None,
            refusals=self._retry.refusals_of(name),
            drift=self._retry.drift_of(name),
            last_drift=self._drift.last(name),
            remark=self._index.remark(interface.namespace) if interface else "",
        )


class _Account:
    """What is to be logged: of many interfaces that are right, or gone, in one stretch of work only how many."""

    def __init__(self) -> None:
        self._applied: list[InterfaceState] = []
        self._gone: list[Name] = []
        self._since: float | None = None

    def changed(self, state: InterfaceState, now: float) -> None:
        if state.config_state is not ConfigState.APPLIED:
            _log_state(state)
            return
        self._since = now if self._since is None else self._since
        self._applied.append(state)

    def gone(self, names: Collection[Name], now: float) -> None:
        if names:
            self._since = now if self._since is None else self._since
            self._gone.extend(names)

    def tell(self, now: float, *, rests: bool) -> None:
        if self._since is None or not (rests or now - self._since >= TELL):
            return
        self._since = None
        applied, self._applied, gone, self._gone = self._applied, [], self._gone, []
        for state in applied if len(applied) <= LOG_ONE_BY_ONE_MAX else ():
            _log_state(state)
        if len(applied) > LOG_ONE_BY_ONE_MAX:
            log.info("interfaces applied", interfaces=len(applied))
        for name in gone if len(gone) <= LOG_ONE_BY_ONE_MAX else ():
            log.info("interface deleted", interface=name)
        if len(gone) > LOG_ONE_BY_ONE_MAX:
            log.info("interfaces deleted", interfaces=len(gone))


def _log_state(state: InterfaceState) -> None:
    fields = {"interface": state.name, "link": state.internal_name, "reason": state.reason}
    log.info(f"interface {state.config_state.lower()}", **{key: value for key, value in fields.items() if value})
