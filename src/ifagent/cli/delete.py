"""``ifagent delete``: delete declarations."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from ifagent.cli import logs
from ifagent.cli.failures import Failure
from ifagent.cli.options import place_options
from ifagent.cli.output import say
from ifagent.cli.resolve import store_of
from ifagent.core.names import Name
from ifagent.stores.contract import Store


@click.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@place_options()
def command(
    names: tuple[str, ...], store: str, label: str, socket: Path | None, log_level: str, log_format: str
) -> None:
    """Delete declarations.

    Those that exist are deleted even if others do not; the exit code is 1 then.
    """
    logs.configure(level=log_level, format=log_format)
    deleted = anyio.run(_delete, store_of(store=store, label=label, socket=socket), names, backend="asyncio")
    for name in sorted(deleted):
        say(f"{name}: deleted")
    missing = [name for name in dict.fromkeys(names) if name not in deleted]
    if missing:
        raise Failure(f"not declared in {store}: {', '.join(missing)}")


async def _delete(store: Store, names: tuple[str, ...]) -> frozenset[Name]:
    async with store:
        return await store.delete(names)
