"""The attributes of a netlink message: how they are written, and found in one step where they have been before. Pure.

Attributes follow each other, each with a header of its length and type, and a link message has some sixty. Walking
from one to the next in Python costs more than all the rest, but where one message's attributes are, those of the next
one of that kind and size usually are too. So an :class:`AttributeReader` remembers where they were. If the headers at
these positions are the same, a walk would go the same way, and all wanted payloads are extracted at once.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Container, Iterator
from struct import Struct
from typing import Final, NamedTuple

from ifagent.kernel.rtnetlink import ATTRIBUTE, NLA_F_NESTED, NLA_TYPE_MASK

_ALL: Final = range(NLA_TYPE_MASK + 1)

_HEADER: Final = Struct("=I")
"""Both numbers of an attribute's header in one."""

MAX_LAYOUTS: Final = 256
"""Most layouts that one reader remembers."""


class MalformedMessage(OSError):
    """A message violates the format; ``errno`` is ``EBADMSG``."""

    def __init__(self, text: str) -> None:
        """``text`` says what is wrong."""
        super().__init__(errno.EBADMSG, text)


UNREADABLE: Final = (MalformedMessage, ValueError, struct.error)
"""What parsing bytes may raise that somebody in a namespace had influence on."""


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded to the next one."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, attributes: bytes) -> bytes:
    """Return an attribute that contains attributes; Linux 7 requires the flag that says so."""
    return attribute(kind | NLA_F_NESTED, attributes)


def string(kind: int, text: str) -> bytes:
    """Return an attribute that contains a text."""
    return attribute(kind, text.encode() + b"\0")


class _Layout(NamedTuple):
    """Where attributes are: all headers, their expected contents, and the wanted payloads with their types."""

    headers: Struct
    expected: tuple[int, ...]
    payloads: Struct
    types: tuple[int, ...]


class AttributeReader:
    """Finds the payloads of attributes. May be used by several threads."""

    def __init__(self, wanted: Container[int] = _ALL) -> None:
        """``wanted`` are types of attributes without flag bits; all unless given."""
        self._wanted = wanted
        self._known: dict[tuple[int, bytes], _Layout] = {}

    def read(self, data: bytes, offset: int, end: int) -> dict[int, bytes]:
        """Return the payloads of the wanted attributes between two offsets, by type without its flag bits.

        Of several with one type the last one counts. Raises :class:`MalformedMessage`.
        """
        if end - offset < ATTRIBUTE.size:
            return {}
        key = end - offset, data[offset : offset + ATTRIBUTE.size]
        layout = self._known.get(key)
        if layout is None or layout.headers.unpack_from(data, offset) != layout.expected:
            layout = self._walk(data, offset, end)
            if len(self._known) >= MAX_LAYOUTS:
                self._known.clear()
            self._known[key] = layout
        return dict(zip(layout.types, layout.payloads.unpack_from(data, offset), strict=True))

    def _walk(self, data: bytes, offset: int, end: int) -> _Layout:
        headers, payloads = ["="], ["="]
        expected: list[int] = []
        types: list[int] = []
        taken = start = offset
        while end - offset >= ATTRIBUTE.size:
            length, kind = ATTRIBUTE.unpack_from(data, offset)
            if length < ATTRIBUTE.size or offset + length > end:
                raise MalformedMessage(f"attribute {kind} of {length} bytes")
            headers.append(f"{offset - start}xI")
            start = offset + ATTRIBUTE.size
            expected += _HEADER.unpack_from(data, offset)
            kind &= NLA_TYPE_MASK
            if kind in self._wanted:
                payloads.append(f"{start - taken}x{length - ATTRIBUTE.size}s")
                taken = offset + length
                types.append(kind)
            offset += length + 3 & ~3
        return _Layout(Struct("".join(headers)), tuple(expected), Struct("".join(payloads)), tuple(types))


def each_payload(list_: bytes, type_: int) -> Iterator[bytes]:
    """Yield the payload of every attribute of one type, of which an :class:`AttributeReader` returns the last only.

    Raises :class:`MalformedMessage`.
    """
    offset = 0
    while len(list_) - offset >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(list_, offset)
        if length < ATTRIBUTE.size or offset + length > len(list_):
            raise MalformedMessage(f"attribute {kind} of {length} bytes")
        if kind & NLA_TYPE_MASK == type_:
            yield list_[offset + ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
