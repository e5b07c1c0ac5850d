"""Objects whose fields are those of a class of the model, under the same names.

What is absent has its default, which need not be zero; what has its default is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints


class Reader(Protocol):
    """What reads the fields, and keeps errors; see :class:`ifagent.formats.fields.ValueReader`."""

    def read_object(self, value: object, path: str, known: Mapping[str, str], /) -> dict[str, Any] | None: ...  # noqa: D102
    def error(self, field: str, message: str, /) -> None: ...  # noqa: D102
    def flag(self, value: object, path: str, /) -> bool: ...  # noqa: D102
    def number(self, value: object, path: str, meaning: str, /) -> int | None: ...  # noqa: D102
    def texts(self, value: object, path: str, /) -> list[str] | None: ...  # noqa: D102
    def text(self, fields: dict[str, Any], key: str, path: str, /) -> str | None: ...  # noqa: D102


class SettingsFields:
    """The fields of a dataclass of the model, but for its ``type``, in an object at ``path``."""

    def __init__(self, model: type[Any], path: str) -> None:
        """Take the names, types and defaults of the fields."""
        self._path = path
        self._fields: tuple[Field[Any], ...] = tuple(each for each in fields(model) if each.name != "type")
        self._types = {name: _plain_type(hint) for name, hint in get_type_hints(model).items()}
        self._known = aliases(*(each.name for each in self._fields))

    def read(self, reader: Reader, value: object) -> dict[str, Any] | None:
        """Return the fields that are there; ``None`` after adding an error to the reader."""
        given = reader.read_object(value, self._path, self._known)
        if given is None:
            return None
        plain: dict[str, Any] = {}
        for each in self._fields:
            path = f"{self._path}.{each.name}"
            if each.name in given:
                plain[each.name] = self._read(reader, given, each.name, path)
            elif each.default is MISSING:
                reader.error(path, "is required")
                return None
        return None if None in plain.values() else plain

    def _read(self, reader: Reader, given: dict[str, Any], name: str, path: str) -> object:
        if self._types[name] is bool:
            return reader.flag(given[name], path)
        if self._types[name] is int:
            return reader.number(given[name], path, "a whole number")
        if get_origin(self._types[name]) is tuple:
            return reader.texts(given[name], path)
        return reader.text(given, name, self._path)

    def write(self, model: Any) -> dict[str, Any]:
        """Return the fields that have no default, or another value."""
        return {
            each.name: list(value) if isinstance(value := getattr(model, each.name), tuple) else value
            for each in self._fields
            if each.default is MISSING or getattr(model, each.name) != each.default
        }


def aliases(*names: str) -> dict[str, str]:
    """Map every accepted spelling of a field to its name: snake_case, camelCase, and that in lower case."""
    table: dict[str, str] = {}
    for name in names:
        first, *rest = name.split("_")
        camel = first + "".join(map(str.capitalize, rest))
        table |= {name: name, camel: name, camel.lower(): name}
    return table


def _plain_type(hint: Any) -> type:
    """Return the type of the values of a field: of those that it is restricted to, if it is."""
    return type(get_args(hint)[0]) if get_origin(hint) is Literal else hint
