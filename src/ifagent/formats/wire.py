"""The binary form of a protobuf message, read strictly.

betterproto2 takes a truncated message for a complete one, cuts numbers to their width and puts a field of the
wrong wire type wherever it fits. So :func:`parse` first checks the bytes by the rules of the encoding
(https://protobuf.dev/programming-guides/encoding/) and passes only valid ones to betterproto2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast

import betterproto2

from ifagent.errors import FieldError

M = TypeVar("M", bound=betterproto2.Message)

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    betterproto2.TYPE_BOOL: _VARINT,
    betterproto2.TYPE_ENUM: _VARINT,
    betterproto2.TYPE_UINT32: _VARINT,
    betterproto2.TYPE_STRING: _LENGTH,
    betterproto2.TYPE_MESSAGE: _LENGTH,
}
_MAX_FIELD_NUMBER = 2**29 - 1

MAX_FIELDS = 1024
"""Most fields of one message; a tenth of a second for 64 KiB of two-byte fields is too long to hold up a loop."""


class DecodeError(Exception):
    """A value cannot be decoded; ``error`` has the field and the reason."""

    def __init__(self, field: str, message: str) -> None:
        """Keep the field's path, empty for the message itself, and the problem."""
        self.error: FieldError = FieldError(field, message)
        super().__init__(str(self.error))


def parse(value: bytes, message: type[M], *, nested: Mapping[str, type[betterproto2.Message]]) -> tuple[M, list[str]]:
    """Decode ``value``; returns the message and the paths of unknown fields, such as ``namespace.#7``.

    ``nested`` has the class of every field that is itself a message; those are not nested further. Of a repeated
    field the last value counts, but a nested message must not be repeated, nor may two members of one ``oneof``
    be set. Raises :class:`DecodeError`.
    """
    unknown: list[str] = []
    _check(value, message, nested, path="", unknown=unknown)
    return message.parse(value), unknown


def field_names(message: betterproto2.Message) -> list[str]:
    """List a message's fields in the order of their numbers."""
    return [name for _, (name, _, _) in sorted(_fields(type(message)).items())]


@cache
def optional_fields(message: type[betterproto2.Message]) -> frozenset[str]:
    """Return the fields of which a message tells whether they are there, even with a zero value."""
    found = dataclasses.fields(cast("Any", message))
    return frozenset(field.name for field in found if betterproto2.FieldMetadata.get(field).optional)


def _check(
    value: bytes,
    message: type[betterproto2.Message],
    nested: Mapping[str, type[betterproto2.Message]],
    *,
    path: str,
    unknown: list[str],
) -> None:
    known = _fields(message)
    seen: dict[str, str] = {}
    position = count = 0
    while position < len(value):
        count += 1
        if count > MAX_FIELDS:
            raise DecodeError(path, f"has more than {MAX_FIELDS} fields")
        tag, position = _varint(value, position, path)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD_NUMBER:
            raise DecodeError(path, f"not a protobuf message: invalid field number {number}")
        field, proto_type, group = known.get(number, (f"#{number}", "", ""))
        where = f"{path}.{field}" if path else field
        start, position = _payload(value, position, wire_type, where)
        if not proto_type:
            unknown.append(where)
            continue
        if wire_type != _WIRE_TYPES[proto_type]:
            raise DecodeError(where, f"has wire type {wire_type}, a {proto_type} has {_WIRE_TYPES[proto_type]}")
        if proto_type == betterproto2.TYPE_UINT32 and _varint(value, start, where)[0] >= 2**32:
            raise DecodeError(where, "is too large, a uint32 is at most 4294967295")
        if proto_type == betterproto2.TYPE_STRING:
            _check_text(value[start:position], where)
        if proto_type == betterproto2.TYPE_MESSAGE:
            if group in seen:
                other = seen[group]
                raise DecodeError(where, "duplicate field" if other == field else f"cannot be combined with {other}")
            seen[group] = field
            _check(value[start:position], nested[field], {}, path=where, unknown=unknown)


@cache
def _fields(message: type[betterproto2.Message]) -> dict[int, tuple[str, str, str]]:
    """Name, protobuf type and ``oneof`` (or the name again) of every field, by number."""
    # Generated messages are dataclasses, but their base class does not say so to a type checker.
    metadata = {field.name: betterproto2.FieldMetadata.get(field) for field in dataclasses.fields(cast("Any", message))}
    return {data.number: (name, data.proto_type, data.group or name) for name, data in metadata.items()}


def _payload(value: bytes, position: int, wire_type: int, where: str) -> tuple[int, int]:
    """Start and end of a field's content; for a varint the start of its bytes."""
    match wire_type:
        case 0:
            return position, _varint(value, position, where)[1]
        case 1:
            start, end = position, position + 8
        case 2:
            length, start = _varint(value, position, where)
            end = start + length
        case 5:
            start, end = position, position + 4
        case _:
            raise DecodeError(where, f"not a protobuf field: invalid wire type {wire_type}")
    if end > len(value):
        raise DecodeError(where, f"is truncated: expected {end - start} bytes, got {len(value) - start}")
    return start, end


def _varint(value: bytes, position: int, where: str) -> tuple[int, int]:
    """Read a base-128 number of at most 64 bits; returns it and the position after it."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(value):
            raise DecodeError(where, "is truncated in the middle of a number")
        byte = value[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >= 2**64:
                break
            return result, position
    raise DecodeError(where, "has a number of more than 64 bits")


def _check_text(value: bytes, where: str) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(where, f"is not UTF-8: {error.reason} at byte {error.start}") from None
