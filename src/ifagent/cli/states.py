"""``ifagent states``: the state of every interface."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.options import foreign_option, json_option, place_options
from ifagent.cli.output import complain, say_json
from ifagent.cli.resolve import socket_of, store_of
from ifagent.core.names import Name
from ifagent.core.state import InterfaceState
from ifagent.stores.contract import Store


@click.command("states")
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
    """Show the state of every interface.

    With an etcd store, states are read from etcd; with a store of files, from the agent on this host.
    """
    logs.configure(level=log_level, format=log_format)
    if foreign:
        from ifagent.agent_socket import fetch_states

        ask = partial(fetch_states, socket_of(label=label, socket=socket), foreign=True)
    else:
        ask = partial(_states, store_of(store=store, label=label, socket=socket))
    states = anyio.run(ask, backend="asyncio")
    if as_json:
        from ifagent.formats.state import encode_state

        say_json([encode_state(state) for state in states.values()], indent=2)
    elif states:
        _show(states)
    else:
        complain("No states: nothing is declared, or no agent is running.")


async def _states(store: Store) -> dict[Name, InterfaceState]:
    async with store:
        return await store.states()


def _show(states: dict[Name, InterfaceState]) -> None:
    from ifagent.cli.formatting import kind_of, namespace, traffic, updown
    from ifagent.cli.tables import TextTable, coloured

    rates = ("in", "out") if any(any(traffic(state)) for state in states.values()) else ()
    listing = TextTable(
        "name", "state", "namespace", "host name", "kind", "link", "mac", "mtu", "addresses", *rates, "reason"
    )
    for state in states.values():
        place, addresses = namespace(state.namespace), [*map(str, state.ip_addresses)]
        kernel = [
            state.internal_name,
            kind_of(state),
            updown(state),
            state.phys_address,
            str(state.mtu or ""),
            addresses,
        ]
        listing.add([state.name, coloured(state), place, *kernel, *traffic(state)[: len(rates)], state.reason])
    listing.show()
