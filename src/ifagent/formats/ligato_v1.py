"""Interfaces as ligato vpp-agent v1.4.1 stores them: bytes to interface, and back.

Source: message ``LinuxInterfaces.Interface`` in ``protos/ligato/v1/interfaces.proto``. v1.4.1 stores it as
Go's ``encoding/json`` does: snake_case keys, enums as numbers, zero values left out. What is read here is a
superset: keys in any case and in camelCase, enums by name, whole numbers written as ``"1500"`` or ``1500.0``,
and the binary form of the message. What is written is what v1.4.1 can read.

Whatever the bytes, nothing comes out but an interface or :class:`InvalidInterface`.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, assert_never

import betterproto2

from ifagent.core.events import Declaration
from ifagent.core.interface import AutoTap, Interface, Name, NamespaceRef, NamespaceType, Veth
from ifagent.errors import InvalidInterface
from ifagent.formats import wire
from ifagent.formats.fields import Decoded, JsonObject, read_interface
from ifagent.formats.numbers import NAMESPACE_NUMBERS, InterfaceType
from ifagent.formats.pb import interfaces as pb

__all__ = ["MAX_VALUE_BYTES", "Decoded", "declare", "decode", "decode_fields", "encode", "encode_binary"]

MAX_VALUE_BYTES = 64 * 1024
"""Longest value that is looked at; the longest valid interface needs less."""

_WHITE_SPACE = b" \t\r\n"
_JSON_START = (b"{", b"[")
_ONLY_JSON = (*_JSON_START, b" ", b"\t", b"\r")

_NESTED: dict[str, type[betterproto2.Message]] = {
    "namespace": pb.LinuxInterfacesInterfaceNamespace,
    "veth": pb.LinuxInterfacesInterfaceVeth,
    "tap": pb.LinuxInterfacesInterfaceTap,
}


def decode(value: bytes, *, name: str) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary message.

    Raises :class:`InvalidInterface` for ``name``, and nothing else, with every error that could be found.
    """
    try:
        fields, warnings = _load(value)
    except wire.BrokenMessage as broken:
        raise InvalidInterface(name, [broken.error]) from None
    return read_interface(fields, name=name, warnings=warnings)


def decode_fields(fields: object, *, name: str | None) -> Decoded:
    """Read an interface from an object as a JSON or YAML parser, or a Python program, makes it.

    With ``name`` ``None`` the name is taken from the fields, else both must be equal. Addresses may also be
    ``ipaddress`` objects, and enums members of :mod:`ifagent.formats.numbers`. Raises
    :class:`InvalidInterface`, and nothing else.
    """
    return read_interface(fields, name=name)


def declare(value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value as :func:`decode` does; what is wrong with it goes into the declaration. Never raises."""
    try:
        decoded = decode(value, name=name)
    except InvalidInterface as error:
        return Declaration(name=Name(name), errors=error.errors, revision=revision)
    return Declaration(name=Name(name), interface=decoded.interface, warnings=decoded.warnings, revision=revision)


def encode(interface: Interface) -> bytes:
    """Write an interface as v1.4.1 does: JSON in the order of the field numbers, without zero values."""
    return json.dumps(_plain(interface), ensure_ascii=False, separators=(",", ":")).encode()


def encode_binary(interface: Interface) -> bytes:
    """Write an interface as the binary message, in the order of the field numbers, without zero values."""
    fields = _plain(interface)
    for key, message in _NESTED.items():
        if key in fields:
            fields[key] = message(**fields[key])
    return bytes(pb.LinuxInterfacesInterface(**fields))


def _plain_namespace(ref: NamespaceRef) -> dict[str, Any]:
    """Make the fields of the message ``Namespace``, without zero values: none for the agent's own."""
    if ref.type is NamespaceType.OWN:
        return {}
    number, field = NAMESPACE_NUMBERS[ref.type]
    reference = int(ref.reference) if ref.type is NamespaceType.PID else ref.reference
    return {"type": int(number), field: reference} if number else {field: reference}


def _plain(interface: Interface) -> dict[str, Any]:
    """Make the fields of the message ``Interface`` in the order of their numbers, without zero values."""
    veth, tap = {}, {}
    match interface.kind:
        case Veth(peer_if_name=peer):
            number = InterfaceType.VETH
            veth = {"peer_if_name": peer}
        case AutoTap(temp_if_name=temporary):
            number = InterfaceType.AUTO_TAP
            tap = {"temp_if_name": temporary} if temporary else {}
        case _:
            assert_never(interface.kind)
    fields = {
        "name": interface.name,
        "description": interface.description,
        "type": int(number),
        "enabled": interface.enabled,
        "ip_addresses": [str(address) for address in interface.ip_addresses],
        "phys_address": interface.phys_address,
        "mtu": interface.mtu,
        "host_if_name": interface.host_if_name,
        "namespace": _plain_namespace(interface.namespace),
        "veth": veth,
        "tap": tap,
    }
    return {key: value for key, value in fields.items() if value}


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


_JSON = json.JSONDecoder(object_pairs_hook=JsonObject, parse_constant=_refuse_constant)


def _load(value: bytes) -> tuple[object, list[str]]:
    """Parse either form into plain fields and warnings; raises :class:`wire.BrokenMessage`."""
    if len(value) > MAX_VALUE_BYTES:
        raise wire.BrokenMessage("", f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are read")
    stripped = value.strip(_WHITE_SPACE)
    if not stripped:
        raise wire.BrokenMessage("", "the value is empty, it must be a JSON object or a protobuf message")
    # A line feed may begin both: it is white space, and the tag of a message's first field, the name.
    may_be_message = value[:1] not in _ONLY_JSON
    if may_be_message and not stripped.startswith(_JSON_START):
        return _load_message(value)
    try:
        return _load_json(stripped), []
    except wire.BrokenMessage as broken_json:
        if not may_be_message:
            raise
        try:
            return _load_message(value)
        except wire.BrokenMessage:
            raise broken_json from None


def _load_json(text: bytes) -> object:
    try:
        return _JSON.decode(text.decode())
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8: {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:
        problem = f"has something that cannot be used: {error}"
    raise wire.BrokenMessage("", f"the value {problem}")


def _load_message(value: bytes) -> tuple[object, list[str]]:
    try:
        message, unknown = wire.parse(value, pb.LinuxInterfacesInterface, nested=_NESTED)
    except wire.BrokenMessage as broken:
        if broken.error.field.startswith("#") or not broken.error.field:
            # Nothing of an interface was recognised, most likely it is some other text.
            problem = f"the value is neither a JSON object nor a protobuf message: {broken}"
            raise wire.BrokenMessage("", problem) from None
        raise
    return _message_fields(message), [f"unknown field {path} is ignored" for path in unknown]


def _message_fields(message: betterproto2.Message) -> dict[str, Any]:
    """Make the object that JSON would have, without zero values."""
    found = {}
    for name in wire.field_names(message):
        value = getattr(message, name)
        if value:
            found[name] = _message_fields(value) if isinstance(value, betterproto2.Message) else value
    return found
