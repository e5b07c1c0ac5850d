"""Waits until interfaces are applied, and prints meanwhile why they are not."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import aclosing

import anyio

from ifagent.cli.failures import Failure
from ifagent.cli.formatting import link
from ifagent.cli.output import complain, say
from ifagent.core.names import Name
from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.errors import SourceLost
from ifagent.stores.contract import Store

TERMINAL = frozenset({ConfigState.FAILED, ConfigState.INVALID})
"""States that need a change of the declaration, or of whatever it conflicts with."""

GRACE = 1.0
"""Seconds that a terminal state must last: what it conflicts with may be about to change too."""


async def wait_applied(store: Store, names: Collection[Name], seconds: float, *, prefix: str = "") -> None:
    """Wait until the values declared now under these names are applied, and print each change of state.

    Raises :class:`Failure` with the reason for each that is not, after ``seconds``, or earlier if nothing will change
    by itself. ``prefix`` begins the failure if the agent cannot be reached.
    """
    # With several transactions, or other writers, each interface has a revision of its own.
    declared = await store.declarations()
    progress = Progress({name: declared[name].revision for name in names if name in declared})
    try:
        await follow(store, progress, seconds)
    except SourceLost as error:
        raise Failure(f"{prefix}the outcome is unknown: {error}") from None
    reasons = {name: why(state) for name, state in progress.states.items()}
    reasons |= dict.fromkeys(set(names) - declared.keys(), "not declared")
    if reasons:
        for name, reason in sorted(reasons.items()):
            complain(f"{name}: {reason}")
        raise Failure(f"not applied: {', '.join(sorted(reasons))}")


class Progress:
    """Which interfaces are not applied yet, and their last states."""

    def __init__(self, revisions: Mapping[Name, int]) -> None:
        self._revisions = revisions
        self.states: dict[Name, InterfaceState | None] = dict.fromkeys(revisions)

    def take(self, name: Name, state: InterfaceState | None) -> None:
        """Note the newest state, and print it; one of an older declaration does not count."""
        if name not in self._revisions:
            return
        if state is None or state.observed_revision < self._revisions[name]:
            self.states[name] = None
            return
        if state.config_state is ConfigState.APPLIED:
            if self.states.pop(name, state) is not state:
                say(f"{name}: APPLIED, {link(state)}")
            return
        before = self.states.get(name)
        if before is None or (before.config_state, before.reason) != (state.config_state, state.reason):
            say(f"{name}: {why(state)}")
        self.states[name] = state

    @property
    def is_stuck(self) -> bool:
        """True if none of the remaining interfaces will change by itself."""
        return all(state and state.config_state in TERMINAL for state in self.states.values())


async def follow(store: Store, progress: Progress, seconds: float) -> None:
    """Follow the states until all interfaces are applied, the time is over, or the remaining ones are stuck."""
    deadline = anyio.current_time() + seconds
    with anyio.CancelScope(deadline=deadline) as scope:
        async with aclosing(store.watch()) as events:
            stuck_since = math.inf
            while progress.states:
                event = await anext(events)
                progress.take(event.name, None if event.event is Change.DELETED else event.state)
                stuck_since = min(stuck_since, anyio.current_time()) if progress.is_stuck else math.inf
                scope.deadline = min(deadline, stuck_since + GRACE)


def why(state: InterfaceState | None) -> str:
    """Return why an interface is not applied."""
    if state is None:
        return "the agent has not reported a state"
    return f"{state.config_state}, {state.reason}" if state.reason else str(state.config_state)
