"""``ifagent apply``: declare the interfaces in files, and wait for them if asked."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.failures import Failure
from ifagent.cli.options import place_options
from ifagent.cli.output import complain, say
from ifagent.cli.progress import wait_applied
from ifagent.cli.resolve import store_of
from ifagent.cli.validate import check_files
from ifagent.core.interface import Interface
from ifagent.stores.contract import Store


@click.command("apply")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait until all of them are applied; exit with 1 and the reason if one is not.",
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
        complain(f"warning: {warning}")
    if checked.errors:
        for error in checked.errors:
            complain(error)
        raise Failure("nothing was declared, the files have errors")
    interfaces = list(checked.interfaces.values())
    anyio.run(_apply, place, interfaces, wait, backend="asyncio")


async def _apply(store: Store, interfaces: list[Interface], wait: float | None) -> None:
    async with store:
        await store.put(interfaces)
        count = f"{len(interfaces)} {'interface' if len(interfaces) == 1 else 'interfaces'}"
        say(f"{count} declared")
        if wait is None or not interfaces:
            return
        await wait_applied(store, {interface.name for interface in interfaces}, wait, prefix="declared, but ")
