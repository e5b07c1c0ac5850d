"""Logs to stderr: human-readable, in colour on a terminal, or one JSON object per line.

JSON objects have ``time`` (ISO 8601, UTC), ``level``, ``event`` and the event's own fields; records of other
libraries have their ``logger``. Logging never blocks on a slow reader, see :mod:`ifagent.cli.log_writer`, and records
of other libraries are rate-limited like the agent's own events.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
import structlog

from ifagent.cli.log_writer import dropped
from ifagent.cli.streams import LineStream
from ifagent.log import MAX_FIELD, PROCESSORS, limiter, tell_left_out
from ifagent.log_limit import Limiter
from ifagent.visible import cut, is_visible, json_text, visible

_COLOURS = {"DEBUG": "bright_black", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}

MAX_TRACEBACK: Final = 32 * 1024
"""Longest traceback that is written, in characters; of a longer one the end is kept."""


def configure(*, level: str, format: str) -> None:  # noqa: A002 the option is called so
    """Log from ``level`` on (other libraries from ``warning``) to stderr; ``format`` is ``console`` or ``json``."""
    formatter = JsonFormatter() if format == "json" else ConsoleFormatter(colour=_has_colour())
    encoding = "utf-8" if format == "json" else sys.stderr.encoding
    if isinstance(sys.stderr, LineStream):
        writer = sys.stderr.writer
        handler = Handler(formatter, writer.put, encoding)
        writer.say_dropped, writer.tick = handler.say_dropped, handler.tick
    else:  # replaced, for example by a test
        handler = Handler(formatter, lambda line: sys.stderr.write(line.decode(encoding)), encoding)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ifagent").setLevel(level.upper())
    logging.captureWarnings(capture=True)
    # structlog's own logger would print to stdout, which is for the command's output.
    structlog.configure(
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=PROCESSORS,
    )


def hold() -> None:
    """Write nothing until :func:`release`, because writing starts a thread."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineStream):
            stream.writer.hold()


def release() -> None:
    """Write what is buffered, and everything from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineStream):
            stream.writer.release()


class Handler(logging.Handler):
    """Passes formatted, encoded lines to ``put``."""

    def __init__(self, formatter: logging.Formatter, put: Callable[[bytes], object], encoding: str) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._put = put
        self._encoding = encoding
        self._others: Limiter[logging.LogRecord] = Limiter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless its rate limit is exceeded."""
        if not hasattr(record, "ifagent"):
            count = self._others.admit(record, event=(record.name, str(record.msg)[:MAX_FIELD]), now=time.monotonic())
            if count is None:
                return
            record.left_out = count
        self._put(self._line(record))

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 another library's record need not be one that can be formatted
            text = visible(f"a log record of {record.name} cannot be formatted: {error!r}")
        return f"{text}\n".encode(self._encoding, "backslashreplace")

    def tick(self) -> bool:
        """Write due counts of left-out lines; return whether there may be more."""
        tell_left_out()
        for record, count in self._others.due(time.monotonic()):
            record.left_out = count
            self._put(self._line(record))
        return not (limiter.idle and self._others.idle)

    def say_dropped(self, count: int) -> bytes:
        """Return the line with the number of dropped lines."""
        return self._line(logging.makeLogRecord({"levelname": "WARNING", "ifagent": {"event": dropped(count)}}))


def _has_colour() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return ``event`` and its fields."""
    given = getattr(record, "ifagent", None)
    if isinstance(given, dict):
        return {"event": given["event"]} | given
    fields = {"event": cut(record.getMessage(), MAX_FIELD), "logger": record.name}
    count = getattr(record, "left_out", 0)
    return fields | {"left_out": count} if count else fields


def _traceback(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    return text if len(text) <= MAX_TRACEBACK else f"... {text[-MAX_TRACEBACK:]}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": moment, "level": record.levelname.lower(), **_fields(record)}
        if record.exc_info:
            fields["exception"] = _traceback(record, self)
        return json_text(fields)


class ConsoleFormatter(logging.Formatter):
    """``12:34:56 warning  the event  field=value ...``."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        fields = dict(_fields(record))
        event = fields.pop("event")
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = self._styled(f"{record.levelname.lower():8}", fg=_COLOURS.get(record.levelname))
        rest = "".join(f"  {self._styled(key, fg='cyan')}={_quoted(value)}" for key, value in fields.items())
        line = f"{moment} {level} {visible(str(event))}{rest}"
        traceback = visible(_traceback(record, self), keep="\n")
        return f"{line}\n{traceback}" if traceback else line

    def _styled(self, text: str, *, fg: str | None) -> str:
        return click.style(text, fg=fg) if self._colour else text


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and is_visible(text) and not any(c in ' ="' for c in text)
    return text if plain else json_text(text)
