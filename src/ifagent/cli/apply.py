"""``ifagent apply``: declare the interfaces in files, and wait for them if asked."""

from __future__ import annotations

import math
from contextlib import aclosing
from pathlib import Path

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.failures import Failure
from ifagent.cli.options import place_options
from ifagent.cli.places import store_of
from ifagent.cli.validate import check_files
from ifagent.cli.words import link
from ifagent.client.stores import Store
from ifagent.core.interface import Interface, Name
from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.errors import SourceLost

HOPELESS = frozenset({ConfigState.FAILED, ConfigState.INVALID})
"""States that waiting alone does not change."""

GRACE = 1.0
"""Seconds that a hopeless state must last: what it clashes with may be about to change too."""


@click.command("apply")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait until all of them are applied; exit with 1 and say why if one is not.",
)
@place_options()
def command(
    files: tuple[Path, ...],
    wait: float | None,
    store: str,
    label: str,
    socket: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Declare the interfaces in files, or in directories of them.

    All are checked before the first is declared, and declared together. Interfaces that are declared already
    and not in the files stay.
    """
    logs.configure(level=log_level, format=log_format)
    place = store_of(store=store, label=label, socket=socket)
    checked = check_files(files)
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
    if checked.errors:
        for error in checked.errors:
            click.echo(error, err=True)
        raise Failure("nothing was declared, the files have errors")
    interfaces = list(checked.interfaces.values())
    anyio.run(_apply, place, interfaces, wait, backend="asyncio")


async def _apply(store: Store, interfaces: list[Interface], wait: float | None) -> None:
    async with store:
        await store.put(interfaces)
        count = f"{len(interfaces)} {'interface' if len(interfaces) == 1 else 'interfaces'}"
        click.echo(f"{count} declared")
        if wait is None or not interfaces:
            return
        # Several transactions, or somebody else in between, give each interface a revision of its own.
        declared = await store.declarations()
        names = {interface.name for interface in interfaces}
        waiting = {name: declaration.revision for name, declaration in declared.items() if name in names}
        progress = _Progress(waiting)
        try:
            await _wait(store, progress, wait)
        except SourceLost as error:
            raise Failure(f"declared, but nothing is known of what became of it: {error}") from None
    for name in names - declared.keys():
        progress.states[name] = None
    if progress.states:
        for name, state in sorted(progress.states.items()):
            click.echo(f"{name}: {_why(state)}", err=True)
        raise Failure(f"not applied: {', '.join(sorted(progress.states))}")


class _Progress:
    """Which interfaces are still waited for, and the last that was heard of them."""

    def __init__(self, revisions: dict[Name, int]) -> None:
        self._revisions = revisions
        self.states: dict[Name, InterfaceState | None] = dict.fromkeys(revisions)

    def take(self, name: Name, state: InterfaceState | None) -> None:
        """Note the newest state; one of an older declaration does not count."""
        if name not in self._revisions:
            return
        if state is None or state.observed_revision < self._revisions[name]:
            self.states[name] = None
            return
        if state.config_state is ConfigState.APPLIED:
            if self.states.pop(name, state) is not state:
                click.echo(f"{name}: APPLIED, {link(state)}")
            return
        before = self.states.get(name)
        if before is None or (before.config_state, before.reason) != (state.config_state, state.reason):
            click.echo(f"{name}: {_why(state)}")
        self.states[name] = state

    @property
    def hopeless(self) -> bool:
        """True if whatever is left will not change by itself."""
        return all(state and state.config_state in HOPELESS for state in self.states.values())


async def _wait(store: Store, progress: _Progress, seconds: float) -> None:
    """Follow the states until all are applied, or it makes no sense any more."""
    deadline = anyio.current_time() + seconds
    with anyio.CancelScope(deadline=deadline) as scope:
        async with aclosing(store.watch()) as events:
            hopeless_since = math.inf
            while progress.states:
                event = await anext(events)
                progress.take(event.name, None if event.event is Change.DELETED else event.state)
                hopeless_since = min(hopeless_since, anyio.current_time()) if progress.hopeless else math.inf
                scope.deadline = min(deadline, hopeless_since + GRACE)


def _why(state: InterfaceState | None) -> str:
    if state is None:
        return "the agent has said nothing of it"
    return f"{state.config_state}, {state.reason}" if state.reason else str(state.config_state)
