"""The messages that put ports into VLANs, and tell of them."""

from __future__ import annotations

import struct

import pytest

from ifagent.kernel.attributes import MalformedMessage, attribute, nested
from ifagent.kernel.bridge_vlans import dump_port_vlans, parse_port_vlans, set_port_vlans
from ifagent.kernel.netlink import split
from ifagent.kernel.rtnetlink import AF_BRIDGE, HEADER, IFINFO, IFLA_AF_SPEC, RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK

PVID_UNTAGGED = 6
BEGIN, END = 8, 16


def told(*infos: tuple[int, int], family: int = AF_BRIDGE, spec: bool = True) -> bytes:
    """Return a message of the kernel's about port 5, with VLANs as (flags, id)."""
    body = IFINFO.pack(family, 0, 5, 0, 0)
    if spec:
        body += nested(IFLA_AF_SPEC, b"".join(attribute(2, struct.pack("=HH", *info)) for info in infos))
    return HEADER.pack(HEADER.size + len(body), RTM_NEWLINK, 0, 0, 0) + body


def parsed(data: bytes) -> object:
    (message,) = split(data)
    return parse_port_vlans(data, message)


def test_what_the_kernel_tells() -> None:
    data = told((PVID_UNTAGGED, 1), (BEGIN, 20), (END, 30), (4, 40))
    assert parsed(data) == (5, ("1 pvid untagged", "20-30", "40 untagged"))
    assert parsed(told()) == parsed(told(spec=False)) == (5, ())
    assert parsed(told((0, 7), family=0)) is None


def test_what_is_set_is_told_alike_and_all_others_are_taken_away() -> None:
    wanted = ("10 pvid untagged", "20-29", "4094")
    add, take = set_port_vlans(5, wanted)
    assert [HEADER.unpack_from(each)[1] for each in (add, take)] == [RTM_SETLINK, RTM_DELLINK]
    assert parsed(add) == (5, wanted)
    assert parsed(take) == (5, ("1-9", "11-19", "30-4093"))
    (only,) = set_port_vlans(5, ())
    assert (HEADER.unpack_from(only)[1], parsed(only)) == (RTM_DELLINK, (5, ("1-4094",)))
    (all_of_them,) = set_port_vlans(5, ("1-4094",))
    assert HEADER.unpack_from(all_of_them)[1] == RTM_SETLINK


def test_a_dump_is_asked_for_the_bridges_family() -> None:
    assert IFINFO.unpack_from(dump_port_vlans(), HEADER.size)[0] == AF_BRIDGE


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(HEADER.size, RTM_NEWLINK, 0, 0, 0),
        HEADER.pack(HEADER.size + IFINFO.size + 8, RTM_NEWLINK, 0, 0, 0)
        + IFINFO.pack(AF_BRIDGE, 0, 5, 0, 0)
        + nested(IFLA_AF_SPEC, attribute(2, b"")),
    ],
)
def test_what_is_no_such_message_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parsed(data)
