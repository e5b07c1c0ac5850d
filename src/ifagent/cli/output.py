"""What commands print: lines for people and JSON for programs, without control characters from outside."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import click

from ifagent.visible import json_text, visible


class Coloured(NamedTuple):
    """Text with a colour, which is used only on a terminal."""

    text: str
    colour: str | None


def say(*parts: str | Coloured) -> None:
    """Print a line to stdout, and flush it."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.write("".join(_shown(part, coloured=coloured) for part in parts) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line to stderr, and flush it."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, in UTF-8 whatever the encoding of stdout, and flush it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json_text(value, indent=indent).encode() + b"\n")
    sys.stdout.buffer.flush()


def _shown(part: str | Coloured, *, coloured: bool) -> str:
    if isinstance(part, str):
        return visible(part)
    return click.style(visible(part.text), fg=part.colour) if coloured else visible(part.text)
