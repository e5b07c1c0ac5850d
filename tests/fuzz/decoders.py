"""Decoders of what comes from stores, files and sockets; see :mod:`fuzz.targets`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from ipaddress import ip_interface
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ifagent.cli.logs import JsonFormatter
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, Existing, Loopback, Veth, VrfDevice
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.core.resources import interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.errors import BrokenFile, FieldError, InvalidState
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.families import Families
from ifagent.formats.interface_files import InterfaceFile, merge, read_interfaces
from ifagent.formats.keys import StatusKeys
from ifagent.formats.socket_protocol import decode_declaration, decode_line, encode_declaration, encode_line
from ifagent.formats.state import (
    MAX_STATE_BYTES,
    decode_event,
    decode_state,
    encode_event_json,
    encode_state_json,
)
from ifagent.stores.etcd.answers import Value
from ifagent.stores.etcd.client import MAX_TXN_BYTES
from ifagent.stores.etcd.lock import Holder
from ifagent.stores.intent_file import IntentFile
from ifagent.watchers.container_engine import BadAnswer, Container, Engine, read_ids
from ifagent.watchers.container_events import ContainerEvent, read_event

# Interfaces of every kind, as somebody would declare them.

INTERFACES = (
    Interface(
        name="veth1",
        kind=Veth(peer_if_name="veth2", rx_checksum_offloading="disabled"),
        description="the left one",
        enabled=True,
        ip_addresses=(ip_interface("192.168.22.1/24"), ip_interface("2001:db8::ff00:89e3:bb42/48")),
        phys_address="d2:74:8c:12:67:d2",
        mtu=1500,
        host_if_name="veth1Name",
        namespace=named("ns1"),
        link_only=True,
        vrf_master_interface="red",
    ),
    Interface(name="veth2", kind=Veth(peer_if_name="veth1"), namespace=NamespaceRef(NamespaceType.PID, "4711")),
    Interface(
        name="tap1",
        kind=AutoTap(temp_if_name="tap-temp"),
        enabled=True,
        namespace=NamespaceRef(NamespaceType.MICROSERVICE, "web"),
    ),
    Interface(name="loop", kind=Loopback(), namespace=NamespaceRef(NamespaceType.FILE, "/run/netns/x")),
    Interface(name="eth0", kind=Existing(), ip_addresses=(ip_interface("10.0.0.1/8"),)),
    Interface(name="vrf", kind=VrfDevice(routing_table=7)),
)

Declare = Callable[..., Declaration]


def check_text(text: str) -> None:
    """See that a text can be shown."""
    assert 0 < len(text) < 1000
    text.encode()


def check_declaration(declaration: Declaration) -> None:
    """See that a declaration is an interface or errors, in words that can be shown, sent and logged."""
    assert (declaration.interface is None) == bool(declaration.errors)
    assert len(declaration.errors) <= 21
    assert len(declaration.warnings) <= 45
    for text in (*(error.message for error in declaration.errors), *declaration.warnings):
        check_text(text)
    state = InterfaceState(
        name=declaration.key.name,
        config_state=ConfigState.INVALID,
        reason="; ".join(map(str, declaration.errors)),
        errors=declaration.errors,
        warnings=declaration.warnings,
    )
    assert len(encode_state_json(state)) <= MAX_STATE_BYTES


def _check_value(value: bytes, declare: Declare, *encoders: Callable[[Interface], bytes]) -> None:
    # A value must say the name that its key has; which one that is does not matter here.
    name = _name_in(value)
    declaration = declare(value, name=name, revision=1)
    check_declaration(declaration)
    if declaration.interface is not None:
        assert declaration.interface.name == name
        for encode in encoders:
            again = declare(encode(declaration.interface), name=name, revision=1)
            assert again.interface == declaration.interface, "it is read again as something else"


def _name_in(value: bytes) -> str:
    """Return the name that a value most likely gives, so that most of it is looked at."""
    return next((interface.name for interface in INTERFACES if interface.name.encode() in value), "a")


def check_v1(value: bytes) -> None:
    """A value of ligato v1.4.1."""
    _check_value(value, ligato_v1.declare, ligato_v1.encode, ligato_v1.encode_binary)


def check_v3(value: bytes) -> None:
    """A value of ligato v3."""
    _check_value(value, ligato_v3.declare, ligato_v3.encode, ligato_v3.encode_binary)


def samples_v1() -> Sequence[bytes]:
    respelt = b'{"Name":"veth1","TYPE":"VETH","hostIfName":"x","veth":{"peerIfName":"veth2"},"mtu":"1500","x":null}'
    return [*map(ligato_v1.encode, INTERFACES), respelt]


def samples_v1_binary() -> Sequence[bytes]:
    return [*map(ligato_v1.encode_binary, INTERFACES)]


def samples_v3() -> Sequence[bytes]:
    return [*map(ligato_v3.encode, INTERFACES)]


def samples_v3_binary() -> Sequence[bytes]:
    return [*map(ligato_v3.encode_binary, INTERFACES)]


# A whole store: keys are bytes that others chose too.

_V1 = b"/vnf-agent/fuzz/linux/config/v1/interface/"
_V3 = b"/vnf-agent/fuzz/config/linux/interfaces/v2/interface/"


def check_store(data: bytes) -> None:
    """Lines of alternately a key's end and a value, for both families in turn."""
    parts = data.split(b"\n")
    families = Families("fuzz")
    values = {
        (_V1, _V3)[number % 2] + key: Value(value, 1)
        for number, (key, value) in enumerate(zip(parts[::2], parts[1::2], strict=False))
    }
    declared = families.replace(values)
    for resource, declaration in declared.items():
        assert declaration.key == resource
        check_declaration(declaration)
        # It must be possible to publish what became of it.
        state = InterfaceState(name=resource.name, config_state=ConfigState.INVALID, errors=declaration.errors)
        assert len(StatusKeys("fuzz").key_of(resource)) + len(encode_state_json(state)) < MAX_TXN_BYTES
    assert not any(families.change([(key, None) for key in values]).values())


def samples_store() -> Sequence[bytes]:
    lines = [b"%s\n%s\n" % (one.name.encode(), ligato_v1.encode(one)) for one in INTERFACES]
    both = b"%s\n%s\n" % (b"veth1", ligato_v3.encode(INTERFACES[0]))
    return [b"".join(lines), lines[0] + both, b"\xff\xfe\nx\n"]


# Files


@cache
def _folder() -> Path:
    # Kept until the process ends, one for all executions.
    _folder.kept = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]
    return Path(_folder.kept.name)  # type: ignore[attr-defined]


def _check_file(name: str, data: bytes) -> None:
    path = _folder() / name
    path.write_bytes(data)
    try:
        found = read_interfaces(path)
    except BrokenFile as error:
        check_text(str(error))
        return
    merged = merge([found, InterfaceFile(path, found.entries, found.signature)])
    # Of thousands a few: looking closely costs more than reading.
    for declaration in islice(chain((entry.declaration for entry in found.entries), merged.values()), 100):
        check_declaration(declaration)


def check_yaml(data: bytes) -> None:
    """A YAML file."""
    _check_file("x.yaml", data)


def check_json_file(data: bytes) -> None:
    """A JSON file."""
    _check_file("x.json", data)


def samples_yaml() -> Sequence[bytes]:
    return [
        b"interfaces:\n- name: veth1\n  type: VETH\n  veth: {peer_if_name: veth2}\n  ip_addresses:\n  - 10.0.0.1/24\n",
        b"- &a {name: a, type: AUTO_TAP, mtu: 0x5dc}\n- <<: *a\n  name: b\n- {<<: [*a, *a], name: c}\n",
        b"%YAML 1.2\n---\nname: 'a'\n\"type\": !!int 1\ndescription: |\n  two\n  lines\n...\n",
        b"? name\n: a\n# a comment\nenabled: true\nmtu: 1_500\nnamespace: {type: NAMED_NS, name: ns1}\ntap: ~\n",
        json.dumps([json.loads(ligato_v1.encode(one)) for one in INTERFACES]).encode(),
    ]


def samples_json_file() -> Sequence[bytes]:
    many = [json.loads(ligato_v1.encode(one)) for one in INTERFACES]
    return [json.dumps(each).encode() for each in (many, many[0], {"interfaces": many[:2]}, [], None)]


# States, and the lines of the local socket

STATES = (
    InterfaceState(name="a", config_state=ConfigState.PENDING, reason="it waits", missing=("interface b",)),
    InterfaceState(
        name="veth1",
        config_state=ConfigState.RETRYING,
        type="tap",
        reason="no",
        errors=(FieldError("mtu", "is wrong"),),
        warnings=("unknown field x is ignored",),
        attempts=3,
        next_retry=1700000000.25,
        internal_name="veth1Name",
        if_index=7,
        admin_status=Status.UP,
        oper_status=Status.DOWN,
        phys_address="d2:74:8c:12:67:d2",
        mtu=1500,
        speed=10**10,
        peer_if_index=8,
        ip_addresses=(ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64")),
        namespace=named("ns1"),
        namespace_id=NsId(4026532000),
        last_change=1700000000.0,
        observed_revision=5,
        applied_revision=4,
        repairs=2,
        last_drift="mtu is 1300, wanted 1500",
    ),
)


def check_state(data: bytes) -> None:
    """A published state, and an event of the stream."""
    with suppress(InvalidState):
        state = decode_state(data)
        written = encode_state_json(state)
        assert encode_state_json(decode_state(written)) == written
    with suppress(InvalidState):
        event = decode_event(data)
        written = encode_event_json(event)
        assert encode_event_json(decode_event(written)) == written


def samples_state() -> Sequence[bytes]:
    events = [
        StateEvent(seq=number, event=change, name=STATES[0].name, state=STATES[number % 2])
        for number, change in enumerate((Change.SNAPSHOT, Change.CHANGED))
    ]
    gap = StateEvent(seq=9, event=Change.GAP, name=STATES[0].name, missed=4)
    return [*map(encode_state_json, STATES), *map(encode_event_json, [*events, gap])]


def check_local_line(data: bytes) -> None:
    """A line of the local socket, as a request and as an answer."""
    try:
        fields = decode_line(data)
    except InvalidState as error:
        check_text(str(error))
        return
    encode_line({"error": f"cannot do {fields.get('do')!r}"})
    with suppress(InvalidState):
        declaration = decode_declaration(fields)
        again = decode_declaration(decode_line(encode_line(encode_declaration(declaration))))
        assert again == declaration


def samples_local_line() -> Sequence[bytes]:
    declared = [Declaration.of(one, warnings=("w",), revision=3) for one in INTERFACES[:3]]
    wrong = Declaration(key=interface_key("x"), errors=(FieldError("mtu", "is wrong"),), revision=2)
    requests: list[dict[str, Any]] = [
        {"do": "states"},
        {"do": "watch", "name": "veth1"},
        {"do": "declarations"},
        {"done": True},
    ]
    return [*map(encode_line, requests), *(encode_line(encode_declaration(one)) for one in (*declared, wrong))]


# The store's lock, and the last known intent

_HOLDER = Holder(host="here", pid=17, started=4711, boot="5a", space=4026531836)


def check_lock(data: bytes) -> None:
    """The value of the lock's key."""
    holder = Holder.decode(data)
    assert Holder.decode(holder.encode()) == holder
    assert len(holder.encode()) < 10_000
    holder.is_dead(_HOLDER)
    _HOLDER.is_dead(holder)
    text = str(holder)
    assert len(text) < 200
    assert text.isprintable()
    JsonFormatter().format(_record(text)).encode()


def _record(text: str) -> Any:
    import logging

    return logging.makeLogRecord({"msg": text, "levelname": "INFO"})


def samples_lock() -> Sequence[bytes]:
    return [_HOLDER.encode(), replace(_HOLDER, host="there", pid=2).encode(), b"{}"]


_WRITTEN = "2026-01-31T12:00:00Z"


def check_intent_file(data: bytes) -> None:
    """The last known intent: the file itself, or if it begins with ``+`` its content, under a right checksum."""
    file = IntentFile(_folder(), source="etcd", label="fuzz")
    if data[:1] == b"+":
        with suppress(ValueError, RecursionError):
            data = _sealed(json.loads(data[1:]))
    file.path.write_bytes(data)
    file.path.chmod(0o600)
    found = file.read()
    for left_over in _folder().glob("*.damaged-*"):
        left_over.unlink()
    if found is None:
        return
    assert isinstance(found.written, datetime)
    assert found.written.tzinfo is UTC
    for resource, declaration in found.declarations.items():
        assert declaration.key == resource
        assert (declaration.interface is None) == bool(declaration.errors)
    again = IntentFile(_folder(), source="etcd", label="fuzz")
    again.write(found.declarations)
    read = again.read()
    assert read is not None
    assert dict(read.declarations) == dict(found.declarations)


def _sealed(content: object) -> bytes:
    """Return the file that has this content."""
    body = json.dumps(content, separators=(",", ":")).encode()
    checksum = sha256(f"1 {_WRITTEN} ".encode() + body).hexdigest()
    head = json.dumps({"version": 1, "written": _WRITTEN, "checksum": checksum}, separators=(",", ":")).encode()
    return head[:-1] + b',"content":' + body + b"}\n"


def samples_intent_file() -> Sequence[bytes]:
    entries: list[dict[str, Any]] = [
        {"name": one.name, "revision": 3, "warnings": ["w"], "value": json.loads(ligato_v1.encode(one))}
        for one in INTERFACES[:3]
    ]
    entries.append({"name": "x", "revision": 1, "warnings": [], "errors": [{"field": "mtu", "message": "is wrong"}]})
    content = {"source": "etcd", "label": "fuzz", "interfaces": entries}
    return [_sealed(content), b"+" + json.dumps(content, separators=(",", ":")).encode(), _sealed({})]


# A container engine's answers


def check_engine(data: bytes) -> None:
    """An answer to a question for all containers, for one of them, and an event."""
    happened = read_event(data)
    assert happened is None or isinstance(happened, ContainerEvent)
    for read in (read_ids, _container):
        with suppress(BadAnswer):
            for found in read(data):
                found.encode()


def _container(data: bytes) -> Iterable[str]:
    container = Engine(Path("/nowhere"), variable="MICROSERVICE_LABEL", container_label="label").read_container(
        "id", data
    )
    assert isinstance(container, Container)
    # They are compared with each other, and with what is wanted.
    other = replace(container, started=datetime(2026, 1, 1, tzinfo=UTC))
    assert (container.started < other.started) or (container.started >= other.started)
    assert 0 <= container.pid < 2**31
    hash(container)
    return [container.id, container.label]


def samples_engine() -> Sequence[bytes]:
    container = {
        "State": {"Pid": 4711, "StartedAt": "2026-11-23T18:38:10.115321465Z", "Running": True},
        "Config": {"Env": ["PATH=/bin", "MICROSERVICE_LABEL=web"], "Labels": {"label": "web2"}},
    }
    event = {"Type": "container", "Action": "start", "Actor": {"ID": "abc"}, "timeNano": 1700000000000000000}
    return [json.dumps(each).encode() for each in (container, [{"Id": "abc"}, {"Id": "def"}], event)]
