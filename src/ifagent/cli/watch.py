"""``ifagent watch``: a snapshot of the states, then every change, one line each."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import assert_never

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.formatting import COLOURS, link
from ifagent.cli.options import foreign_option, json_option, place_options
from ifagent.cli.output import Coloured, say, say_json
from ifagent.cli.resolve import socket_of, store_of
from ifagent.cli.signals import cancel_on_closed_stdout, cancelled_on_signal
from ifagent.core.state import Change, ConfigState, StateEvent
from ifagent.formats.state import encode_event
from ifagent.stores.contract import Store


@click.command("watch")
@json_option
@foreign_option
@place_options()
def command(
    *,
    as_json: bool,
    foreign: bool,
    store: str,
    label: str,
    socket: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Stream interface states, one line each: a snapshot, then every change, until interrupted.

    Reconnects to an agent or a store that goes away.
    """
    logs.configure(level=log_level, format=log_format)
    if foreign:
        from ifagent.agent_socket import watch_states

        follow = partial(_follow, watch_states(socket_of(label=label, socket=socket), foreign=True), as_json=as_json)
    else:
        follow = partial(_follow_store, store_of(store=store, label=label, socket=socket), as_json=as_json)
    anyio.run(follow, backend="asyncio")


async def _follow_store(store: Store, *, as_json: bool) -> None:
    async with store:
        await _follow(store.watch(), as_json=as_json)


async def _follow(states: AsyncGenerator[StateEvent, None], *, as_json: bool) -> None:
    interrupted = anyio.CancelScope()
    with interrupted, cancelled_on_signal(interrupted):
        async with anyio.create_task_group() as group, aclosing(states) as events:
            group.start_soon(cancel_on_closed_stdout, interrupted)
            async for event in events:
                # Flushed after every line, so that a program that reads it is never behind.
                if as_json:
                    say_json(encode_event(event))
                else:
                    say(*_in_words(event))


def _in_words(event: StateEvent) -> tuple[str | Coloured, ...]:
    moment = time.strftime("%H:%M:%S")
    if event.state is None:
        return (f"{moment} ({event.missed} intermediate states were skipped)",)
    state = event.state
    begin = f"{moment} {event.name}: "
    what = Coloured(f"{state.config_state!s:8}", COLOURS[state.config_state])
    now = link(state) if state.config_state is ConfigState.APPLIED else state.reason
    if state.config_state is not ConfigState.APPLIED and state.if_index:
        now = f"{state.reason} ({link(state)})"
    match event.event:
        case Change.DELETED:
            return (f"{begin}deleted",)
        case Change.CREATED:
            return begin, what, f" new, {now}"
        case Change.SNAPSHOT | Change.CHANGED | Change.GAP:
            return begin, what, f" {now}"
        case _:
            assert_never(event.event)
