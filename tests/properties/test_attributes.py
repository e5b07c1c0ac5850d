"""Attributes are found where they are, wherever they were in messages before."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifagent.kernel.attributes import MAX_LAYOUTS, AttributeReader, MalformedMessage

WANTED = frozenset(range(0, 12, 2))

attributes = st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.binary(max_size=9)), max_size=6)


def packed(found: list[tuple[int, bool, bytes]]) -> bytes:
    return b"".join(
        struct.pack("=HH", 4 + len(payload), kind | nested << 15) + payload + bytes(-len(payload) % 4)
        for kind, nested, payload in found
    )


@given(st.lists(attributes, max_size=20), st.binary(max_size=5), st.integers(0, 3))
def test_what_is_found_is_what_is_there(
    messages: list[list[tuple[int, bool, bytes]]], before: bytes, after: int
) -> None:
    readers = AttributeReader(), AttributeReader(WANTED)
    for message in messages:
        data = before + packed(message) + bytes(after)
        for reader in readers:
            found = reader.read(data + b"more", len(before), len(data))
            assert found == {kind: payload for kind, _, payload in message if reader is readers[0] or kind in WANTED}


@given(st.lists(st.binary(min_size=4, max_size=24), min_size=1, max_size=30))
def test_whatever_the_bytes_an_earlier_message_makes_no_difference(messages: list[bytes]) -> None:
    used = AttributeReader()
    for data in messages * 2:
        try:
            expected: dict[int, bytes] | None = AttributeReader().read(data, 0, len(data))
        except MalformedMessage:
            expected = None
        if expected is None:
            with pytest.raises(MalformedMessage):
                used.read(data, 0, len(data))
        else:
            assert used.read(data, 0, len(data)) == expected


def test_not_all_ways_to_lie_are_remembered() -> None:
    reader = AttributeReader()
    for length in range(4 * MAX_LAYOUTS):
        assert reader.read(packed([(1, False, bytes(length))]), 0, 4 + length) == {1: bytes(length)}
        assert len(reader._known) <= MAX_LAYOUTS
