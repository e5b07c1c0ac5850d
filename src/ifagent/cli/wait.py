"""``ifagent wait``: wait until interfaces are applied."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.options import place_options
from ifagent.cli.progress import wait_applied
from ifagent.cli.resolve import store_of
from ifagent.stores.contract import Store


@click.command("wait")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="Maximum time to wait.",
)
@place_options()
def command(
    names: tuple[str, ...],
    timeout: float,
    store: str,
    label: str,
    socket: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Wait until interfaces are applied as currently declared.

    Exits with 0 when all of them are, with 1 and the reasons when one is not: after the time, or earlier if what is
    left is not declared, invalid or refused for good.
    """
    logs.configure(level=log_level, format=log_format)
    place = store_of(store=store, label=label, socket=socket)
    anyio.run(_wait, place, frozenset(names), timeout, backend="asyncio")


async def _wait(store: Store, names: frozenset[str], seconds: float) -> None:
    async with store:
        await wait_applied(store, names, seconds)
