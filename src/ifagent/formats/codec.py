"""What the families of ligato values share: bytes to plain fields, and back.

A value is a JSON object, or the binary form of a protobuf message. Which of the two it is shows in its first byte.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, Protocol

import betterproto2

from ifagent.core.events import Declaration
from ifagent.core.interface import Name
from ifagent.errors import InvalidInterface
from ifagent.formats import wire
from ifagent.formats.fields import Decoded, JsonObject, Reader
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.visible import visible

MAX_VALUE_BYTES = 64 * 1024
"""Longest value that is looked at; the longest valid interface needs less."""

_WHITE_SPACE = b" \t\r\n"
_JSON_START = (b"{", b"[")
_ONLY_JSON = (*_JSON_START, b" ", b"\t", b"\r")

Message = type[betterproto2.Message]


class Decode(Protocol):
    """A family's function from bytes to an interface; raises :class:`InvalidInterface` and nothing else."""

    def __call__(self, value: bytes, *, name: str) -> Decoded:
        """Read the value under the key that ends in ``name``."""


def decode(
    value: bytes, *, name: str, reader: type[Reader], message: Message, nested: Mapping[str, Message]
) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary ``message``.

    ``nested`` has the classes of its fields that are messages. Raises :class:`InvalidInterface` for ``name``, and
    nothing else, with every error that could be found.
    """
    try:
        fields, warnings = _load(value, message, nested)
    except wire.BrokenMessage as broken:
        raise InvalidInterface(name, [broken.error]) from None
    return reader.read(fields, name=name, warnings=warnings)


def declare(decode: Decode, value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value with ``decode``; what is wrong with it goes into the declaration. Never raises."""
    try:
        decoded = decode(value, name=name)
    except InvalidInterface as error:
        return Declaration(name=Name(name), errors=error.errors, revision=revision)
    return Declaration(name=Name(name), interface=decoded.interface, warnings=decoded.warnings, revision=revision)


def without_zeros(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, inside nested objects too: protobuf's zero values, and empty objects."""
    inner = {key: without_zeros(value) if isinstance(value, dict) else value for key, value in fields.items()}
    return {key: value for key, value in inner.items() if value}


def dump_json(fields: Mapping[str, Any]) -> bytes:
    """Write plain fields as compact JSON in UTF-8."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def dump_message(fields: Mapping[str, Any], *, message: Message, nested: Mapping[str, Message]) -> bytes:
    """Write plain fields as the binary ``message``, in the order of the field numbers, without zero values."""
    inner = {key: make(**fields[key]) for key, make in nested.items() if key in fields}
    return bytes(message(**{**fields, **inner}))


def _load(value: bytes, message: Message, nested: Mapping[str, Message]) -> tuple[object, list[str]]:
    """Parse either form into plain fields and warnings; raises :class:`wire.BrokenMessage`."""
    if len(value) > MAX_VALUE_BYTES:
        raise wire.BrokenMessage("", f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are allowed")
    value = value.removeprefix(BOM_UTF8)
    stripped = value.strip(_WHITE_SPACE)
    if not stripped:
        raise wire.BrokenMessage("", "the value is empty, it must be a JSON object or a protobuf message")
    # A line feed may begin both: it is white space, and the tag of a message's first field, the name.
    may_be_message = value[:1] not in _ONLY_JSON
    if may_be_message and not stripped.startswith(_JSON_START):
        try:
            return _load_message(value, message, nested)
        except wire.BrokenMessage:
            if not _is_text(value):
                raise
            return _load_text(stripped.decode()), []
    try:
        return _load_json(stripped), []
    except wire.BrokenMessage as broken_json:
        if not may_be_message:
            raise
        try:
            return _load_message(value, message, nested)
        except wire.BrokenMessage:
            raise broken_json from None


def _load_json(text: bytes) -> object:
    try:
        return read_json(text, pairs=JsonObject)
    except BrokenJson as error:
        raise wire.BrokenMessage("", f"the value {error}") from None


def _load_text(text: str) -> object:
    """Parse JSON that is not an object, or say that it is not JSON."""
    try:
        return read_json(text, pairs=JsonObject)
    except BrokenJson:
        hint = "; JSON has no comments" if text.startswith(("//", "/*", "#")) else ""
        problem = f"it is text that begins with {text[0]!r}, not '{{'{hint}"
        raise wire.BrokenMessage("", f"the value is neither a JSON object nor a protobuf message: {problem}") from None


def _is_text(value: bytes) -> bool:
    try:
        return visible(value.decode(), keep="\t\r\n") == value.decode()
    except UnicodeDecodeError:
        return False


def _load_message(value: bytes, message: Message, nested: Mapping[str, Message]) -> tuple[object, list[str]]:
    try:
        parsed, unknown = wire.parse(value, message, nested=nested)
    except wire.BrokenMessage as broken:
        if broken.error.field.startswith("#") or not broken.error.field:
            # Nothing of an interface was recognised, most likely it is some other text.
            problem = f"the value is neither a JSON object nor a protobuf message: {broken}"
            raise wire.BrokenMessage("", problem) from None
        raise
    return _message_fields(parsed), [f"unknown field {path} is ignored" for path in unknown]


def _message_fields(message: betterproto2.Message) -> dict[str, Any]:
    """Make the object that JSON would have, without zero values."""
    found = {}
    for name in wire.field_names(message):
        value = getattr(message, name)
        if isinstance(value, betterproto2.Message):
            found[name] = _message_fields(value)
        elif value:
            found[name] = value
    return found
