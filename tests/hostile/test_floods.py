"""What a writer of values may have the agent keep is bounded, whatever they say and however they follow each other."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aetcd import rpc

from ifagent.core.address_values import interned
from ifagent.core.drift import DriftHistory
from ifagent.core.events import Declaration
from ifagent.core.plan import Verdict
from ifagent.core.report import Beside, Findings, build_state
from ifagent.core.resources import Key, interface_key
from ifagent.errors import InvalidInterface
from ifagent.formats import ligato_v1
from ifagent.formats.families import Families
from ifagent.formats.keys import config_prefix
from ifagent.stores.etcd.answers import AT_ONCE, Value, read_changes

LABEL = "floods"
NAMES = 500
EACH = 2500
"""Bytes that a name may cost on average."""


def key(number: int) -> bytes:
    return config_prefix(LABEL) + b"n%d" % number


def value(number: int, revision: int, **fields: Any) -> Value:
    said = {"name": f"n{number}", "enabled": True, "veth": {"peer_if_name": f"p{number}"}, **fields}
    return Value(json.dumps(said, ensure_ascii=False).encode(), revision)


def with_addresses(number: int, revision: int) -> Value:
    addresses = [f"10.{number % 256}.{i}.{revision % 256}/32" for i in range(256)]
    return value(number, revision, ip_addresses=addresses)


def with_errors(number: int, revision: int) -> Value:
    return value(number, revision, ip_addresses=[f"\U0001f300{number}.{i}." + "\U0001f300" * 390 for i in range(30)])


def with_warnings(number: int, revision: int) -> Value:
    return value(number, revision, **{f"{number}.{i}" + "\U0001f300" * 100: 1 for i in range(100)})


def fill(families: Families, values: Iterable[tuple[int, Value]]) -> list[Declaration]:
    """Put values, and return what counts of each right after that, as a reader keeps the last valid one."""
    in_force: dict[Key, Declaration] = {}
    for number, said in values:
        for resource in families.change([(key(number), said)]):
            declaration = families.effective(resource)
            if declaration is not None and (declaration.interface is not None or resource not in in_force):
                in_force[resource] = declaration
    return list(in_force.values())


FLOODS = {
    "addresses": lambda: ((n, with_addresses(n, n + 1)) for n in range(NAMES)),
    "errors": lambda: ((n, with_errors(n, n + 1)) for n in range(NAMES)),
    "warnings": lambda: ((n, with_warnings(n, n + 1)) for n in range(NAMES)),
    "addresses of names that are there": lambda: (
        (n, make(n, NAMES + n)) for make in (value, with_addresses) for n in range(NAMES)
    ),
    "addresses, and then no value that can be": lambda: (
        pair for n in range(NAMES) for pair in ((n, with_addresses(n, n + 1)), (n, Value(b"{", NAMES + n)))
    ),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_what_is_kept_is_bounded_whatever_values_say(flood: Any) -> None:
    families = Families(LABEL, max_names=NAMES)
    tracemalloc.start()
    try:
        kept = fill(families, flood())
        interned.cache_clear()
        gc.collect()  # errors and their tracebacks refer to each other
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    assert used < 2 * NAMES * EACH + (1 << 20)
    assert not (families.left_out and families.has_room)


def test_there_is_room_again_once_others_are_gone() -> None:
    families = Families(LABEL, max_names=NAMES)
    fill(families, FLOODS["addresses"]())
    taken = len(families)
    assert families.left_out
    families.change((key(number), None) for number in range(NAMES))
    assert families.has_room
    families.begin_listing()
    assert len(fill(families, ((n, value(n, NAMES + n)) for n in range(NAMES)))) == NAMES > taken
    families.end_listing()
    assert not families.left_out


def test_a_value_for_which_there_was_no_room_is_read_again() -> None:
    families = Families(LABEL, max_names=3)
    families.change([(key(1), value(1, 1)), (key(2), value(2, 2))])
    large = with_addresses(2, 3)
    families.change([(key(2), large)])
    refused = families.effective(interface_key("n2"))
    assert refused is not None
    assert refused.errors
    assert refused.revision == 3
    roomy = Families(LABEL)
    roomy.__dict__.update(families.__dict__ | {"_max_names": 1000})
    roomy.begin_listing()
    roomy.change([(key(1), value(1, 1)), (key(2), large)])
    assert {name: bool(said and said.interface) for name, said in roomy.end_listing().items()} == {
        interface_key("n2"): True
    }
    assert not roomy.left_out


def test_the_errors_of_one_value_are_bounded_together() -> None:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v1.decode(with_errors(1, 1).data, name="n1")
    assert sum(len(str(error)) for error in caught.value.errors) < 4000
    assert "more errors" in str(caught.value.errors[-1])


def test_a_reason_does_not_repeat_every_error() -> None:
    said = ligato_v1.declare(with_errors(1, 1).data, name="n1", revision=1)
    findings = Findings(
        key=interface_key("n1"),
        declaration=said,
        interface=None,
        verdict=Verdict(),
        link=None,
        beside=Beside(),
        namespace_id=None,
        refusals=(),
        drift=DriftHistory(),
    )
    state = build_state(findings, None, now=0, clock=0)
    assert state.errors == said.errors
    assert state.reason.startswith(str(said.errors[0]))
    assert len(state.reason) < 1500


def test_an_answer_is_read_as_it_is_asked_for() -> None:
    read = 0

    def events() -> Iterator[Any]:
        nonlocal read
        for number in range(100 * AT_ONCE):
            read += 1
            yield rpc.Event(type=rpc.Event.DELETE, kv=rpc.KeyValue(key=b"%d" % number, mod_revision=7))

    first = next(iter(read_changes(SimpleNamespace(events=events()), b"", b"z", after=6)))
    assert len(first.changes) == AT_ONCE
    assert read <= 2 * AT_ONCE + 1
