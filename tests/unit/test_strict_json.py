"""JSON with limits."""

from __future__ import annotations

import json
import time

import pytest

from ifagent.formats.strict_json import MAX_DEPTH, BrokenJson, read_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        ("1e308", 1e308),
        ("-0.0", -0.0),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"' + "[" * 100 + '"', "[" * 100),
        ('["\\"[", "\\\\", [' + "[]," * 100 + "{}]]", ['"[', "\\", [*([[]] * 100), {}]]),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
    ],
)
def test_what_is_read(text: str | bytes, value: object) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\xff", "is not UTF-8: invalid start byte at byte 0"),
        ("", "is not valid JSON: Expecting value in line 1, column 1"),
        ('{"a":\n x}', "is not valid JSON: Expecting value in line 2, column 2"),
        ("[NaN]", "is not valid JSON: NaN is not allowed"),
        ("-Infinity", "is not valid JSON: -Infinity is not allowed"),
        ("1e999", "has a number that is too large"),
        ("9" * 5000, "has a number that is too long"),
        ("[" * 100_000, "is nested too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "is nested too deeply"),
        ('{"a":[' * 20 + "]}" * 20, "is nested too deeply"),
        ("[[]," * 40 + "[]" + "]" * 40, "is nested too deeply"),
    ],
)
def test_what_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(BrokenJson) as caught:
        read_json(text)
    assert str(caught.value) == problem


def test_depth_is_found_in_linear_time() -> None:
    text = "[" + '"[\\"{",' * 200_000 + "[]," * 200_000 + "1]"
    start = time.process_time()
    read_json(text)
    assert time.process_time() - start < 5
