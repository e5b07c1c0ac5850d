"""What an agent remembers, written and read again."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface

import pytest

from ifagent.core.link import LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.remembered import Adoption, Remembered, TapAddress
from ifagent.errors import BrokenFile
from ifagent.formats.remembered import parse_remembered, remembered_to_json

ADOPTION = Adoption(
    name="t",
    host_name=HostName("tap0"),
    mac="06:00:00:00:00:01",
    mtu=1500,
    keeps_mtu=True,
    up=True,
    alias="vm 5",
    master=3,
    master_name="br0",
    addresses=(
        TapAddress(ip_interface("10.8.0.2/32"), ip_address("10.8.0.1")),
        TapAddress(ip_interface("10.8.0.2/32"), ip_address("10.8.0.9")),
        TapAddress(ip_interface("10.44.0.1/24")),
        TapAddress(ip_interface("fd00::2/128"), ip_address("fd00::1")),
    ),
    leaves_addresses=True,
    link=LinkId(NsId(100), 7),
    cookie=5,
    moving_to=named("ns1"),
)


def test_what_is_remembered_is_read_as_it_was_written() -> None:
    remembered = Remembered({"t": ADOPTION}, {"ns1": NsId(100), "ns2": None})
    written = json.loads(json.dumps(remembered_to_json(remembered)))
    assert written["adoptions"][0]["addresses"][:3] == [
        "10.8.0.2/32 peer 10.8.0.1",
        "10.8.0.2/32 peer 10.8.0.9",
        "10.44.0.1/24",
    ]
    assert parse_remembered(written, "file") == remembered


def test_what_an_older_agent_has_written() -> None:
    written = {"name": "t", "host_name": "tap0", "master": 3, "addresses": ["10.44.0.1/24"], "link": [100, 7]}
    [adoption] = parse_remembered({"adoptions": [written], "namespaces": {}}, "file").adoptions.values()
    assert adoption == Adoption(
        name="t",
        host_name=HostName("tap0"),
        master=3,
        addresses=(TapAddress(ip_interface("10.44.0.1/24")),),
        link=LinkId(NsId(100), 7),
    )


@pytest.mark.parametrize("addresses", [["x"], ["10.8.0.2/32 peer x"], ["10.8.0.2/32 peer 10.8.0.1 peer 10.8.0.1"], 7])
def test_what_is_no_address(addresses: object) -> None:
    written = {"name": "t", "host_name": "tap0", "addresses": addresses}
    with pytest.raises(BrokenFile, match="addresses"):
        parse_remembered({"adoptions": [written], "namespaces": {}}, "file")
