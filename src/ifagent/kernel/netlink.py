"""What all netlink messages have: how they follow each other, and how the kernel acknowledges a request. Pure.

Whatever the bytes are, nothing but :class:`MalformedMessage` is raised.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ifagent.kernel.attributes import AttributeReader, MalformedMessage
from ifagent.kernel.rtnetlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    RTM_GETLINK,
    RTM_GETNSID,
    RTM_GETROUTE,
    S32,
)

_ANY: Final = AttributeReader()

MAX_ERRNO: Final = 4095
"""The kernel's own limit."""


class Message(NamedTuple):
    """The position of one message in a datagram; ``start`` to ``end`` is its payload."""

    type: int
    flags: int
    sequence: int
    start: int
    end: int


class Ack(NamedTuple):
    """The kernel's answer to one request: errno 0 is success, ``text`` its extended acknowledgement."""

    errno: int
    text: str


def split(data: bytes) -> list[Message]:
    """Return the messages in one datagram. Raises :class:`MalformedMessage`."""
    messages = []
    offset, size = 0, len(data)
    while size - offset >= HEADER.size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or length > size - offset:
            raise MalformedMessage(f"message of {length} bytes at offset {offset} of {size}")
        messages.append(Message(kind, flags, sequence, offset + HEADER.size, offset + length))
        offset += length + 3 & ~3
    if offset < size:
        raise MalformedMessage(f"{size - offset} trailing bytes")
    return messages


def parse_ack(data: bytes, message: Message) -> Ack:
    """Parse an ``NLMSG_ERROR`` or ``NLMSG_DONE``. Raises :class:`MalformedMessage`."""
    start, end = message.start, message.end
    if end - start < S32.size:
        raise MalformedMessage("acknowledgement without an error number")
    errno = -S32.unpack_from(data, start)[0]
    if errno > MAX_ERRNO:
        raise MalformedMessage(f"acknowledgement with error number {errno}")
    if errno < 0 or not message.flags & NLM_F_ACK_TLVS:
        return Ack(max(errno, 0), "")
    start += S32.size
    if message.type == NLMSG_ERROR:
        # The request's header follows, and after an error the whole request unless it was left out.
        if end - start < HEADER.size:
            raise MalformedMessage("acknowledgement without the header of its request")
        length = HEADER.unpack_from(data, start)[0]
        start += HEADER.size if message.flags & NLM_F_CAPPED or not errno else length + 3 & ~3
    return Ack(errno, text(_ANY.read(data, start, end).get(NLMSGERR_ATTR_MSG, b"")))


def text(payload: bytes) -> str:
    """Decode a string; names may be any bytes, so what is not UTF-8 is escaped."""
    return payload.partition(b"\0")[0].decode(errors="backslashreplace")


def request(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    """Return a request with sequence number 0."""
    # A dump ends with NLMSG_DONE; asking for an acknowledgement too would add a second end.
    ack = 0 if flags & NLM_F_DUMP == NLM_F_DUMP or kind in {RTM_GETLINK, RTM_GETNSID, RTM_GETROUTE} else NLM_F_ACK
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | ack | flags, 0, 0) + body
