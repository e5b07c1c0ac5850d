"""How the fields that only one kind of interface has are written in each format.

Most kinds have the same fields in both families, under the same names: :class:`SettingsForm`.

A kind without fields of its own needs no module here.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ifagent.core.kinds.contract import LinkKind
from ifagent.formats.codec import Message
from ifagent.formats.fields import ValueReader
from ifagent.formats.settings import SettingsFields

K = TypeVar("K", bound=LinkKind)

Found = dict[str, Any]
"""The fields of a message by their names, without those that are null."""


class KindForm(Generic[K]):
    """The form of one kind: the field of the message ``Interface`` with this kind's own fields, and its message.

    The read methods return the fields of the model's kind without its ``type``, or ``None`` after adding an error to
    the reader.
    """

    v1_field: str = ""
    v1_message: Message | None = None
    v3_field: str = ""
    v3_message: Message | None = None

    def read_v1(self, reader: ValueReader, found: Found) -> Found | None:  # noqa: ARG002 it has no fields
        """Read the kind's fields from a v1.4.1 message."""
        return {}

    def read_v3(self, reader: ValueReader, found: Found) -> Found | None:  # noqa: ARG002 it has no fields
        """Read the kind's fields from a v3 message."""
        return {}

    def write_v1(self, kind: K) -> Found:  # noqa: ARG002 it has no fields
        """Return the content of ``v1_field``."""
        return {}

    def write_v3(self, kind: K) -> Found:  # noqa: ARG002 it has no fields
        """Return the content of ``v3_field``."""
        return {}


class SettingsForm(KindForm[K]):
    """The fields of the model's kind under their own names, in one field of the message, in both families."""

    def __init__(self, kind: type[K], *, field: str, v1: Message, v3: Message) -> None:
        """``field`` is that of both messages ``Interface``, ``v1`` and ``v3`` are what it contains."""
        self.v1_field: str = field
        self.v3_field: str = field
        self.v1_message: Message | None = v1
        self.v3_message: Message | None = v3
        self._settings = SettingsFields(kind, field)

    def read_v1(self, reader: ValueReader, found: Found) -> Found | None:
        """Read the fields."""
        return self._settings.read(reader, found.get(self.v1_field))

    def read_v3(self, reader: ValueReader, found: Found) -> Found | None:
        """Read the fields."""
        return self._settings.read(reader, found.get(self.v3_field))

    def write_v1(self, kind: K) -> Found:
        """Return the fields that have no default, or another value."""
        return self._settings.write(kind)

    def write_v3(self, kind: K) -> Found:
        """Return the fields that have no default, or another value."""
        return self._settings.write(kind)
