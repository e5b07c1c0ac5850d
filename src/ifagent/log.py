"""Logging: events with fields, through the standard library's ``logging`` under the name ``ifagent``.

A program that embeds the agent sees and steers these records like any others; the command line prints them in
colour or as JSON (``ifagent.cli.logs``). The event's fields are the record's attribute ``ifagent``.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

_RENDER = structlog.processors.LogfmtRenderer(bool_as_flag=False)


def _to_record(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, dict[str, Any]]]:
    """Return what ``logging`` takes: a readable message, and the fields beside it."""
    fields = dict(event)
    text = fields.pop("event")
    rest = {key: str(value) for key, value in fields.items()}
    message = f"{text} {_RENDER(None, '', rest)}" if rest else text
    return (message.replace("%", "%%"),), {"extra": {"ifagent": event}}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("ifagent"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _to_record],
).bind()
"""The one logger of the project."""
