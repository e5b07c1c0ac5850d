"""Tables for people; on a terminal they are as wide as that, else as wide as they need."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ifagent.cli.words import COLOURS
from ifagent.core.state import InterfaceState

_WIDE = 400


def new_table(*columns: str) -> Table:
    """Return an empty table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, cells: Iterable[str | Text]) -> None:
    """Add a row; text is shown as it is, without markup, and without characters that steer a terminal."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(_printable(cell)) for cell in cells))


def show(table: Table) -> None:
    """Print the table."""
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(table)


def coloured(state: InterfaceState | None) -> Text:
    """Return the config state in its colour."""
    if state is None:
        return Text("unknown", style="dim")
    return Text(str(state.config_state), style=COLOURS[state.config_state])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
