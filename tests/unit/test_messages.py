"""Requests as pyroute2 reads them, answers as pyroute2 writes them, and bytes that nobody wrote."""

from __future__ import annotations

import errno
import struct
from contextlib import suppress
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from ifagent.core.counters import LinkCounters
from ifagent.core.link import NsId, OperState
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operation import Target
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress, DeleteLink, LinkEnd, MoveLink, SetLink
from ifagent.errors import AgentBug
from ifagent.kernel.attributes import MalformedMessage
from ifagent.kernel.messages import MAX_ALTNAMES, NsIdMessage, parse_address, parse_counters, parse_link, parse_nsid
from ifagent.kernel.netlink import Ack, Message, parse_ack, split
from ifagent.kernel.requests import assign_nsid, dump_counters, dump_links, dump_nsids, encode, get_nsid
from ifagent.kernel.rtnetlink import (
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
)

NEAR, FAR = NsId(4026531900), NsId(4026531901)
FDS = {NEAR: 11, FAR: 12}
TARGET = Target(NEAR, HostName("eth0"), 7)
MAC = "02:00:00:00:00:01"


def read(kind: type[Any], data: bytes) -> Any:
    """Let pyroute2 read one message."""
    message = kind(data)
    message.decode()
    assert message["header"]["length"] == len(data)
    return message


def attributes(message: Any) -> dict[str, Any]:
    return dict(message["attrs"])


def written(message: Any, **fields: Any) -> bytes:
    """Let pyroute2 write one message."""
    attrs = fields.pop("attrs", [])
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message["header"]["type"] = RTM_NEWLINK
    message.encode()
    return bytes(message.data)


def only(data: bytes) -> Message:
    (message,) = split(data)
    return message


# Requests


def test_a_pair_is_one_request_with_both_ends_in_place() -> None:
    near = LinkEnd(NEAR, HostName("eth0"), MAC, 1400)
    far = LinkEnd(FAR, HostName("fifteen-letters"), "02:00:00:00:00:02", 9000)
    message = read(ifinfmsg, encode(CreateLink("veth", (near, far), 4242), fds=FDS))
    assert message["header"]["type"] == RTM_NEWLINK
    assert message["header"]["flags"] == NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    own = attributes(message)
    info = attributes(own.pop("IFLA_LINKINFO"))
    assert own == {
        "IFLA_IFNAME": "eth0",
        "IFLA_NET_NS_FD": 11,
        "IFLA_GROUP": 4242,
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1400,
    }
    assert info["IFLA_INFO_KIND"] == "veth"
    peer = info["IFLA_INFO_DATA"].get_attr("VETH_INFO_PEER")
    assert attributes(peer) == {
        "IFLA_IFNAME": "fifteen-letters",
        "IFLA_NET_NS_FD": 12,
        "IFLA_GROUP": 4242,
        "IFLA_ADDRESS": "02:00:00:00:00:02",
        "IFLA_MTU": 9000,
    }
    assert (message["flags"], message["change"], peer["flags"], peer["change"]) == (0, 0, 0, 0)


def test_a_pair_keeps_the_kernels_defaults() -> None:
    end = LinkEnd(NEAR, HostName("a"), "", 0)
    own = attributes(read(ifinfmsg, encode(CreateLink("veth", (end, LinkEnd(FAR, HostName("b"), "", 0)), 0), fds=FDS)))
    assert not {"IFLA_ADDRESS", "IFLA_MTU", "IFLA_TXQLEN"} & own.keys()


@pytest.mark.parametrize(
    ("change", "expected", "flags"),
    [
        ({"up": True}, {}, (1, 1)),
        ({"up": False}, {}, (0, 1)),
        ({"mtu": 68}, {"IFLA_MTU": 68}, (0, 0)),
        ({"mac": MAC}, {"IFLA_ADDRESS": MAC}, (0, 0)),
        ({"host_name": "x"}, {"IFLA_IFNAME": "x"}, (0, 0)),
        ({"group": 2**32 - 1}, {"IFLA_GROUP": 2**32 - 1}, (0, 0)),
        ({"alias": ""}, {"IFLA_IFALIAS": ""}, (0, 0)),
        (
            {"alias": "\N{EURO SIGN}", "mtu": 1500, "up": True},
            {"IFLA_IFALIAS": "\N{EURO SIGN}", "IFLA_MTU": 1500},
            (1, 1),
        ),
    ],
)
def test_set_says_what_is_to_change_and_nothing_else(
    change: dict[str, Any], expected: dict[str, Any], flags: tuple[int, int]
) -> None:
    message = read(ifinfmsg, encode(SetLink(target=TARGET, **change), fds={}))
    assert message["header"]["flags"] == NLM_F_REQUEST | NLM_F_ACK
    assert (message["index"], attributes(message), (message["flags"], message["change"])) == (7, expected, flags)


def test_move_and_delete_name_the_link_by_index() -> None:
    message = read(ifinfmsg, encode(MoveLink(TARGET, FAR, HostName("there")), fds=FDS))
    assert (message["index"], attributes(message)) == (7, {"IFLA_NET_NS_FD": 12, "IFLA_IFNAME": "there"})
    # struct nlmsghdr, then struct ifinfomsg, as linux/netlink.h and linux/rtnetlink.h have them
    expected = struct.pack("=IHHII", 32, 17, 5, 0, 0) + struct.pack("=BxHiII", 0, 0, 7, 0, 0)
    assert encode(DeleteLink(TARGET), fds={}) == expected


@pytest.mark.parametrize(
    ("text", "family", "scope"),
    [("192.0.2.1/24", 2, 0), ("127.0.0.9/8", 2, 254), ("2001:db8::1/64", 10, 0), ("fe80::1/64", 10, 0)],
)
def test_addresses_are_written_as_ip_does(text: str, family: int, scope: int) -> None:
    interface = ip_interface(text)
    for operation, kind in ((AddAddress, RTM_NEWADDR), (DeleteAddress, RTM_DELADDR)):
        message = read(ifaddrmsg, encode(operation(TARGET, interface), fds={}))
        assert message["header"]["type"] == kind
        assert bool(message["header"]["flags"] & NLM_F_EXCL) == (kind == RTM_NEWADDR)
        fields = ("family", "prefixlen", "flags", "scope", "index")
        assert [message[name] for name in fields] == [family, interface.network.prefixlen, 0, scope, 7]
        assert attributes(message) == {"IFA_LOCAL": str(interface.ip), "IFA_ADDRESS": str(interface.ip)}


def test_namespace_ids_are_asked_for() -> None:
    assert attributes(read(nsidmsg, assign_nsid(11))) == {"NETNSA_FD": 11, "NETNSA_NSID": 2**32 - 1}
    assert attributes(read(nsidmsg, get_nsid(11))) == {"NETNSA_FD": 11}
    assert attributes(read(nsidmsg, get_nsid(11, target=3))) == {"NETNSA_FD": 11, "NETNSA_TARGET_NSID": 3}
    assert attributes(read(nsidmsg, dump_nsids(3))) == {"NETNSA_TARGET_NSID": 3}
    assert attributes(read(ifinfmsg, dump_links())) == {"IFLA_EXT_MASK": 8}


def test_what_is_not_resolved_is_never_sent() -> None:
    pending = Target(NEAR, HostName("eth0"))
    far = LinkEnd(named("b"), HostName("b"), "", 0)
    for operation in (
        DeleteLink(pending),
        AddAddress(pending, ip_interface("192.0.2.1/24")),
        SetLink(target=pending, up=True),
        MoveLink(TARGET, NsId(1), HostName("x")),
        CreateLink("veth", (LinkEnd(NEAR, HostName("a"), "", 0), far), 0),
    ):
        with pytest.raises(AgentBug):
            encode(operation, fds=FDS)


# Answers


def link_bytes(**fields: Any) -> bytes:
    attrs = [["IFLA_IFNAME", "eth0"], *fields.pop("attrs", [])]
    return written(ifinfmsg(), **{"family": 0, "index": 7, "flags": 0, "change": 0, **fields}, attrs=attrs)


def test_a_link_is_read() -> None:
    attrs = [
        ["IFLA_TXQLEN", 1000],
        ["IFLA_OPERSTATE", "LOWERLAYERDOWN"],
        ["IFLA_MTU", 1400],
        ["IFLA_GROUP", 2**32 - 1],
        ["IFLA_CARRIER", 1],
        ["IFLA_ADDRESS", MAC],
        ["IFLA_IFALIAS", "ifagent/a/b"],
        ["IFLA_MASTER", 5],
        ["IFLA_MIN_MTU", 68],
        ["IFLA_MAX_MTU", 65535],
        ["IFLA_LINK", 8],
        ["IFLA_LINK_NETNSID", 0],
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"]]}],
    ]
    data = link_bytes(flags=1, attrs=attrs)
    link = parse_link(data, only(data))
    assert link is not None
    assert link._asdict() == {
        "ifindex": 7,
        "host_name": "eth0",
        "kind": "veth",
        "mac": MAC,
        "mtu": 1400,
        "up": True,
        "carrier": True,
        "operstate": OperState.LOWERLAYERDOWN,
        "group": 2**32 - 1,
        "alias": "ifagent/a/b",
        "master": 5,
        "link_ifindex": 8,
        "link_nsid": 0,
        "min_mtu": 68,
        "max_mtu": 65535,
        "data": (),
        "port": (),
        "altnames": (),
    }


def test_only_altnames_that_can_be_host_names_are_told_and_not_too_many() -> None:
    def properties(*names: str) -> list[Any]:
        return [["IFLA_PROP_LIST", {"attrs": [["IFLA_ALT_IFNAME", name] for name in names]}]]

    fifteen, longer = "n" * 15, "n" * 16
    data = link_bytes(attrs=properties(longer, "one", fifteen, "two"))
    link = parse_link(data, only(data))
    assert link is not None
    assert link.altnames == ("one", fifteen, "two")
    data = link_bytes(attrs=properties(*(f"n{number}" for number in range(2 * MAX_ALTNAMES))))
    link = parse_link(data, only(data))
    assert link is not None
    assert link.altnames == tuple(f"n{number}" for number in range(MAX_ALTNAMES))


@pytest.mark.parametrize("broken", [b"\3\0\x35\0", b"\x09\0\x35\0abcd", b"\x35\0\0\0"])
def test_altnames_that_are_cut_off(broken: bytes) -> None:
    data = link_bytes(attrs=[["IFLA_PROP_LIST", {"attrs": [["IFLA_ALT_IFNAME", "abc"]]}]])
    data = data.replace(b"\x08\0\x35\0abc\0", (broken + bytes(8))[:8])
    with pytest.raises(MalformedMessage):
        parse_link(data, only(data))


def test_the_lower_link_of_a_vlan_is_told_as_a_peer_is() -> None:
    attrs = [["IFLA_LINK", 8], ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "vlan"]]}]]
    data = link_bytes(attrs=attrs)
    link = parse_link(data, only(data))
    assert link is not None
    assert (link.kind, link.link_ifindex, link.link_nsid) == ("vlan", 8, None)


@pytest.mark.parametrize(
    ("kind", "below"), [("vxlan", {3: 8}), ("amt", {4: 8}), ("hsr", {1: 8, 2: 9}), ("hsr", {2: 8}), ("bridge", {})]
)
def test_the_lower_link_of_others_is_told_among_what_is_their_own(kind: str, below: dict[int, int]) -> None:
    def attribute(number: int, payload: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(payload), number) + payload + bytes(-len(payload) % 4)

    own = b"".join(attribute(number, struct.pack("=I", ifindex)) for number, ifindex in below.items())
    data = link_bytes(attrs=[]) + attribute(18, attribute(1, kind.encode() + b"\0") + attribute(2, own))
    data = struct.pack("=I", len(data)) + data[4:]
    link = parse_link(data, only(data))
    assert link is not None
    assert (link.kind, link.link_ifindex) == (kind, 8 if below else 0)


def test_a_message_that_is_not_about_a_link_as_such_is_passed_over() -> None:
    for data in (link_bytes(family=7), link_bytes(attrs=[["IFLA_WIRELESS", b"1234"]])):
        assert parse_link(data, only(data)) is None


def test_a_name_may_be_any_bytes() -> None:
    data = link_bytes().replace(b"eth0", b"\xff\xfe!x")
    link = parse_link(data, only(data))
    assert link is not None
    assert link.host_name == "\\xff\\xfe!x"


@pytest.mark.parametrize(
    ("family", "attrs", "interface", "flags", "automatic"),
    [
        (2, [["IFA_ADDRESS", "192.0.2.1"], ["IFA_LOCAL", "192.0.2.1"]], "192.0.2.1/24", 0x80, False),
        (2, [["IFA_ADDRESS", "192.0.2.9"], ["IFA_LOCAL", "192.0.2.1"]], "192.0.2.1/24", 0x80, False),
        (10, [["IFA_ADDRESS", "2001:db8::1"], ["IFA_FLAGS", 0x8C0]], "2001:db8::1/24", 0x8C0, False),
        (10, [["IFA_ADDRESS", "fe80::1"], ["IFA_PROTO", 3]], "fe80::1/24", 0x80, True),
    ],
)
def test_an_address_is_read(family: int, attrs: list[Any], interface: str, flags: int, automatic: bool) -> None:
    data = written(ifaddrmsg(), family=family, prefixlen=24, flags=0x80, scope=0, index=7, attrs=attrs)
    message = parse_address(data, only(data))
    assert message is not None
    address = message.address
    assert (message.ifindex, str(address.interface), address.flags) == (7, interface, flags)
    assert address.made_by_kernel == automatic


def test_a_kernel_that_does_not_tell_the_maker_is_helped() -> None:
    for text, prefix, automatic in (("fe80::1", 64, True), ("fe80::1", 128, False), ("2001:db8::1", 64, False)):
        attrs = [["IFA_ADDRESS", text]]
        data = written(ifaddrmsg(), family=10, prefixlen=prefix, flags=0, scope=0, index=7, attrs=attrs)
        message = parse_address(data, only(data), has_ifa_proto=False)
        assert message is not None
        assert message.address.made_by_kernel == automatic


def test_namespace_ids_are_read() -> None:
    data = written(nsidmsg(), attrs=[["NETNSA_NSID", 3], ["NETNSA_CURRENT_NSID", 2**32 - 1]])
    assert parse_nsid(data, only(data)) == NsIdMessage(3, -1)


REQUEST = encode(DeleteLink(TARGET), fds={})
TEXT = struct.pack("=HH", 4 + 9, 1) + b"no way!!\0" + bytes(3)
OFFSET = struct.pack("=HHI", 8, 2, 40)


LINK_STATS = struct.Struct("=25Q")


def counted(ifindex: int, *counts: int, flag: int = 0) -> bytes:
    body = struct.pack("=BxxxII", 0, ifindex, 1)
    stats = LINK_STATS.pack(*counts, *[99] * (25 - len(counts)))
    body += struct.pack("=HH", 4 + len(stats), 1 | flag) + stats
    return struct.pack("=IHHII", 16 + len(body), 92, 0, 1, 0) + body


def test_counters_are_asked_for_by_one_bit() -> None:
    data = dump_counters()
    assert struct.unpack("=IHHII", data[:16]) == (28, 94, 0x301, 0, 0)
    assert data[16:] == struct.pack("=BxxxII", 0, 0, 1)


@pytest.mark.parametrize("flag", [0, 0x8000])
def test_counters_are_read(flag: int) -> None:
    data = counted(7, *range(1, 9), flag=flag)
    assert parse_counters(data, only(data)) == (
        7,
        LinkCounters(
            in_packets=1,
            out_packets=2,
            in_bytes=3,
            out_bytes=4,
            in_errors=5,
            out_errors=6,
            in_dropped=7,
            out_dropped=8,
        ),
    )


@pytest.mark.parametrize("size", [16 + 11, 16 + 12, 16 + 12 + 4 + 63])
def test_counters_that_are_cut_off_are_refused(size: int) -> None:
    data = bytearray(counted(7))[:size]
    data[0:4] = struct.pack("=I", size)
    if size > 32:
        data[28:30] = struct.pack("=H", size - 28)
    with pytest.raises(MalformedMessage):
        parse_counters(bytes(data), Message(92, 0, 1, 16, size))


def acked(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (acked(NLMSG_ERROR, NLM_F_CAPPED, struct.pack("=i", 0) + REQUEST[:16]), Ack(0, "")),
        (
            acked(
                NLMSG_ERROR,
                NLM_F_CAPPED | NLM_F_ACK_TLVS,
                struct.pack("=i", -errno.EINVAL) + REQUEST[:16] + OFFSET + TEXT,
            ),
            Ack(errno.EINVAL, "no way!!"),
        ),
        (
            acked(NLMSG_ERROR, NLM_F_ACK_TLVS, struct.pack("=i", -errno.EINVAL) + REQUEST + TEXT),
            Ack(errno.EINVAL, "no way!!"),
        ),
        (acked(NLMSG_ERROR, NLM_F_ACK_TLVS, struct.pack("=i", 0) + REQUEST[:16] + TEXT), Ack(0, "no way!!")),
        (acked(NLMSG_DONE, NLM_F_ACK_TLVS, struct.pack("=i", -errno.EPERM) + TEXT), Ack(errno.EPERM, "no way!!")),
        (acked(NLMSG_DONE, 0, struct.pack("=i", 0)), Ack(0, "")),
    ],
)
def test_an_acknowledgement_is_read_with_its_text(data: bytes, expected: Ack) -> None:
    assert parse_ack(data, only(data)) == expected


# Bytes that nobody wrote

SAMPLES = [
    link_bytes(
        attrs=[
            ["IFLA_MTU", 1400],
            ["IFLA_ADDRESS", MAC],
            ["IFLA_LINK", 8],
            ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"]]}],
        ]
    ),
    written(ifaddrmsg(), family=2, prefixlen=24, flags=0, scope=0, index=7, attrs=[["IFA_LOCAL", "192.0.2.1"]]),
    written(ifaddrmsg(), family=10, prefixlen=64, flags=0, scope=0, index=7, attrs=[["IFA_ADDRESS", "fe80::1"]]),
    written(nsidmsg(), attrs=[["NETNSA_NSID", 3], ["NETNSA_CURRENT_NSID", 2**32 - 1]]),
    acked(NLMSG_ERROR, NLM_F_ACK_TLVS, struct.pack("=i", -errno.EINVAL) + REQUEST + TEXT),
]


def read_anything(data: bytes) -> None:
    """Read bytes as everything they could be; nothing but the one error may come out."""
    try:
        messages = split(data)
    except MalformedMessage:
        return
    for message in messages:
        for parse in (parse_link, parse_address, parse_counters, parse_nsid, parse_ack):
            with suppress(MalformedMessage):
                parse(data, message)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    read_anything(data)
    read_anything(struct.pack("=IHHII", 16 + len(data), RTM_DELLINK, 0x200, 0, 0) + data)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=6),
    st.integers(0, 60),
)
def test_damaged_messages_are_refused_or_read(data: bytes, damage: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data)
    for at, value in damage:
        damaged[at % len(damaged)] = value
    read_anything(bytes(damaged))
    shorter = damaged[: max(16, len(damaged) - cut)]
    struct.pack_into("=I", shorter, 0, len(shorter))  # the header agrees, the attributes do not
    read_anything(bytes(shorter))


def test_an_error_number_that_is_none_is_refused() -> None:
    """No number above has a text, and one of 32 bits is not even looked up."""
    for number in (-4096, -(2**31)):
        data = acked(NLMSG_ERROR, 0, struct.pack("=i", number) + REQUEST)
        with pytest.raises(MalformedMessage):
            parse_ack(data, only(data))


@pytest.mark.parametrize("name", [b"\0ab\0", b"\0\0\0\0"])
def test_a_link_without_a_name_is_refused(name: bytes) -> None:
    data = link_bytes().replace(b"eth0", name)
    with pytest.raises(MalformedMessage, match="link without a name"):
        parse_link(data, only(data))


def test_a_short_payload_is_refused_and_not_taken_for_zero() -> None:
    for data in (acked(RTM_NEWLINK, 0, b"1234"), acked(RTM_NEWLINK, 0, bytes(16) + struct.pack("=HH", 5, 4) + b"1")):
        with pytest.raises(MalformedMessage):
            parse_link(data, only(data))
