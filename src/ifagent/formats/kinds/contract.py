"""How the fields that only interfaces of one kind have are written in each family of messages.

A kind without fields of its own needs nothing here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from ifagent.core.kinds.contract import LinkKind
from ifagent.formats.codec import Message
from ifagent.formats.fields import Reader

K = TypeVar("K", bound=LinkKind)

Found = dict[str, Any]
"""The fields of a message by their names, without those that are null."""


class KindForm(Generic[K]):
    """The form of one kind: the field of the message ``Interface`` that holds what only this kind has, and its message.

    What is read is what the model's kind has beside its ``type``: ``None`` if it is wrong, which the reader has been
    told then.
    """

    v1_field: ClassVar[str] = ""
    v1_message: ClassVar[Message | None] = None
    v3_field: ClassVar[str] = ""
    v3_message: ClassVar[Message | None] = None

    def read_v1(self, reader: Reader, found: Found) -> Found | None:  # noqa: ARG002 it has no fields
        """Read it as v1.4.1 has it."""
        return {}

    def read_v3(self, reader: Reader, found: Found) -> Found | None:  # noqa: ARG002 it has no fields
        """Read it as v3 has it."""
        return {}

    def write_v1(self, kind: K) -> Found:  # noqa: ARG002 it has no fields
        """Write what is in ``v1_field``."""
        return {}

    def write_v3(self, kind: K) -> Found:  # noqa: ARG002 it has no fields
        """Write what is in ``v3_field``."""
        return {}
