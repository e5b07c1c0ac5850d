"""``ifagent get``: declared and actual interfaces side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.failures import Failure
from ifagent.cli.options import json_option, place_options
from ifagent.cli.output import complain, say_json
from ifagent.cli.resolve import store_of
from ifagent.core.events import Declaration
from ifagent.core.names import Name
from ifagent.core.state import InterfaceState
from ifagent.errors import SourceLost
from ifagent.formats.socket_protocol import encode_declaration
from ifagent.formats.state import encode_state
from ifagent.log import log
from ifagent.stores.contract import Store

Pair = tuple[Declaration | None, InterfaceState | None]


@click.command("get")
@click.argument("name", required=False)
@json_option
@place_options()
def command(
    name: str | None,
    as_json: bool,  # noqa: FBT001 click passes options by name
    store: str,
    label: str,
    socket: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Show declared and actual interfaces side by side: all of them, or one."""
    logs.configure(level=log_level, format=log_format)
    place = store_of(store=store, label=label, socket=socket)
    pairs = anyio.run(_pairs, place, backend="asyncio")
    if name is not None:
        if name not in pairs:
            raise Failure(f"no interface {name!r} is declared in {store}")
        pairs = {name: pairs[name]}
    if as_json:
        objects = [_object(name, pair) for name, pair in pairs.items()]
        say_json(objects if name is None else objects[0], indent=2)
    elif pairs:
        _show(pairs)
    else:
        complain(f"Nothing is declared in {store}.")


async def _pairs(store: Store) -> dict[Name, Pair]:
    async with store:
        declarations = await store.declarations()
        states: dict[Name, InterfaceState] = {}
        try:
            states = await store.states()
        except SourceLost as error:
            log.warning("cannot read states", problem=str(error))
    return {name: (declarations.get(name), states.get(name)) for name in sorted(declarations.keys() | states.keys())}


def _object(name: Name, pair: Pair) -> dict[str, Any]:
    declaration, state = pair
    declared = encode_declaration(declaration) if declaration else {}
    return {
        "name": name,
        "revision": declared.get("revision", 0),
        "desired": declared.get("interface"),
        "errors": declared.get("errors", []),
        "warnings": declared.get("warnings", []),
        "state": encode_state(state) if state else None,
    }


def _show(pairs: dict[Name, Pair]) -> None:
    from ifagent.cli.formatting import namespace, peer_of, updown
    from ifagent.cli.tables import Cell, TextTable, coloured

    listing = TextTable(
        "name", "type", "peer", "namespace", "host name", "wanted addresses", "addresses", "link", "state", "reason"
    )
    for name, (declaration, state) in pairs.items():
        interface = declaration.interface if declaration else None
        cells: list[Cell] = [name, "", "", "", "", ""]
        if interface:
            wanted = [*map(str, interface.ip_addresses)]
            place = namespace(interface.namespace)
            cells = [name, interface.kind.type, peer_of(interface), place, str(interface.host_name), wanted]
        reason = state.reason if state else ""
        if declaration and not reason:
            reason = "; ".join([*map(str, declaration.errors), *declaration.warnings])
        actual = [*map(str, state.ip_addresses)] if state else ""
        listing.add([*cells, actual, updown(state) if state else "", coloured(state), reason])
    listing.show()
