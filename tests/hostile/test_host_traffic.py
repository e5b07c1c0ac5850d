"""T7: whoever writes values does not get the host's traffic."""

from __future__ import annotations

import pytest
from lab import Lab, addresses, ip, pair, until

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


@pytest.fixture
def connected(lab: Lab) -> Lab:
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
    ip("route", "add", "172.20.0.0/16", "nexthop", "via", "10.66.0.2", "nexthop", "via", "10.77.0.2")
    return lab


def routes_of_the_host() -> set[tuple[str, ...]]:
    """Return the routes that do not belong to the one pair that takes nothing."""
    listed = [line.split() for line in ip("-4", "route", "show", "table", "all").splitlines()]
    return {tuple(word for word in line if word != "linkdown") for line in listed if "c" not in line}


TAKING = ["10.77.0.9/25", "10.77.0.2/32", "0.0.0.1/1", "192.0.2.1/1", "9.9.9.9/32", "10.8.7.1/24", "172.20.3.1/30"]


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
