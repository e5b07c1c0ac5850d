"""Answers of the store are decoded only if the result takes little memory.

Two bytes on the wire may become an object of a hundred bytes in memory, an empty key for example: an answer within
``max_answer_bytes`` (:class:`ifagent.stores.etcd.limits.Limits`), which grpc enforces, may take fifty times its size
once decoded, more than the agent may use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

SMALL: Final = 4 << 20
"""Bytes up to which any answer is decoded: in the worst case that takes some 200 MiB for a moment."""

FLAT: Final = frozenset({"/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"})
"""Methods whose answers may be larger: lists of keys or events. Those of a healthy store to others are small."""

LEAST_BYTES: Final = 32
"""Smallest average size, in bytes, of a key or an event in a large answer; a key of ligato's alone is longer."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Decode = Callable[[bytes], Any]


class TooManyParts(ValueError):
    """Decoding an answer would take too much memory."""


class GuardedChannel:
    """A grpc channel, as far as generated stubs use it, that refuses to decode answers that need too much memory.

    For such an answer grpc returns ``None``.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def unary_unary(self, method: str, *, response_deserializer: Decode, **options: Any) -> Any:
        """Make a call with one request and one answer."""
        return self._channel.unary_unary(
            method, response_deserializer=_guarded(method, response_deserializer), **options
        )

    def stream_stream(self, method: str, *, response_deserializer: Decode, **options: Any) -> Any:
        """Make a call with streams of requests and answers."""
        return self._channel.stream_stream(
            method, response_deserializer=_guarded(method, response_deserializer), **options
        )


def _guarded(method: str, decode: Decode) -> Decode:
    def decode_if_fit(data: bytes) -> Any:
        if len(data) > SMALL:
            if method not in FLAT:
                raise TooManyParts(f"answer to {method} has {len(data)} bytes")
            check_parts(data)
        return decode(data)

    return decode_if_fit


def check_parts(data: bytes) -> None:
    """Raise :class:`TooManyParts` for a message with very many fields for its size, or that cannot be decoded."""
    at, parts, size = 0, 0, len(data)
    try:
        while at < size:
            parts += 1
            if parts * LEAST_BYTES > at + SMALL:
                raise TooManyParts(f"{parts} fields in {at} bytes")
            kind, at = _varint(data, at)
            kind &= 7
            if kind == _BYTES:
                length, at = _varint(data, at)
                at += length
            elif kind == _VARINT:
                _, at = _varint(data, at)
            elif kind in {_FIXED32, _FIXED64}:
                at += 4 if kind == _FIXED32 else 8
            else:
                raise TooManyParts("a group, which etcd does not send")
    except IndexError:
        raise TooManyParts("truncated message") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it. Raises ``IndexError`` where there is none."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise TooManyParts("a number that is too long")
