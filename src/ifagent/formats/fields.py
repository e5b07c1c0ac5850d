"""From plain values, as a JSON or YAML parser returns them, to an interface.

A :class:`ValueReader` checks and converts the *types* of the values; each message format has a subclass that maps its
fields to those of the model. :func:`ifagent.core.interface.parse_interface` then checks what the values *mean*. Errors
of both are reported together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from math import log10
from typing import Any, ClassVar, TypeVar

from ifagent.core.address_values import MAX_ADDRESSES
from ifagent.core.interface import Interface, parse_interface
from ifagent.core.kinds import BridgePort
from ifagent.errors import MAX_ERRORS, FieldError, InvalidInterface
from ifagent.formats.settings import SettingsFields

MAX_REPORTED = MAX_ERRORS
"""Maximum number of errors, and of warnings, reported for one value."""

MAX_MESSAGE = 400
"""Longest message of one error, in characters: a value may quote itself at length."""

MAX_TEXT = 2400
"""Most characters in the messages of all errors of one value together: they are kept as long as the value exists."""

_MAX_SHOWN = 60
_MAX_DIGITS = 20
_MAX_BITS = 10_000

E = TypeVar("E", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An interface, and a warning for each part of its value that is ignored."""

    interface: Interface
    warnings: tuple[str, ...] = ()


class JsonObject:
    """A JSON object that keeps duplicate keys."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        """Keep the pairs in the order of the text."""
        self._pairs = pairs

    def items(self) -> list[tuple[str, Any]]:
        """Keys and values in the order of the text."""
        return self._pairs


_OBJECTS = (JsonObject, Mapping)
"""Types of an object, the most frequent first."""

BRIDGE_PORT = SettingsFields(BridgePort, "bridge_port")
"""What an interface is like as a port of a bridge."""

PLACEHOLDER_KIND = {"type": "tap"}
"""Stands in for an invalid kind, so that the model checks the other fields."""

OWN = {"type": "own"}
"""The agent's own namespace in the shape of the model."""


class ValueReader(ABC):
    """Reads the fields of one value and collects errors and warnings.

    An invalid field is left out of the result, or replaced by a valid placeholder where the model requires it,
    so that the model can still check the others. A subclass knows the fields of one message.
    """

    known: ClassVar[Mapping[str, str]]
    """Every spelling of the message's fields, see :func:`aliases`."""

    def __init__(self, warnings: Iterable[str]) -> None:
        """Begin with the warnings found so far."""
        self.errors: list[FieldError] = []
        self.warnings: list[str] = list(warnings)
        self.called: str = ""
        self.namespace_field: str = "namespace"

    @classmethod
    def read(cls, fields: object, *, name: str | None, warnings: Iterable[str] = ()) -> Decoded:
        """Return the interface of an object that has the fields of the message.

        Its field ``name`` must equal ``name``, unless that is ``None``. ``warnings`` come before those found here.
        Raises :class:`InvalidInterface`, and nothing else, with all errors.
        """
        if not isinstance(fields, _OBJECTS):
            again = isinstance(fields, str) and fields.lstrip().startswith("{")
            hint = " with JSON in it: remove the quotes around it, and the backslashes" if again else ""
            problem = f"an interface must be an object, not {_type_of(fields)}{hint}"
            raise InvalidInterface(name or "", [FieldError("", problem)])
        reader = cls(warnings)
        found = reader.read_object(fields, "", cls.known) or {}
        plain = reader.interface(found, name)
        called = name if name is not None else reader.called
        try:
            interface = parse_interface(called, plain)
        except InvalidInterface as error:
            renamed = [_with_wire_name(each, reader.namespace_field) for each in error.errors]
            raise InvalidInterface(called, _limited(reader.errors + renamed, error.more)) from None
        if reader.errors:
            raise InvalidInterface(called, _limited(reader.errors))
        return Decoded(interface, first_of(reader.warnings))

    @abstractmethod
    def kind(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the model's ``kind`` from the message's fields."""

    @abstractmethod
    def namespace(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the model's ``namespace``, and set ``namespace_field`` to the field that errors of the model name."""

    def error(self, field: str, message: str) -> None:
        """Add an error of a field."""
        self.errors.append(FieldError(field, message))

    def interface(self, found: dict[str, Any], name: str | None) -> dict[str, Any]:
        """Return the fields that ``parse_interface`` takes."""
        plain: dict[str, Any] = {
            "name": self.name(found, name),
            "kind": self.kind(found),
            "namespace": self.namespace(found),
        }
        for key in ("description", "phys_address", "host_if_name", "vrf_master_interface", "master_if_name"):
            if key in found:
                plain[key] = self.text(found, key, "") or ""
        for key in ("enabled", "link_only"):
            if key in found:
                plain[key] = self.flag(found[key], key)
        if "mtu" in found:
            plain["mtu"] = self.number(found["mtu"], "mtu", "a number of bytes, such as 1500") or 0
        if "ip_addresses" in found:
            plain["ip_addresses"] = self.addresses(found["ip_addresses"])
        if "bridge_port" in found:
            plain["bridge_port"] = BRIDGE_PORT.read(self, found["bridge_port"])
        return plain

    def name(self, found: dict[str, Any], expected: str | None) -> str:
        """Read the name, which must equal ``expected`` unless that is ``None``."""
        given = self.text(found, "name", "")
        self.called = given or ""
        if given == "":
            self.error("name", "is required" if expected is None else f"is required, and must be {_show(expected)}")
        elif given is not None and expected is not None and given != expected:
            self.error("name", f"{_show(given)} is not the name in the key, {_show(expected)}")
        return given or "x"

    def unused(self, fields: dict[str, Any], key: str, why: str, *, path: str = "") -> None:
        """Warn of a field that is set and ignored."""
        if fields.get(key):
            self.warnings.append(f"{_join(path, key)} is ignored, because {why}")

    def read_object(self, value: object, path: str, known: Mapping[str, str]) -> dict[str, Any] | None:
        """Return an object's fields by canonical name, without those that are null; ``None`` if it is not an object."""
        found: dict[str, Any] = {}
        if value is None:
            return found
        if not isinstance(value, _OBJECTS):
            self.error(path, f"must be an object, not {_type_of(value)}")
            return None
        for key, field in value.items():
            name = known.get(key) or known.get(key.lower()) if isinstance(key, str) else None
            if name is None:
                self.warnings.append(f"unknown field {_join(path, _show(key))} is ignored")
            elif field is not None:
                if name in found:
                    self._repeated(_join(path, name), found[name], field)
                found[name] = field
        return found

    def _repeated(self, path: str, *values: object) -> None:
        if any(isinstance(value, _OBJECTS) for value in values):
            self.error(path, "duplicate field")
        else:
            self.warnings.append(f"duplicate field {path}, the last one is used")

    def text(self, fields: dict[str, Any], key: str, path: str) -> str | None:
        """Read a string, empty if absent; ``None`` if invalid, after adding an error."""
        value = fields.get(key, "")
        if isinstance(value, str):
            if value.isascii() or _is_unicode(value):
                return str(value)
            self.error(_join(path, key), f"{_show(value)} is not valid Unicode, it has an unpaired surrogate")
        else:
            self.error(_join(path, key), f"must be a string, not {_type_of(value)}")
        return None

    def texts(self, value: object, path: str) -> list[str] | None:
        """Read a list of strings; ``None`` if invalid, after adding an error."""
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return list(value)
        self.error(path, "must be a list of strings")
        return None

    def flag(self, value: object, path: str) -> bool:
        """Read a boolean."""
        if isinstance(value, bool):
            return value
        self.error(path, f"must be true or false, not {_show(value)}")
        return False

    def number(self, value: object, path: str, meaning: str) -> int | None:
        """Read a whole number; ``meaning`` completes the error "must be ..."."""
        number = _whole(value)
        if number is None and (digits := _digits(value)):
            self.error(path, f"must be {meaning}; a number of {digits} digits is out of range")
        elif number is None:
            self.error(path, f"must be {meaning}, not {_show(value)}")
        return number

    def choice(self, value: object, path: str, members: type[E]) -> E | None:
        """Read an enum by its number or its name."""
        if type(value) is int and value in members._value2member_map_:
            return members(value)
        if isinstance(value, str) and value.upper() in members.__members__:
            return members[value.upper()]
        number = _whole(value)
        if number is not None and number in members._value2member_map_:
            return members(number)
        allowed = ", ".join(f"{member:d} ({member.name})" for member in members)
        self.error(path, f"must be one of {allowed}, not {_show(value)}")
        return None

    def addresses(self, value: object) -> list[Any]:
        """Read the list of addresses; the model checks each of them."""
        if not isinstance(value, list | tuple):
            self.error("ip_addresses", f'must be a list such as ["192.168.22.1/24"], not {_type_of(value)}')
        elif len(value) > MAX_ADDRESSES:
            self.error("ip_addresses", f"has {len(value)} addresses, at most {MAX_ADDRESSES} are allowed")
        else:
            return list(value)
        return []


def _whole(value: object) -> int | None:
    """Read a whole number of at most 64 bits, also from ``"1500"`` and ``1500.0``; ``None`` if it is not one."""
    match value:
        case bool():
            return None
        case int() if value.bit_length() <= 64:
            return int(value)
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case str() if value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
            return int(value)
        case _:
            return None


def _digits(value: object) -> int:
    """Return how many digits a whole number has that is out of range; 0 if the value is not a whole number."""
    match value:
        case bool():
            return 0
        case int() if value.bit_length() > _MAX_BITS:  # str() would refuse it
            return int(value.bit_length() * log10(2)) + 1
        case int():
            return len(str(abs(value)))
        case float() if value.is_integer():
            return len(str(abs(int(value))))
        case str() if value.isascii() and value.isdecimal():
            return len(value)
        case _:
            return 0


def _with_wire_name(error: FieldError, namespace_field: str) -> FieldError:
    """Return the error with the name that its field has in the message."""
    if error.field in {"namespace", "namespace.reference"}:
        return FieldError(namespace_field, error.message)
    return error


def _limited(errors: list[FieldError], more: int = 0) -> list[FieldError]:
    """Return at most :data:`MAX_REPORTED` errors, and an entry that counts the others, ``more`` included."""
    first = errors[:MAX_REPORTED]
    longest = min(MAX_MESSAGE, MAX_TEXT // len(first))
    shown = [_shared(error.field, _cut(error.message, longest)) for error in first]
    if more := more + len(errors) - len(first):
        shown.append(FieldError("", f"and up to {more} more errors"))
    return shown


@lru_cache(maxsize=1024)
def _shared(field: str, message: str) -> FieldError:
    """Return one object for equal errors: very many values often have the same one."""
    return FieldError(field, message)


def first_of(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return at most :data:`MAX_REPORTED` warnings, and one that counts the others."""
    if len(warnings) > MAX_REPORTED:
        return (*warnings[:MAX_REPORTED], f"and {len(warnings) - MAX_REPORTED} more")
    return tuple(warnings)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _show(value: object) -> str:
    """Quote a value in a message, shortened."""
    match value:
        case str():
            return repr(_cut(str(value), _MAX_SHOWN))
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() <= 64:
            return str(int(value))
        case float():
            return str(float(value))
        case _:
            return _type_of(value)


def _type_of(value: object) -> str:
    """Return JSON's name of a value's type, with its article."""
    if value is None:
        return "null"
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        ((list, tuple), "a list"),
        (_OBJECTS, "an object"),
    ]
    return next((name for types, name in names if isinstance(value, types)), f"a {type(value).__name__}")
