"""How log records look on a terminal and to programs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ifagent.cli.logs import ConsoleFormatter, JsonFormatter


def record(event: str, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"levelname": "INFO", "msg": event, "ifagent": {"event": event, **fields}})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("veth1", "veth1"),
        ("", '""'),
        ("two words", '"two words"'),
        ("schön und gut", '"schön und gut"'),
        ('a="b"', '"a=\\"b\\""'),
        ("a\nERROR forged", '"a\\nERROR forged"'),
        ("\x1b]0;title\x07", '"\\u001b]0;title\\u0007"'),
        ("\x9b2J", '"\\u009b2J"'),
        ("\u202egnp", '"\\u202egnp"'),
        ("\ud800", '"\\ud800"'),
        (7, "7"),
    ],
)
def test_a_value_cannot_steer_a_terminal(value: object, written: str) -> None:
    line = ConsoleFormatter(colour=False).format(record("interface applied", interface=value))
    assert line.partition("interface applied  interface=")[2] == written


def test_a_record_is_one_json_object() -> None:
    line = JsonFormatter().format(record("interface applied", interface="a\nb\x1b", link=None))
    assert "\n" not in line
    assert (
        json.loads(line).items()
        >= {"event": "interface applied", "level": "info", "interface": "a\nb\x1b", "link": None}.items()
    )
