"""T1: root of one namespace forges the agent's marks; nothing crosses the namespace's border because of them."""

from __future__ import annotations

import os
import subprocess

import pytest
from lab import Lab, addresses, ip, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

needs_tun = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened")
FORGED_MAC = "02:66:6f:72:67:64"


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


def forge_tap(space: str, host_name: str, alias: str) -> None:
    """Make a TAP as root of a namespace can, with an alias of his choice."""
    ip("-n", space, "tuntap", "add", "dev", host_name, "mode", "tap")
    ip("-n", space, "link", "set", "dev", host_name, "address", FORGED_MAC, "alias", alias)
    ip(
        "-n", space, "link", "set", "dev", host_name, "up"
    )  # of the alias of a link that is down the kernel tells nobody


def is_anywhere_but(lab: Lab, home: str, *spaces: str) -> bool:
    """Tell whether the forger's link has come out of its namespace."""
    elsewhere = [*lab.links().values(), *(link for space in spaces for link in lab.links(space).values())]
    return any(link["address"] == FORGED_MAC for link in elsewhere) or all(
        link["address"] != FORGED_MAC for link in lab.links(home).values()
    )


def a_round_later(lab: Lab, mtu: int) -> None:
    """Wait until the agent has certainly heard of everything that was done until now."""
    lab.put(*pair("fence-a", "fence-b", mtu=mtu))
    lab.until_state("fence-a", "APPLIED", mtu=mtu)


@needs_tun
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("named", ["docker0", "nothing"])
def test_a_forged_tap_is_not_given_back(lab: Lab, named: str, restarted: bool) -> None:
    space = lab.space("hostile")
    lab.put(*pair("a", "b", "", space))
    lab.start_agent()
    lab.until_applied("a", "b")
    if restarted:
        lab.kill_agent()
    forge_tap(space, "tap9", f"ifagent-tap/{lab.label}/{named}/02:00:00:00:00:01/1500/gone")
    if restarted:
        lab.start_agent()
    until(lambda: not lab.link("tap9", space).get("ifalias"), what=lab.logs)
    a_round_later(lab, 1400)
    assert not is_anywhere_but(lab, space)


@needs_tun
def test_a_forged_tap_is_not_taken_for_that_of_another_tenant(running: Lab) -> None:
    hostile, tenant = running.space("hostile"), running.space("tenant")
    wanted = {
        "name": "vm1",
        "type": 1,
        "enabled": True,
        "ip_addresses": ["10.0.0.1/24"],
        "tap": {"temp_if_name": "vm1"},
    }
    running.put(*pair("a", "b", "", hostile), wanted | {"namespace": {"type": 2, "name": tenant}})
    running.until_applied("a", "b")
    running.until_state("vm1", "PENDING")
    forge_tap(hostile, "vm1", f"ifagent-tap/{running.label}/vm1/{FORGED_MAC}/1500/vm1")
    until(lambda: not running.link("vm1", hostile).get("ifalias"), what=running.logs)
    a_round_later(running, 1400)
    assert running.state("vm1")["config_state"] == "PENDING"
    assert not is_anywhere_but(running, hostile, *({tenant} & running.spaces()))
    ip("tuntap", "add", "dev", "vm1", "mode", "tap")
    running.until_applied("vm1")
    assert addresses(running.link("vm1", tenant)) == ["10.0.0.1/24"]


@needs_tun
def test_a_tap_put_in_the_place_of_an_adopted_one_is_not_given_back(running: Lab) -> None:
    space = running.space("hostile")
    ip("tuntap", "add", "dev", "made", "mode", "tap")
    running.put({"name": "t", "type": 1, "tap": {"temp_if_name": "made"}, "namespace": {"type": 2, "name": space}})
    running.until_applied("t")
    link = running.link("t", space)
    ip("-n", space, "link", "del", "dev", "t")
    forge_tap(space, "t", link["ifalias"])
    a_round_later(running, 1400)
    running.delete("t")
    until(lambda: not running.state("t"), what=running.logs)
    a_round_later(running, 1300)
    assert not is_anywhere_but(running, space)


@needs_tun
def test_a_tap_without_a_name_in_its_mark_is_not_adopted_in_a_namespace(running: Lab) -> None:
    space = running.space("hostile")
    running.put(*pair("a", "b", "", space))
    running.until_applied("a", "b")
    forge_tap(space, "t", "")
    ip("-n", space, "link", "set", "dev", "t", "group", str(running.link("b", space)["group"]))
    a_round_later(running, 1400)
    running.put({"name": "t", "type": 1, "tap": {"temp_if_name": "made"}, "namespace": {"type": 2, "name": space}})
    running.until_state("t", "PENDING")
    if "t" in running.links(space):
        ip("-n", space, "link", "set", "dev", "t", "group", "0")
    running.delete("t")
    until(lambda: not running.state("t"), what=running.logs)
    a_round_later(running, 1300)
    assert FORGED_MAC not in {link["address"] for link in running.links().values()}


@needs_tun
def test_an_adopted_tap_is_given_back_whatever_group_it_is_in(running: Lab) -> None:
    space = running.space("hostile")
    ip("tuntap", "add", "dev", "made", "mode", "tap")
    tap = {"name": "t", "type": 1, "tap": {"temp_if_name": "made"}, "namespace": {"type": 2, "name": space}}
    running.put(*pair("a", "b", "", space), tap)
    running.until_applied("a", "b", "t")
    ip("-n", space, "link", "set", "dev", "t", "up", "group", str(running.link("b", space)["group"]))
    a_round_later(running, 1400)
    running.delete("t")
    until(lambda: not running.state("t"), what=running.logs)
    a_round_later(running, 1300)
    assert not running.link("made").get("ifalias")
    assert "delete t " not in running.logs()


@needs_tun
def test_no_tap_becomes_the_one_that_cannot_be_moved(running: Lab) -> None:
    space = running.space("hostile")
    running.put(*pair("a", "b", "", space))
    running.until_applied("a", "b")
    ip("tuntap", "add", "dev", "made", "mode", "tap")
    ip("-n", space, "link", "add", "name", "t", "type", "bridge")
    running.put({"name": "t", "type": 1, "tap": {"temp_if_name": "made"}, "namespace": {"type": 2, "name": space}})
    running.until_state("t", "FAILED")
    alias = running.link("made")["ifalias"]
    ip("-n", space, "tuntap", "add", "dev", "forged", "mode", "tap")
    ip("-n", space, "link", "set", "dev", "forged", "address", FORGED_MAC, "up")
    again = f"while ip -n {space} link set dev forged alias {alias}; do :; done"
    with subprocess.Popen(["sh", "-c", again], stderr=subprocess.DEVNULL) as forging:
        try:
            a_round_later(running, 1400)
            ip("link", "del", "dev", "made")
            a_round_later(running, 1300)
            running.delete("t")
            until(lambda: not running.state("t"), what=running.logs)
            a_round_later(running, 1200)
        finally:
            forging.kill()
    assert FORGED_MAC not in {link["address"] for link in running.links().values()}


def test_a_forged_pair_does_not_become_the_link_between_two_others(lab: Lab) -> None:
    hostile, one, two = lab.space("hostile"), lab.space("one"), lab.space("two")
    lab.put(*pair("h0", "h1", "", hostile))
    lab.start_agent()
    lab.until_applied("h0", "h1")
    lab.kill_agent()  # so that the pair is found when it is wanted, and not before
    group = str(lab.link("h1", hostile)["group"])
    ip("-n", hostile, "link", "add", "name", "a", "type", "veth", "peer", "name", "b")
    for end in ("a", "b"):
        ip("-n", hostile, "link", "set", "dev", end, "alias", f"ifagent/{lab.label}/{end}", "group", group)
    ip("-n", hostile, "link", "add", "link", "a", "name", "tapped", "type", "macvlan", "mode", "bridge")
    forged = {lab.link(end, hostile)["address"] for end in ("a", "b")}
    lab.put(*pair("a", "b", one, two))
    lab.start_agent()
    lab.until_applied("a", "b")
    assert {lab.link("a", one)["address"], lab.link("b", two)["address"]}.isdisjoint(forged)
    assert "link_netnsid" not in lab.link("tapped", hostile)


def test_a_forged_alias_keeps_nobody_elses_interface_from_being_applied(running: Lab) -> None:
    hostile, one, two = running.space("hostile"), running.space("one"), running.space("two")
    running.put(*pair("h0", "h1", "", hostile))
    running.until_applied("h0", "h1")
    ip("-n", hostile, "link", "add", "decoy", "type", "bridge")
    ip("-n", hostile, "link", "set", "dev", "decoy", "alias", f"ifagent/{running.label}/a")
    ip("-n", hostile, "link", "set", "dev", "decoy", "up")
    running.put(*pair("a", "b", one, two))
    running.until_applied("a", "b")
    ip("-n", one, "link", "del", "dev", "a")
    running.until_applied("a", "b")


def test_a_forged_alias_on_lo_does_not_take_a_name_away(lab: Lab) -> None:
    mine, theirs = lab.space("mine"), lab.space("theirs")
    ip("netns", "add", theirs)
    ip("-n", theirs, "link", "set", "dev", "lo", "alias", f"ifagent/{lab.label}")
    lab.put(*pair("a", "b", "", mine))
    lab.start_agent()
    lab.until_applied("a", "b")
    lab.delete("a", "b")
    until(lambda: mine not in lab.spaces(), what=lab.logs)
    a_round_later(lab, 1400)
    lab.kill_agent()
    lab.start_agent()
    a_round_later(lab, 1300)
    assert theirs in lab.spaces()


def test_what_it_has_made_is_removed_after_a_restart(lab: Lab) -> None:
    mine = lab.space("mine")
    lab.put(*pair("a", "b", "", mine))
    lab.start_agent()
    lab.until_applied("a", "b")
    lab.kill_agent()
    lab.delete("a", "b")
    lab.start_agent()
    until(lambda: mine not in lab.spaces(), what=lab.logs)


def test_root_of_a_namespace_cannot_follow_a_link_that_goes_away(running: Lab) -> None:
    hostile, other = running.space("hostile"), running.space("other")
    ip("netns", "add", hostile)
    running.put(veth("a", "b", hostile), veth("b", "a"))
    running.until_applied("a", "b")
    ip("-n", hostile, "link", "add", "link", "a", "name", "mv", "type", "macvlan")
    running.put(veth("a", "b", other, mtu=1400))
    assert "mv (macvlan" in running.until_state("b", "FAILED")["reason"]
    assert "mv (macvlan" in running.until_state("a", "PENDING")["reason"]
    assert "link_netnsid" not in running.link("mv", hostile), "a macvlan that sits on a link elsewhere"
    ip("-n", hostile, "link", "del", "dev", "mv")
    running.until_state("a", "APPLIED", mtu=1400)
    assert "a" in running.links(other)


def test_nor_can_he_in_the_moment_when_it_goes(running: Lab) -> None:
    """He puts a macvlan on it again and again while it goes to somebody else."""
    hostile, other, peer = running.space("hostile"), running.space("other"), running.space("peer")
    ip("netns", "add", hostile)
    script = "while :; do ip link add link a name mv type macvlan; ip link del mv; done"
    attacker = subprocess.Popen(
        ["ip", "netns", "exec", hostile, "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for turn in range(4):
            running.put(veth("a", "b", hostile), veth("b", "a", peer))
            until(lambda: running.link("a", hostile), what=running.logs)
            running.put(veth("a", "b", other, mtu=1400 + turn), veth("b", "a", peer))
            running.until_state("a", "APPLIED", mtu=1400 + turn)
            assert "link_netnsid" not in running.link("mv", hostile), "a macvlan that sits on a link elsewhere"
    finally:
        attacker.kill()
        attacker.wait()
