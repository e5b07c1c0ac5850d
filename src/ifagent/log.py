"""Logging: events with fields, through the standard library's ``logging`` under the name ``ifagent``.

A program that embeds the agent sees and steers these records like any others; the command line prints them in
colour or as JSON (``ifagent.cli.logs``). The event's fields are the record's attribute ``ifagent``.

However often something happens, and however long what is said of it: an event has a few lines in a row, then one a
minute that says in ``left_out`` how many there were (:mod:`ifagent.log_limit`), and a field has at most
:data:`MAX_FIELD` characters. What is logged at ``debug`` is not counted, whoever asks for that wants all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Mapping, MutableMapping
from typing import Any, Final

import structlog

from ifagent.log_limit import Limiter
from ifagent.visible import cut, visible

MAX_FIELD: Final = 1000
"""Longest field of an event, in characters."""

ABOUT: Final = ("interface", "name", "source", "operation", "container", "path", "socket", "link", "pid")
"""Fields that may say what an event is about; the first one that is there does."""

_RENDER = structlog.processors.LogfmtRenderer(bool_as_flag=False)

Line = tuple[str, dict[str, Any]]
"""A level, as the name of the logger's method, and an event."""

limiter: Limiter[Line] = Limiter()
"""What leaves lines out."""


def tell_left_out() -> None:
    """Log what is due of :data:`limiter`; to be called now and then where lines must not wait for the next one."""
    for (level, event), count in limiter.due(time.monotonic()):
        message, more = _to_record(None, level, {**event, "left_out": count} if count else event)
        getattr(logging.getLogger("ifagent"), level)(*message, **more)


def _bounded(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Cut fields that are too long."""
    return {key: value if key == "exc_info" else _field(value) for key, value in event.items()}


def _field(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(str(value), MAX_FIELD)


def _limited(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Leave lines out of which there are too many."""
    if method == "debug":
        return event
    line = (method, {key: value for key, value in event.items() if key != "exc_info"})
    count = limiter.admit(line, event=event["event"], about=_about(event), now=time.monotonic())
    if count is None:
        raise structlog.DropEvent
    return {**event, "left_out": count} if count else event


def _about(event: Mapping[str, Any]) -> Hashable:
    return next(((key, event[key]) for key in ABOUT if key in event), None)


def _to_record(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """Return what ``logging`` takes: a readable message, and the fields beside it."""
    event = dict(event)
    exc_info = event.pop("exc_info", None)
    fields = dict(event)
    text = fields.pop("event")
    rest = {key: str(value) for key, value in fields.items()}
    message = visible(f"{text} {_RENDER(None, '', rest)}" if rest else str(text))
    return (message.replace("%", "%%"),), {"extra": {"ifagent": event}, "exc_info": exc_info}


PROCESSORS: Final = (structlog.stdlib.filter_by_level, _bounded, _limited, _to_record)
"""What an event goes through on its way to ``logging``."""

log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("ifagent"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=PROCESSORS,
).bind()
"""The one logger of the project."""
