"""Logs to stderr: for people, in colour on a terminal, or one JSON object a line.

JSON objects have ``time`` (ISO 8601, UTC), ``level``, ``event`` and the event's own fields; records of other
libraries have their ``logger``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import click
import structlog

_COLOURS = {"DEBUG": "bright_black", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def configure(*, level: str, format: str) -> None:  # noqa: A002 the option is called so
    """Log from ``level`` on (other libraries from ``warning``) to stderr; ``format`` is ``console`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter(colour=_has_colour()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ifagent").setLevel(level.upper())
    # A pipe for stderr that nobody reads any more is no reason to say so on stderr.
    logging.raiseExceptions = False
    # A logger of structlog's own would print to stdout, where programs read.
    structlog.configure(
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, _to_record],
    )


def _to_record(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, dict[str, Any]]]:
    return (str(event["event"]).replace("%", "%%"),), {"extra": {"ifagent": dict(event)}}


def _has_colour() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return ``event`` and what belongs to it."""
    given = getattr(record, "ifagent", None)
    if isinstance(given, dict):
        return {"event": given["event"]} | given
    return {"event": record.getMessage(), "logger": record.name}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": moment, "level": record.levelname.lower(), **_fields(record)}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """``12:34:56 warning  the event  field=value ...``."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        fields = dict(_fields(record))
        event = fields.pop("event")
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = self._styled(f"{record.levelname.lower():8}", fg=_COLOURS.get(record.levelname))
        rest = "".join(f"  {self._styled(key, fg='cyan')}={_quoted(value)}" for key, value in fields.items())
        line = f"{moment} {level} {event}{rest}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def _styled(self, text: str, *, fg: str | None) -> str:
        return click.style(text, fg=fg) if self._colour else text


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in ' ="' for c in text):
        return text
    # Names that others choose may have characters that steer a terminal.
    return json.dumps(text, ensure_ascii=not text.isprintable())
