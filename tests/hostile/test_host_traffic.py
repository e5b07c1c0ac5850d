"""T7: whoever writes values does not get the host's traffic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from lab import Lab, addresses, ip, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


needs_tun = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened")


@pytest.fixture
def connected(lab: Lab) -> Iterator[Lab]:
    """Have a host with a gateway, a VPN and a default route."""
    gateway = lab.space("gateway")
    ip("netns", "add", gateway)
    for name, address in (("up0", "10.77.0.1/24"), ("vpn0", "10.66.0.1/24")):
        ip("link", "add", "name", name, "type", "veth", "peer", "name", name, "netns", gateway)
        ip("address", "add", address, "dev", name)
        ip("link", "set", "dev", name, "up")
        ip("-n", gateway, "link", "set", "dev", name, "up")
    ip("-n", gateway, "address", "add", "10.77.0.2/24", "dev", "up0")
    ip("route", "add", "default", "via", "10.77.0.2")
    ip("route", "add", "10.8.0.0/16", "via", "10.66.0.2")
    ip("route", "add", "169.254.169.254", "via", "10.66.0.2")
    ip("route", "add", "blackhole", "10.31.0.0/16")
    ip("route", "add", "unreachable", "10.32.0.0/16", "table", "100")
    ip("route", "add", "local", "10.37.0.0/16", "dev", "lo")
    ip("route", "add", "10.36.0.0/16", "dev", "up0", "proto", "kernel")
    ip("-6", "address", "add", "fd55::123/128", "dev", "up0", "nodad")
    ip("-6", "route", "add", "fd55::/64", "dev", "up0", "proto", "kernel")
    ip("link", "add", "name", "ptp0", "type", "bridge")
    ip("address", "add", "10.9.0.2", "peer", "10.9.0.1/32", "dev", "ptp0")
    ip("link", "set", "dev", "ptp0", "up")
    ip("route", "add", "172.20.0.0/16", "nexthop", "via", "10.66.0.2", "nexthop", "via", "10.77.0.2")
    yield lab
    ip("route", "flush", "table", "100")
    ip("route", "flush", "type", "blackhole")
    ip("route", "del", "local", "10.37.0.0/16", "dev", "lo")
    ip("link", "del", "dev", "ptp0")


def routes_of_the_host() -> set[tuple[str, ...]]:
    """Return the routes that do not belong to the one pair that takes nothing."""
    listed = [line.split() for line in ip("-4", "route", "show", "table", "all").splitlines()]
    return {tuple(word for word in line if word != "linkdown") for line in listed if "c" not in line}


TAKING = [
    *("10.77.0.9/25", "10.77.0.2/32", "1.0.0.1/1", "192.0.2.1/1", "9.9.9.9/32", "10.8.7.1/24", "172.20.3.1/30"),
    *("169.254.169.254/32", "10.9.0.1/32", "10.31.0.1/24", "10.32.0.1/24"),
    *("10.36.0.1/24", "10.37.0.1/24", "fd55::53/128"),  # routes of the kernel's own that no address covers, and AnyIP
]


def put_existing(lab: Lab, name: str, **fields: object) -> None:
    value = {"name": name, "type": "EXISTING", "enabled": True, **fields}
    lab.etcd.ctl("put", f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}", json.dumps(value))


def test_no_address_takes_a_route_of_the_host(connected: Lab) -> None:
    space = connected.space("writer")
    before = routes_of_the_host()
    connected.put(*pair("c", "d", "", space, ip_addresses=["10.1.0.1/24"]))
    connected.start_agent()
    for number, address in enumerate(TAKING):
        ends = pair(f"a{number}", f"b{number}", "", space)
        connected.put(*(end | ({"ip_addresses": [address]} if "namespace" not in end else {}) for end in ends))
    for number, address in enumerate(TAKING):
        state = connected.until_state(f"a{number}", "INVALID")
        assert state["errors"][0]["field"] == "ip_addresses[0]"
        assert f"{address} would take " in state["reason"]
        assert "--allow-host-network" in state["reason"]
    connected.until_applied("c")
    assert routes_of_the_host() == before
    for host in ("10.77.0.2", "198.51.100.1", "9.9.9.9"):
        assert " dev up0" in ip("route", "get", host)


def test_the_operator_may_allow_it_and_what_was_first_stays(connected: Lab) -> None:
    space = connected.space("writer")
    ends = pair("a", "b", "", space)
    connected.put(*(end | ({"ip_addresses": ["10.77.0.9/28"]} if "namespace" not in end else {}) for end in ends))
    connected.start_agent("--allow-host-network", "10.77.0.0/28")
    connected.until_applied("a")
    assert addresses(connected.link("a")) == ["10.77.0.9/28"]
    connected.kill_agent()
    connected.start_agent()
    connected.until_applied("a")
    connected.put(*(end | ({"ip_addresses": ["10.77.0.99/28"]} if "namespace" not in end else {}) for end in ends))
    connected.until_state("a", "INVALID")
    until(lambda: addresses(connected.link("a")) == ["10.77.0.9/28"])


def test_nor_does_one_that_its_link_has_already_elsewhere(connected: Lab) -> None:
    space, before = connected.space("writer"), routes_of_the_host()
    there, peer = connected.space("elsewhere"), veth("b", "a", space)
    connected.start_agent()
    for address in ("10.77.0.2/32", "9.9.9.9/32"):
        connected.put(veth("a", "b", there, ip_addresses=[address]), peer)
        connected.until_applied("a", "b")
        connected.put(veth("a", "b", ip_addresses=[address]))
        assert f"{address} would take " in connected.until_state("a", "INVALID")["reason"]
        assert "a" in connected.links(there)
    assert routes_of_the_host() == before


@needs_tun
def test_nor_does_one_in_a_network_of_a_link_whose_addresses_are_left_to_the_host(connected: Lab) -> None:
    space = connected.space("writer")
    ip("tuntap", "add", "dev", "vpn-1", "mode", "tap")
    connected.start_agent()
    connected.put(*(end | {"link_only": True} for end in pair("c", "d", "", space)))
    connected.put({"name": "t", "type": 1, "enabled": True, "link_only": True, "tap": {"temp_if_name": "vpn-1"}})
    connected.until_applied("c", "d", "t")
    for number, link in enumerate(("c", "t")):
        ip("address", "add", f"10.9{number}.0.1/24", "dev", link)
        taking, other = f"a{number}", f"b{number}"
        connected.put(*pair(taking, other, "", space), veth(taking, other, ip_addresses=[f"10.9{number}.0.53/32"]))
        reason = connected.until_state(taking, "INVALID")["reason"]
        assert f"would take 10.9{number}.0.1/24 of {link} from the host" in reason
        assert f" dev {link}" in ip("route", "get", f"10.9{number}.0.53")


@pytest.mark.parametrize("address", ["169.254.1.1/32", "169.254.1.2/24"])
def test_nor_does_one_that_holds_a_gateway_of_ipv4_link_local(connected: Lab, address: str) -> None:
    ip("route", "replace", "default", "via", "169.254.1.1", "dev", "up0", "onlink")
    connected.start_agent()
    connected.put(*pair("a", "b", "", connected.space("writer")), veth("a", "b", ip_addresses=[address]))
    assert "the gateway 169.254.1.1" in connected.until_state("a", "INVALID")["reason"]


@needs_tun
def test_nor_is_a_tap_adopted_that_one_of_very_many_routes_leads_out_of(connected: Lab, tmp_path: Path) -> None:
    ip("tuntap", "add", "dev", "vm-1", "mode", "tap")
    ip("link", "set", "dev", "vm-1", "up")
    many = [f"route add 10.{100 + n // 250}.{n % 250}.0/24 dev ptp0" for n in range(10_001)]
    (tmp_path / "routes").write_text("\n".join([*many, "route add 10.250.0.0/16 dev vm-1"]))
    ip("-batch", str(tmp_path / "routes"))
    connected.start_agent()
    connected.put({"name": "t", "type": 1, "enabled": True, "tap": {"temp_if_name": "vm-1"}})
    assert "routes lead out of it" in connected.until_state("t", "PENDING")["reason"]


@needs_tun
def test_nor_does_one_of_a_tap_that_was_adopted_long_ago(connected: Lab) -> None:
    ip("tuntap", "add", "dev", "vm-1", "mode", "tap")
    value = {"name": "t", "type": 1, "enabled": True, "tap": {"temp_if_name": "vm-1"}}
    connected.put(value)
    connected.start_agent()
    connected.until_applied("t")
    connected.kill_agent()
    connected.start_agent()
    connected.put(value | {"ip_addresses": ["10.77.0.2/32"]})
    assert "the gateway 10.77.0.2" in connected.until_state("t", "INVALID")["reason"]
    assert " dev up0" in ip("route", "get", "10.77.0.2")


def test_a_pattern_reaches_none_of_several_uplinks(connected: Lab) -> None:
    ip("route", "replace", "default", "nexthop", "via", "10.77.0.2", "nexthop", "via", "10.66.0.2")
    ip("route", "add", "default", "dev", "ptp0", "metric", "500")
    names, before = ("up0", "vpn0", "ptp0"), routes_of_the_host()
    connected.start_agent("--allow-existing", "*")
    for name in names:
        put_existing(connected, name, ip_addresses=["10.200.0.1/24"])
    for name in names:
        assert "keeps the host connected" in connected.until_state(name, "INVALID")["reason"]
    assert routes_of_the_host() == before


def says_of(lab: Lab, name: str, reason: str) -> bool:
    return reason in lab.state(name).get("reason", "")


def test_nor_does_one_of_an_existing_link(connected: Lab) -> None:
    ip("link", "add", "name", "free0", "type", "bridge")
    try:
        ip("link", "set", "dev", "free0", "up")
        before = routes_of_the_host()
        connected.start_agent("--allow-existing", "free0", "--allow-existing", "vpn0")
        for name, address in (("free0", "10.77.0.2/32"), ("free0", "9.9.9.9/24"), ("vpn0", "10.77.0.2/32")):
            put_existing(connected, name, ip_addresses=[address])
            until(partial(says_of, connected, name, f"{address} would take "))
        # Its own gateway, and what is behind that, is no less the host's.
        for address in ("10.66.0.2/24", "10.8.7.1/24"):
            put_existing(connected, "vpn0", ip_addresses=["10.66.0.1/24", address])
            until(partial(says_of, connected, "vpn0", f"{address} would take "))
        assert routes_of_the_host() == before
        # What it leads to already it may have.
        put_existing(connected, "vpn0", ip_addresses=["10.66.0.1/24", "10.66.0.9/24"])
        connected.until_applied("vpn0")
        put_existing(connected, "free0", ip_addresses=["10.201.0.1/24"])
        connected.until_applied("free0")
        # It stays a link of the host's, whoever gives it addresses.
        connected.put(*pair("a", "b", "", connected.space("writer")))
        connected.put(veth("a", "b", ip_addresses=["10.201.0.2/32"]))
        assert "10.201.0.1/24 of free0" in connected.until_state("a", "INVALID")["reason"]
    finally:
        ip("link", "del", "dev", "free0")
