"""What the formats of ligato v1 and v3 have in common: bytes to plain fields, and back.

A value is a JSON object, or the binary form of a protobuf message; the first byte tells which.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import betterproto2

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.resources import interface_key
from ifagent.errors import InvalidInterface
from ifagent.formats import wire
from ifagent.formats.fields import BRIDGE_PORT, Decoded, JsonObject, ValueReader
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.visible import visible

MAX_VALUE_BYTES = 64 * 1024
"""Longest value that is decoded; the longest valid interface needs less."""

_WHITE_SPACE = b" \t\r\n"
_JSON_START = (b"{", b"[")
_ONLY_JSON = (*_JSON_START, b" ", b"\t", b"\r")

Message = type[betterproto2.Message]


class Decode(Protocol):
    """A format's function from bytes to an interface; raises :class:`InvalidInterface` and nothing else."""

    def __call__(self, value: bytes, *, name: str) -> Decoded:
        """Read the value under the key that ends in ``name``."""


def decode(
    value: bytes, *, name: str, reader: type[ValueReader], message: Message, nested: Mapping[str, Message]
) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary ``message``.

    ``nested`` has the classes of its fields that are messages. Raises :class:`InvalidInterface` for ``name``, and
    nothing else, with all errors.
    """
    try:
        fields, warnings = _load(value, message, nested)
    except wire.DecodeError as broken:
        raise InvalidInterface(name, [broken.error]) from None
    return reader.read(fields, name=name, warnings=warnings)


def declare(decode: Decode, value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value with ``decode``, with errors in the declaration. Never raises."""
    try:
        decoded = decode(value, name=name)
    except InvalidInterface as error:
        return Declaration(key=interface_key(name), errors=error.errors, revision=revision)
    return Declaration.of(decoded.interface, warnings=decoded.warnings, revision=revision)


def without_zeros(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out protobuf's zero values, and empty objects, inside nested objects too."""
    inner = {key: without_zeros(value) if isinstance(value, dict) else value for key, value in fields.items()}
    return {key: value for key, value in inner.items() if value}


def interface_fields(
    interface: Interface, common: Mapping[str, Any], own: Mapping[str, Any], *, field: str, order: Iterable[str]
) -> dict[str, Any]:
    """Return the fields of a message ``Interface`` in ``order``, without zero values.

    ``own`` are those of its kind, the content of ``field``. They and those of a port keep their zeros, where they mean
    something.
    """
    plain = without_zeros(common)
    if own:
        plain[field] = own
    if interface.bridge_port is not None:
        plain["bridge_port"] = BRIDGE_PORT.write(interface.bridge_port)
    return {name: plain[name] for name in order if name in plain}


def dump_json(fields: Mapping[str, Any]) -> bytes:
    """Write plain fields as compact JSON in UTF-8."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def dump_message(fields: Mapping[str, Any], *, message: Message, nested: Mapping[str, Message]) -> bytes:
    """Write plain fields as the binary ``message``, in the order of the field numbers, without zero values."""
    inner = {key: make(**fields[key]) for key, make in nested.items() if key in fields}
    return bytes(message(**{**fields, **inner}))


def _load(value: bytes, message: Message, nested: Mapping[str, Message]) -> tuple[object, list[str]]:
    """Parse either form into plain fields and warnings; raises :class:`wire.DecodeError`."""
    if len(value) > MAX_VALUE_BYTES:
        raise wire.DecodeError("", f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are allowed")
    value = value.removeprefix(BOM_UTF8)
    stripped = value.strip(_WHITE_SPACE)
    if not stripped:
        raise wire.DecodeError("", "the value is empty, it must be a JSON object or a protobuf message")
    # Both may begin with a line feed: it is white space in JSON, and the tag of a message's first field, the name.
    may_be_message = value[:1] not in _ONLY_JSON
    if may_be_message and not stripped.startswith(_JSON_START):
        try:
            return _load_message(value, message, nested)
        except wire.DecodeError:
            if not _is_text(value):
                raise
            return _load_text(stripped.decode()), []
    try:
        return _load_json(stripped), []
    except wire.DecodeError as broken_json:
        if not may_be_message:
            raise
        try:
            return _load_message(value, message, nested)
        except wire.DecodeError:
            raise broken_json from None


def _load_json(text: bytes) -> object:
    try:
        return read_json(text, pairs=JsonObject)
    except BrokenJson as error:
        raise wire.DecodeError("", f"the value {error}") from None


def _load_text(text: str) -> object:
    """Parse JSON that is not an object; raises :class:`wire.DecodeError` if it is not JSON."""
    try:
        return read_json(text, pairs=JsonObject)
    except BrokenJson:
        hint = "; JSON has no comments" if text.startswith(("//", "/*", "#")) else ""
        problem = f"it is text that begins with {text[0]!r}, not '{{'{hint}"
        raise wire.DecodeError("", f"the value is neither a JSON object nor a protobuf message: {problem}") from None


def _is_text(value: bytes) -> bool:
    try:
        return visible(value.decode(), keep="\t\r\n") == value.decode()
    except UnicodeDecodeError:
        return False


def _load_message(value: bytes, message: Message, nested: Mapping[str, Message]) -> tuple[object, list[str]]:
    try:
        parsed, unknown = wire.parse(value, message, nested=nested)
    except wire.DecodeError as broken:
        if broken.error.field.startswith("#") or not broken.error.field:
            # No field of an interface was recognised: most likely some other text.
            problem = f"the value is neither a JSON object nor a protobuf message: {broken}"
            raise wire.DecodeError("", problem) from None
        raise
    return _message_fields(parsed), [f"unknown field {path} is ignored" for path in unknown]


def _message_fields(message: betterproto2.Message) -> dict[str, Any]:
    """Return the object that JSON would have, without zero values unless their presence means something."""
    found, optional = {}, wire.optional_fields(type(message))
    for name in wire.field_names(message):
        value = getattr(message, name)
        if isinstance(value, betterproto2.Message):
            found[name] = _message_fields(value)
        elif value or (value is not None and name in optional):
            found[name] = value
    return found
