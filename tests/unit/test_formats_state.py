"""The published shape of a state, and reading it back."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest

import ifagent.formats.state as formats
from ifagent.core.counters import Counters, Rates
from ifagent.core.link import Duplex, NsId
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.errors import FieldError, InvalidState
from ifagent.formats import socket_protocol

APPLIED = InterfaceState(
    name=Name("veth1"),
    config_state=ConfigState.APPLIED,
    internal_name="veth1Name",
    if_index=7,
    admin_status=Status.UP,
    oper_status=Status.DOWN,
    phys_address="d2:74:8c:12:67:d2",
    mtu=1500,
    peer_if_index=9,
    ip_addresses=(ip_interface("192.168.22.1/24"), ip_interface("2001:db8::1/48")),
    namespace=named("ns1"),
    namespace_id=NsId(4026531840),
    last_change=1700000000.75,
    observed_revision=12,
    applied_revision=11,
)
ALWAYS = {
    "name": "a",
    "internal_name": "",
    "type": 0,
    "if_index": 0,
    "admin_status": 0,
    "oper_status": 0,
    "last_change": 0,
    "phys_address": "",
    "mtu": 0,
    "config_state": "PENDING",
    "ip_addresses": [],
    "namespace": {},
    "observed_revision": 0,
    "applied_revision": 0,
    "repairs": 0,
}


COUNTS = {
    "in_packets": 0,
    "in_bytes": 0,
    "out_packets": 0,
    "out_bytes": 0,
    "drop_packets": 0,
    "in_error_packets": 0,
    "out_error_packets": 0,
}


def pending(**fields: Any) -> InterfaceState:
    return InterfaceState(name=Name("a"), config_state=ConfigState.PENDING, **fields)


def test_the_published_shape() -> None:
    assert formats.encode_state(APPLIED) == {
        "name": "veth1",
        "internal_name": "veth1Name",
        "type": 0,
        "if_index": 7,
        "admin_status": 1,
        "oper_status": 2,
        "last_change": 1700000000,
        "phys_address": "d2:74:8c:12:67:d2",
        "mtu": 1500,
        "config_state": "APPLIED",
        "ip_addresses": ["192.168.22.1/24", "2001:db8::1/48"],
        "namespace": {"type": 2, "name": "ns1", "inode": 4026531840},
        "observed_revision": 12,
        "applied_revision": 11,
        "repairs": 0,
        "peer_if_index": 9,
    }


def test_what_is_always_there() -> None:
    assert formats.encode_state(pending()) == ALWAYS


def test_what_is_there_when_it_says_something() -> None:
    state = pending(
        type="tap",
        reason="waits",
        missing=("interface b",),
        errors=(FieldError("mtu", "is wrong"),),
        warnings=("w",),
        attempts=2,
        next_retry=7.5,
        speed=10**10,
        duplex=Duplex.FULL,
        statistics=Counters(in_packets=1, out_bytes=2**63),
        last_drift="mtu",
        namespace=NamespaceRef(NamespaceType.PID, "77"),
    )
    assert formats.encode_state(state) == ALWAYS | {
        "type": 1,
        "reason": "waits",
        "missing": ["interface b"],
        "errors": [{"field": "mtu", "message": "is wrong"}],
        "warnings": ["w"],
        "attempts": 2,
        "next_retry": 7.5,
        "speed": 10**10,
        "duplex": 2,
        "statistics": COUNTS | {"in_packets": 1, "out_bytes": 2**63},
        "last_drift": "mtu",
        "namespace": {"type": 0, "pid": 77},
    }
    assert formats.decode_state(formats.encode_state_json(state)) == state


def test_rates_are_there_once_there_are_any() -> None:
    rates = Rates(in_packets=1.5, in_bytes=150.25, out_bytes=0.001)
    state = pending(statistics=Counters(drop_packets=3, rates=rates))
    assert formats.encode_state(state)["statistics"] == COUNTS | {
        "drop_packets": 3,
        "rates": {"in_packets": 1.5, "in_bytes": 150.25, "out_packets": 0.0, "out_bytes": 0.001},
    }
    assert formats.decode_state(formats.encode_state_json(state)) == state
    with pytest.raises(InvalidState, match=r"statistics\.in_packets"):
        formats.decode_state(b'{"name":"a","config_state":"PENDING","statistics":{"in_packets":"many"}}')


def test_plain_values_only() -> None:
    fields = formats.encode_state(APPLIED)
    assert json.loads(json.dumps(fields)) == fields
    assert all(type(value) in {str, int, float, list, dict} for value in fields.values())


def test_readers_ignore_what_they_do_not_know() -> None:
    fields = json.loads(formats.encode_state_json(pending())) | {
        "new": None,
        "statistics": {"in_packets": 1, "ipv4_packets": 2},
    }
    assert formats.decode_state(json.dumps(fields).encode()) == pending(statistics=Counters(in_packets=1))


def test_little_is_enough_to_read_a_state() -> None:
    assert formats.decode_state(b'{"name":"a","config_state":"PENDING"}') == pending()


def test_half_a_character_does_not_stop_a_state() -> None:
    value = formats.encode_state_json(pending(reason="bad \ud800 µ"))
    assert json.loads(value)["reason"] == "bad \ud800 µ"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100000,
        b'{"name":"a","config_state":"WHATEVER"}',
        b'{"name":"a","config_state":"PENDING","type":99}',
        b'{"name":"a","config_state":"PENDING","type":[]}',
        b'{"name":"a","config_state":"PENDING","namespace":7}',
        b'{"name":"a","config_state":"PENDING","namespace":{"type":99}}',
        b'{"name":"a","config_state":"PENDING","namespace":{"type":{}}}',
        b'{"name":"a","config_state":"PENDING","namespace":{"type":2,"name":"a/b"}}',
        b'{"name":"a","config_state":"PENDING","ip_addresses":["x"]}',
        b'{"name":"a","config_state":"PENDING","errors":[7]}',
        b'{"name":["a"],"config_state":"PENDING"}',
    ],
)
def test_unreadable_states(value: bytes) -> None:
    with pytest.raises(InvalidState):
        formats.decode_state(value)


def test_events() -> None:
    event = StateEvent(seq=3, event=Change.CHANGED, name=Name("a"), state=pending())
    assert formats.encode_event(event) == {"seq": 3, "event": "changed", "name": "a", "state": ALWAYS}
    assert formats.decode_event(formats.encode_event_json(event)) == event
    gap = StateEvent(seq=4, event=Change.GAP, name=Name("a"), missed=5)
    assert formats.encode_event(gap) == {"seq": 4, "event": "gap", "name": "a", "missed": 5}
    assert formats.decode_event(formats.encode_event_json(gap)) == gap
    assert b"\n" not in formats.encode_event_json(event)


@pytest.mark.parametrize("value", [b"", b"7", b"{}", b'{"seq":1,"event":"boom","name":"a"}', b'{"state":7}'])
def test_unreadable_events(value: bytes) -> None:
    with pytest.raises(InvalidState):
        formats.decode_event(value)


def test_a_state_is_never_too_long_for_a_store() -> None:
    long = "\x01" * 100_000
    addresses = tuple(ip_interface(f"2001:db8:1:2:3:4:{n:x}:1/128") for n in range(3000))
    state = InterfaceState(
        name="a",
        config_state=ConfigState.INVALID,
        reason=long,
        missing=(long,) * 1000,
        errors=(FieldError("mtu", long),) * 1000,
        warnings=(long,) * 1000,
        last_drift=long,
        ip_addresses=addresses,
    )
    written = formats.encode_state_json(state)
    assert len(written) < formats.MAX_STATE_BYTES
    read = formats.decode_state(written)
    assert read.ip_addresses == addresses[:1024]
    assert read.warnings[0] == "it has 3000 addresses, of which 1024 are listed"
    assert formats.encode_state_json(read) == written


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name":"a","config_state":"APPLIED","last_change":NaN}', "is not valid JSON: NaN is not allowed"),
        ('{"name":"a","config_state":"APPLIED","last_change":1e999}', "has a number that is too large"),
        ('{"name":"a","config_state":"APPLIED","type":' + "[" * 500 + "]" * 500 + "}", "is nested too deeply"),
        (
            f'"{"x" * formats.MAX_STATE_BYTES}"',
            f"has {formats.MAX_STATE_BYTES + 2} bytes, at most {formats.MAX_STATE_BYTES} are allowed",
        ),
    ],
    ids=["nan", "inf", "deep", "long"],
)
def test_a_state_that_could_not_be_used_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidState) as caught:
        formats.decode_state(text.encode())
    assert str(caught.value) == problem


def test_a_declaration_with_an_endless_revision_is_refused() -> None:
    with pytest.raises(InvalidState):
        socket_protocol.decode_declaration({"name": "a", "revision": float("inf")})
