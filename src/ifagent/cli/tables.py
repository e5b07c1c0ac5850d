"""Tables: as wide as the terminal, or blocks of lines if it is too narrow; elsewhere as wide as needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ifagent.cli.formatting import COLOURS
from ifagent.core.state import InterfaceState
from ifagent.visible import visible

Cell = str | Text | Sequence[str]
"""A text, a coloured one, or one text per line."""

_WIDE: Final = 400
_GAP: Final = 2
_LEAST: Final = 16
"""Width up to which columns, except the last one, are not folded."""

_LEAST_OF_LAST: Final = 24
"""Width that the last column, which has reasons, needs to be readable."""


class TextTable:
    """Rows of cells with titles, shown as a table or as blocks."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[list[Text]] = []

    def add(self, cells: Iterable[Cell]) -> None:
        """Add a row; text is shown literally, without markup and control characters."""
        self._rows.append([_text(cell) for cell in cells])

    def show(self) -> None:
        """Print the rows."""
        console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
        # Not printed by the console, which handles a closed stdout in its own way.
        with console.capture() as shown:
            if self._least_width() <= console.width:
                console.print(self._table())
            else:
                self._show_blocks(console)
        sys.stdout.write(shown.get())
        sys.stdout.flush()

    def _least_width(self) -> int:
        """Return the width of a table in which no words are broken."""
        *widths, last = [max(cell_len(line) for line in lines) for lines in self._lines_by_column()]
        return sum(min(width, _LEAST) + _GAP for width in widths) + min(last, _LEAST_OF_LAST)

    def _lines_by_column(self) -> Iterable[list[str]]:
        for number, title in enumerate(self._columns):
            yield [title, *(line for row in self._rows for line in row[number].plain.split("\n"))]

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in self._columns:
            table.add_column(column, overflow="fold")
        for row in self._rows:
            table.add_row(*row)
        return table

    def _show_blocks(self, console: Console) -> None:
        """Print the first cell of each row, and below it the others that are not empty."""
        indent = max(map(cell_len, self._columns[1:])) + 2 * _GAP
        for number, (name, *others) in enumerate(self._rows):
            if number:
                console.print()
            console.print(name, overflow="fold", style="bold")
            for title, cell in zip(self._columns[1:], others, strict=True):
                lines = cell.split()
                if not cell.plain:
                    continue
                if max(map(cell_len, cell.plain.split("\n"))) + indent <= console.width:
                    first = Text(f"{'':{_GAP}}{title:{indent - _GAP}}")
                    console.print(Text("\n" + " " * indent).join([first + lines[0], *lines[1:]]))
                else:
                    console.print(f"{'':{_GAP}}{title}")
                    console.print(Padding(cell, (0, 0, 0, 2 * _GAP)), overflow="fold")


def coloured(state: InterfaceState | None) -> Text:
    """Return the coloured config state."""
    if state is None:
        return Text("unknown", style="dim")
    return Text(str(state.config_state), style=COLOURS[state.config_state])


def _text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(visible(cell) if isinstance(cell, str) else "\n".join(map(visible, cell)))
