"""How the fields that only one kind of interface has are written in each format.

A kind without fields of its own needs no module here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from ifagent.core.kinds.contract import LinkKind
from ifagent.formats.codec import Message
from ifagent.formats.fields import ValueReader

K = TypeVar("K", bound=LinkKind)

Found = dict[str, Any]
"""The fields of a message by their names, without those that are null."""


class KindForm(Generic[K]):
    """The form of one kind: the field of the message ``Interface`` with this kind's own fields, and its message.

    The read methods return the fields of the model's kind without its ``type``, or ``None`` after adding an error to
    the reader.
    """

    v1_field: ClassVar[str] = ""
    v1_message: ClassVar[Message | None] = None
    v3_field: ClassVar[str] = ""
    v3_message: ClassVar[Message | None] = None

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
