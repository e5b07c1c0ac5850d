"""What was measured, how it is told, and whether it is as required."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->"
"""Between what a document has the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    ``values`` are what the repeats gave, in ``unit``, of which the median counts. ``reference`` says what they were
    compared with, ``ratios`` has one number for each repeat. ``most`` is the limit of the median of the ratios, or of
    the values if there is no reference; ``least`` likewise. ``quick_most`` and ``quick_least`` are limits of the
    ratio beyond which something must be broken, on any machine.
    """

    row: str
    measure: str
    values: Sequence[float]
    unit: str
    reference: str = ""
    ratios: Sequence[float] = ()
    most: float | None = None
    least: float | None = None
    quick_most: float | None = None
    quick_least: float | None = None
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def compared(self) -> float:
        """What the limits are for."""
        return statistics.median(self.ratios or self.values)

    @property
    def required(self) -> str:
        """The limit in words, empty if there is none."""
        unit = " x" if self.ratios else f" {self.unit}"
        if self.most is not None:
            return f"<= {self.most:g}{unit}"
        return "" if self.least is None else f">= {self.least:g}{unit}"

    @property
    def met(self) -> bool | None:
        """Whether it is as required, ``None`` if nothing is."""
        if self.most is None and self.least is None:
            return None
        value = self.compared
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def quick(self) -> Figure:
        """Return the figure with the limits that any machine keeps unless something is broken: of ratios only."""
        if not self.ratios:
            return replace(self, most=None, least=None)
        return replace(self, most=self.quick_most, least=self.quick_least)

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            **asdict(self),
            "median": statistics.median(self.values),
            "ratio": statistics.median(self.ratios) if self.ratios else None,
            "required": self.required,
            "met": self.met,
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many percent of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def table(figures: Sequence[Figure]) -> str:
    """Return a table in Markdown."""
    head = ("row", "measure", "median", "spread", "ratio", "to", "required", "met", "load")
    lines = [head, tuple("-" * len(word) for word in head), *map(_cells, figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    filled = (
        [cell.ljust(width, "-" if number == 1 else " ") for cell, width in zip(line, widths, strict=True)]
        for number, line in enumerate(lines)
    )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in filled)


def _cells(figure: Figure) -> tuple[str, ...]:
    values, ratios = figure.values, figure.ratios
    return (
        figure.row,
        figure.measure,
        f"{_number(statistics.median(values))} {figure.unit}".rstrip(),
        f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else "",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "",
        figure.reference,
        figure.required,
        {True: "yes", False: "NO", None: ""}[figure.met],
        f"{figure.load:.1f}",
    )


def write_into(document: Path, told: str) -> None:
    """Put text where a document has the last one, between the marks."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{told}{END}{after}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine() -> dict[str, str | int]:
    """Name what was measured on."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": memory,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)
