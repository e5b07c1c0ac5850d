"""Settings of tunnels are told as they were set, and as another program writes and reads them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ifagent.core.kinds import Tunnel
from ifagent.core.kinds.tunnel import FIELDS
from ifagent.core.link import LinkData
from ifagent.kernel.attributes import MalformedMessage
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.rtnetlink import IFLA_INFO_DATA

GIVEN: dict[str, dict[str, Any]] = {
    "gre": {"local": "192.0.2.1", "remote": "192.0.2.2", "ttl": 9, "tos": 4, "input_key": 7, "output_key": 0xFFFFFFFF},
    "gretap": {"remote": "192.0.2.2", "csum": True, "seq": True, "pmtudisc": False, "fwmark": 5},
    "ip6gre": {"local": "2001:db8::1", "remote": "2001:db8::2", "tos": 255, "flow_label": 0xFFFFF, "output_key": 8},
    "ip6gretap": {"remote": "2001:db8::2", "ignore_encap_limit": True, "encap_limit": 0, "hop_limit": 1},
    "ipip": {"local": "192.0.2.1", "tos": 1},
    "sit": {"remote": "192.0.2.2", "ttl": 255},
    "ip6tnl": {"remote": "2001:db8::2", "protocol": "ipip6", "flow_label": 1},
}


def whole(mode: str) -> LinkData:
    """Return all settings of a tunnel."""
    tunnel = Tunnel(mode=mode, **GIVEN[mode])  # type: ignore[arg-type]
    return tuple((name, getattr(tunnel, name)) for name in sorted(FIELDS[mode]))


@pytest.mark.parametrize("mode", GIVEN)
def test_what_is_set_is_told(mode: str) -> None:
    table = driver_of(mode).settings
    assert dict(table.decode(table.encode(whole(mode)))) == dict(whole(mode))
    for name, value in whole(mode):
        assert dict(table.decode(table.encode(((name, value),))))[name] == value


def test_pyroute2_writes_the_same_for_gre() -> None:
    message = ifinfmsg()
    data = [
        ("IFLA_GRE_LOCAL", "192.0.2.1"),
        ("IFLA_GRE_REMOTE", "192.0.2.2"),
        ("IFLA_GRE_TTL", 9),
        ("IFLA_GRE_TOS", 4),
        ("IFLA_GRE_PMTUDISC", 1),
        ("IFLA_GRE_IFLAGS", 0x2000),
        ("IFLA_GRE_OFLAGS", 0x2000),
        ("IFLA_GRE_IKEY", 7),
        ("IFLA_GRE_OKEY", 0xFFFFFFFF),
    ]
    message["attrs"] = [("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "gre"), ("IFLA_INFO_DATA", {"attrs": data})]})]
    message.encode()
    info = bytes(message.data)
    # What is behind the header of IFLA_INFO_DATA is the table's.
    start = info.index(b"gre\0") + len(b"gre\0") + 4
    assert {**dict(driver_of("gre").settings.decode(info[start:])), "fwmark": 0} == dict(whole("gre"))
    assert info[start - 2] & 0x3FFF == IFLA_INFO_DATA


def test_checksums_in_one_direction_are_neither() -> None:
    table = driver_of("gre").settings
    both = bytearray(table.encode((("csum", True),)))
    place = both.index(bytes([0x80, 0x00]))
    both[place] = 0
    assert dict(table.decode(bytes(both)))["csum"] == "one direction"


@pytest.mark.parametrize("payload", [bytes(3), bytes.fromhex("0500080001"), b"\xff" * 40])
def test_nothing_but_malformed_messages_comes_of_other_bytes(payload: bytes) -> None:
    for mode in GIVEN:
        with suppress(MalformedMessage):
            driver_of(mode).settings.decode(payload)
