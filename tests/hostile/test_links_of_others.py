"""T8 and T15: TAPs that the host uses are not adopted, and no link of others goes with one of the agent's."""

from __future__ import annotations

import os

import pytest
from lab import Lab, addresses, ip, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

needs_tun = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened")


def stolen(space: str, **tap: str) -> dict[str, object]:
    """Return a value that has somebody's TAP moved into the writer's namespace."""
    return {"name": "t", "type": 1, "enabled": True, "namespace": {"type": 2, "name": space}, "tap": tap}


@needs_tun
@pytest.mark.parametrize("use", ["address", "bridge", "route"])
def test_the_tap_of_a_vpn_is_not_taken(lab: Lab, use: str) -> None:
    space = lab.space("writer")
    ip("netns", "add", space)
    ip("tuntap", "add", "dev", "vpn0", "mode", "tap")
    ip("link", "set", "dev", "vpn0", "up")
    match use:
        case "address":
            ip("address", "add", "10.8.0.1/24", "dev", "vpn0")
        case "bridge":
            ip("link", "add", "name", "br0", "type", "bridge")
            ip("link", "set", "dev", "vpn0", "master", "br0")
        case "route":
            ip("route", "add", "10.8.0.0/24", "dev", "vpn0")
    before = lab.link("vpn0")
    lab.put(stolen(space, temp_if_name="vpn0"))
    lab.start_agent()
    reason = lab.until_state("t", "PENDING")["reason"]
    assert "is in use" in reason
    assert "--allow-tap vpn0" in reason
    assert lab.link("vpn0") == before
    lab.kill_agent()
    lab.start_agent("--allow-tap", "vpn0")
    lab.until_applied("t")
    assert "t" in lab.links(space)


@needs_tun
def test_a_tap_that_is_not_meant_for_adoption(lab: Lab) -> None:
    ip("tuntap", "add", "dev", "other", "mode", "tap")
    lab.put(stolen("", temp_if_name="other") | {"namespace": {}})
    lab.start_agent("--allow-tap", "vm-*")
    assert "adopting it is not allowed" in lab.until_state("t", "PENDING")["reason"]
    ip("link", "set", "dev", "other", "name", "vm-1")
    lab.put(stolen("", temp_if_name="vm-1") | {"namespace": {}})
    lab.until_applied("t")


def given_to(name: str) -> list[str]:
    """Return the addresses of a link of the host's, with those of the other end."""
    words = [line.split() for line in ip("-o", "-4", "address", "show", "dev", name).splitlines()]
    return [" ".join(line[3 : 6 if line[4] == "peer" else 4]) for line in words]


@needs_tun
def test_a_point_to_point_address_comes_back_with_its_other_end(lab: Lab) -> None:
    ip("tuntap", "add", "dev", "vpn0", "mode", "tap")
    ip("link", "set", "dev", "vpn0", "up")
    ip("address", "add", "10.8.0.2", "peer", "10.8.0.1/32", "dev", "vpn0")
    ip("address", "add", "10.8.1.2/24", "dev", "vpn0")
    before = given_to("vpn0")
    assert before == ["10.8.0.2 peer 10.8.0.1/32", "10.8.1.2/24"]
    lab.put(stolen(lab.space("w"), temp_if_name="vpn0"))
    lab.start_agent("--allow-tap", "vpn0")
    lab.until_applied("t")
    lab.delete("t")
    until(lambda: "vpn0" in lab.links() and given_to("vpn0") == before, what=lab.logs)


@needs_tun
def test_what_the_creator_of_a_link_only_tap_gives_it_later_stays(lab: Lab) -> None:
    ip("tuntap", "add", "dev", "vm-1", "mode", "tap")
    lab.put(stolen("", temp_if_name="vm-1") | {"namespace": {}, "host_if_name": "vm-1", "link_only": True})
    lab.start_agent()
    lab.until_applied("t")
    ip("link", "add", "name", "br0", "type", "bridge")
    ip("link", "set", "dev", "vm-1", "master", "br0", "mtu", "1400")
    ip("address", "add", "10.44.0.1/24", "dev", "vm-1")
    lab.delete("t")
    until(lambda: not lab.link("vm-1").get("ifalias") and "t" not in lab.states(), what=lab.logs)
    there = lab.link("vm-1")
    assert (given_to("vm-1"), there["master"], there["mtu"]) == (["10.44.0.1/24"], "br0", 1400)


@needs_tun
@pytest.mark.parametrize("watched", [True, False])
def test_no_bridge_gets_a_port_because_it_has_the_ifindex_of_another(lab: Lab, *, watched: bool) -> None:
    ip("tuntap", "add", "dev", "vm-1", "mode", "tap")
    ip("link", "add", "name", "br0", "type", "bridge")
    ip("link", "set", "dev", "vm-1", "master", "br0")
    lab.put(stolen(lab.space("w"), temp_if_name="vm-1"))
    lab.start_agent("--allow-tap", "vm-1")
    lab.until_applied("t")
    number = lab.link("br0")["ifindex"]
    if not watched:
        lab.kill_agent()
    ip("link", "del", "dev", "br0")
    ip("link", "add", "name", "br0" if watched else "br1", "index", str(number), "type", "bridge")
    if not watched:
        lab.start_agent("--allow-tap", "vm-1")
    lab.delete("t")
    until(lambda: "vm-1" in lab.links() and not lab.link("vm-1").get("ifalias"), what=lab.logs)
    assert "master" not in lab.link("vm-1")


UPPERS = {
    "vxlan": "name up0 type vxlan id 7 dstport 4789 group 239.1.1.1 dev a",
    "macvlan": "link a name up0 type macvlan",
    "vlan": "link a name up0 type vlan id 5",
    "macsec": "link a name up0 type macsec",
    "ipvlan": "link a name up0 type ipvlan",
    "virt_wifi": "link a name up0 type virt_wifi",
    "rmnet": "link a name up0 type rmnet mux_id 5",
    "amt": "name up0 type amt mode relay local 10.0.0.1 relay_port 2268 dev a",
    "hsr": "name up0 type hsr slave1 a slave2 c",
}


@pytest.mark.parametrize("kind", UPPERS)
def test_nothing_that_sits_on_a_link_goes_with_it(lab: Lab, kind: str) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", "", space), *pair("c", "d", "", space))
    lab.start_agent()
    lab.until_applied("a", "b", "c", "d")
    ip("link", "add", *UPPERS[kind].split(), check=False)
    if "up0" not in lab.links():
        pytest.skip(f"this kernel makes no {kind}")
    before = lab.link("up0")["ifindex"]
    lab.put(veth("a", "b", lab.space("t")))
    assert f"up0 ({kind}" in lab.until_state("a", "FAILED")["reason"]
    lab.delete("c")
    lab.delete("a")
    lab.until_state("b", "PENDING")
    assert f"up0 ({kind}" in lab.until_state("a", "FAILED")["reason"]
    assert lab.link("up0")["ifindex"] == before
    ip("link", "del", "dev", "up0")
    until(lambda: "a" not in lab.links() and "a" not in lab.states(), what=lab.logs)


def test_what_somebody_has_on_a_link_does_not_go_with_it(lab: Lab) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", "", space, ip_addresses=[]))
    lab.start_agent()
    lab.until_applied("a", "b")
    ip("link", "add", "link", "a", "name", "mv", "type", "macvlan")
    ip("address", "add", "10.5.0.1/24", "dev", "mv")
    lab.delete("a")
    reason = lab.until_state("a", "FAILED")["reason"]
    assert "mv (macvlan" in reason
    lab.until_state("b", "PENDING")
    assert addresses(lab.link("mv")) == ["10.5.0.1/24"]
    lab.put(veth("b", "c", space), veth("c", "b"))
    assert "mv (macvlan" in lab.until_state("b", "FAILED")["reason"]
    assert addresses(lab.link("mv")) == ["10.5.0.1/24"]
    ip("link", "del", "dev", "mv")
    lab.until_applied("b", "c")
    until(lambda: "a" not in lab.links() and "a" not in lab.states(), what=lab.logs)


@needs_tun
@pytest.mark.parametrize("by_way_of", ["", "own", "another"])
def test_what_root_of_a_namespace_makes_of_a_tap_does_not_reach_the_bridge_that_it_was_in(
    lab: Lab, by_way_of: str
) -> None:
    space, other = lab.space("hostile"), lab.space("other")
    ip("link", "add", "name", "br0", "type", "bridge")
    ip("link", "set", "dev", "br0", "up")
    ip("-6", "address", "add", "fd88::1/64", "dev", "br0", "nodad")
    ip("tuntap", "add", "dev", "vm0", "mode", "tap")
    ip("link", "set", "dev", "vm0", "up", "master", "br0")
    before, mac = lab.link("br0"), lab.link("vm0")["address"]
    lab.start_agent("--allow-tap", "vm0")
    value = {"name": "t", "type": 1, "enabled": True, "tap": {"temp_if_name": "vm0"}}
    there = value | {"namespace": {"type": 2, "name": space}}
    lab.put(there)
    lab.until_applied("t")
    ip("-n", space, "link", "set", "dev", "t", "mtu", "600", "address", "00:00:00:00:00:02")
    until(lambda: lab.state("t").get("mtu") == 600, what=lab.logs)
    if by_way_of:
        lab.put(value | ({"namespace": {"type": 2, "name": other}} if by_way_of == "another" else {}))
        until(lambda: "t" in lab.links(other if by_way_of == "another" else ""), what=lab.logs)
        lab.until_state("t", "APPLIED", mtu=1500)
    lab.delete("t")
    until(lambda: lab.links().get("vm0", {}).get("master") == "br0", what=lab.logs)
    after = lab.link("br0")
    assert (after["mtu"], after["address"], addresses(after)) == (before["mtu"], before["address"], addresses(before))
    assert lab.link("vm0")["address"] == mac
    ip("link", "del", "dev", "br0")
