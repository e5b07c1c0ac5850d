"""What commands print: lines for people and JSON for programs, in which nobody's text can steer a terminal."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import click

from ifagent.visible import json_text, visible


class Coloured(NamedTuple):
    """Text that has a colour where there are colours."""

    text: str
    colour: str | None


def say(*parts: str | Coloured) -> None:
    """Print a line to stdout, at once."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.write("".join(_shown(part, coloured=coloured) for part in parts) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line to stderr, at once."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, in UTF-8 whatever the encoding of stdout, at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json_text(value, indent=indent).encode() + b"\n")
    sys.stdout.buffer.flush()


def _shown(part: str | Coloured, *, coloured: bool) -> str:
    if isinstance(part, str):
        return visible(part)
    return click.style(visible(part.text), fg=part.colour) if coloured else visible(part.text)
