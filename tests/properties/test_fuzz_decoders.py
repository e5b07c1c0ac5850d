"""Whatever the bytes are, every decoder refuses or reads them, in bounded time and memory; see ``tests/fuzz``."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.targets import TARGETS, Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

of_all = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
BINARY = {"ligato_v1_binary", "ligato_v3_binary", "netlink", "netlink_plan", "process_news"}
of_json = pytest.mark.parametrize("target", [target for target in TARGETS.values() if target.name not in BINARY])

quickly = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""How a short look is taken; ``nox -s fuzz`` takes the long one."""

SIZES = {"yaml": 2 << 10, "json_file": 4 << 10}
"""Bytes of each hostile input; where not said, just below the most that a value in a store may have.

Files may have more than values, but every interface in them is looked at.
"""

CPU_TIME = 6.0
"""Most seconds for one, while its memory is counted, which makes it several times slower."""

MEMORY = 24 << 20
"""Most bytes for one."""


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Do not keep what thousands of bad inputs make the agent log."""
    logger = logging.getLogger("ifagent")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@of_all
def test_samples_and_kept_inputs(target: Target) -> None:
    for sample in target.samples():
        target.check(sample)
    for path in target.kept:
        target.check(path.read_bytes())


@of_all
@quickly
@given(data=st.binary(max_size=300))
def test_any_bytes(target: Target, data: bytes) -> None:
    target.check(data)


@of_all
@quickly
@given(data=st.data())
def test_damaged_samples(target: Target, data: st.DataObject) -> None:
    target.check(data.draw(damaged(list(target.samples()))))


@st.composite
def damaged(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Draw a sample with some bytes changed, taken out, repeated, or replaced by some of another one."""
    value = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        until = min(len(value), at + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["change", "cut", "repeat", "splice"])):
            case "change":
                value[at:until] = draw(st.binary(min_size=until - at, max_size=until - at))
            case "cut":
                del value[at:until]
            case "repeat":
                value[at:at] = value[at:until] * draw(st.integers(1, 50))
            case _:
                other = draw(st.sampled_from(samples))
                start = draw(st.integers(0, len(other)))
                value[at:until] = other[start : start + draw(st.integers(0, 60))]
    return bytes(value)


odd_values = st.one_of(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    st.sampled_from([10**4000, -(10**4000), 2**31, 2**32, 2**63, 2**64, -1, 1e308, "\ud800", "\x00", "x" * 5000]),
    st.integers(1, 60).map(lambda depth: nested(depth)),  # noqa: PLW0108 defined below
    st.lists(st.integers(), max_size=3) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


def nested(depth: int) -> object:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@of_json
@quickly
@given(data=st.data())
def test_samples_with_odd_values(target: Target, data: st.DataObject) -> None:
    documents = [document for sample in target.samples() if (document := parsed(sample)) is not None]
    document = data.draw(st.sampled_from(documents or [{}]))
    for _ in range(data.draw(st.integers(1, 3))):
        document = replaced(document, data)
    text = json.dumps(document, ensure_ascii=data.draw(st.booleans()))
    target.check(text.encode(errors="surrogatepass"))


def parsed(sample: bytes) -> Any:
    try:
        return json.loads(sample.removeprefix(b"+"))
    except ValueError:
        return None


def replaced(document: Any, data: st.DataObject) -> Any:
    """Return a document in which a value, or a key, is another one."""
    if isinstance(document, dict) and document and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(document)))
        changed = {other: replaced(value, data) if other == key else value for other, value in document.items()}
        return {data.draw(st.text(max_size=5)) if other == key and data.draw(st.integers(0, 9)) == 0 else other: value
                for other, value in changed.items()}  # fmt: skip
    if isinstance(document, list) and document and data.draw(st.integers(0, 4)):
        at = data.draw(st.integers(0, len(document) - 1))
        return [replaced(value, data) if place == at else value for place, value in enumerate(document)]
    return data.draw(odd_values)


def hostile(size: int) -> dict[str, bytes]:
    """Return input of about this many bytes that was written to be slow, or large."""

    def many(text: bytes) -> bytes:
        return text * (size // len(text))

    return {
        "brackets": many(b"["),
        "braces": many(b'{"a":'),
        "empty lists": b"[" + many(b"[],") + b"1]",
        "empty objects": b'{"interfaces":[' + many(b"{},") + b"{}]}",
        "keys": b"{" + b",".join(b'"%d":0' % n for n in range(size // 9)) + b"}",
        "one key": b"{" + many(b'"name":0,') + b'"name":"a"}',
        "digits": b'{"mtu":' + many(b"9") + b"}",
        "fraction": b'{"mtu":0.' + many(b"9") + b"}",
        "exponent": b'{"mtu":1e' + b"9" * 4000 + b"}",
        "string": b'{"name":"' + many(b"x") + b'"}',
        "quotes": b'{"name":"' + many(b'\\"') + b'"}',
        "half characters": b'{"name":"' + many(b"\\ud800") + b'"}',
        "zeros": b'{"name":"' + many(b"\\u0000") + b'"}',
        "addresses": b'{"name":"a","ip_addresses":[' + many(b'"::1",') + b'"::1"]}',
        "interfaces": b"[" + many(b'{"name":"a","type":1},') + b'{"name":"a","type":1}]',
        "bad interfaces": b"[" + many(b'{"x":1},') + b"{}]",
        "spaces": many(b" "),
        "lines": many(b"\n"),
        "zero bytes": bytes(size),
        "high bytes": many(b"\xff"),
        "varints": many(b"\x80"),
        "fields": many(b"\x08\x01"),
        "names": many(b"\x0a\x01a"),
        "messages": many(b"\x10\x00\x00\x00\x10\x00"),
        "attributes": size.to_bytes(4, "little") + b"\x10\x00" + bytes(26) + b"\x04\x00\x03\x00" * (size // 4 - 8),
        "flow": many(b"[a,"),
        "words": many(b"- a\n"),
        "dashes": many(b"- "),
        "questions": many(b"? "),
        "colons": many(b"a: "),
        "aliases": b"[&a x," + many(b"*a,") + b"]",
        "anchors": b"[" + many(b"&a x,") + b"]",
        "merges": b"- &a {b: 1}\n" + many(b"- {<<: *a}\n"),
        "tags": b"[" + many(b"!!str a,") + b"]",
        "comments": many(b"#\n"),
        "escapes": b'"' + many(b"\\x41") + b'"',
        "folded": b">\n" + many(b" a\n"),
        "hexadecimal": b"0x" + many(b"f"),
        "decimal": many(b"9"),
        "underscores": b"1" + many(b"_"),
    }


@of_all
@pytest.mark.timeout(180)
def test_hostile_input_takes_bounded_time_and_memory(target: Target) -> None:
    for name, data in hostile(SIZES.get(target.name, 60 << 10)).items():
        tracemalloc.start()
        start = time.process_time()
        try:
            target.check(data)
            spent = time.process_time() - start
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (spent < CPU_TIME, peak < MEMORY) == (True, True), f"{name}: {spent:.2f} s, {peak >> 20} MiB"


def test_every_target_has_kept_inputs() -> None:
    folder = Path(__file__).parent.parent / "fuzz" / "corpus"
    assert {path.name for path in folder.iterdir()} == TARGETS.keys()
