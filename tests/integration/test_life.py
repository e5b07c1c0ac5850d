"""The life of a veth: from etcd into the kernel, and everything that can happen to it there."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from lab import Lab, addresses, ip, pair, until, veth
from linux import RENAMES_UP

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


def flags(link: dict[str, Any]) -> set[str]:
    return set(link["flags"])


def test_one_end_alone_waits_and_both_are_made_with_everything(running: Lab) -> None:
    ns1, ns2 = running.space("ns1"), running.space("ns2")
    one = veth(
        "veth1",
        "veth2",
        ns1,
        mtu=1500,
        host_if_name="veth1Name",
        phys_address="D2:74:8C:12:67:D2",
        ip_addresses=["192.168.22.1/24", "2001:db8:0:0:0:ff00:89e3:bb42/48"],
    )
    other = one | veth(
        "veth2",
        "veth1",
        ns2,
        mtu=1400,
        host_if_name="veth2Name",
        phys_address="92:c7:42:67:ab:cd",
        ip_addresses=["192.168.22.5/24", "2001:db8:0:0:0:ff00:89e3:cc42/48"],
    )
    running.put(one)
    state = running.until_state("veth1", "PENDING")
    assert "veth2" in state["reason"]
    assert state["missing"] == ["interface veth2"]
    assert not running.spaces(), "a namespace was made before it was needed"

    running.put(other)
    running.until_applied("veth1", "veth2")
    for value, space in ((one, ns1), (other, ns2)):
        link = running.link(value["host_if_name"], space)
        assert link["address"] == value["phys_address"].lower()
        assert link["mtu"] == value["mtu"]
        assert {"UP", "LOWER_UP"} <= flags(link)
        assert link["txqlen"] == 1000
        assert addresses(link) == [a.replace(":0:0:0:", "::") for a in value["ip_addresses"]]
        state = running.state(value["name"])
        assert (state["if_index"], state["mtu"], state["internal_name"]) == (
            link["ifindex"],
            link["mtu"],
            link["ifname"],
        )
        assert state["phys_address"] == link["address"]
        assert state["observed_revision"] == state["applied_revision"] > 0
    until(lambda: "0% packet loss" in ip("netns", "exec", ns1, "ping", "-c1", "-W1", "192.168.22.5", check=False))


def test_an_end_that_is_not_enabled_is_down(running: Lab) -> None:
    # In one namespace: where two ends have the same ifindex, the kernel calls the state DOWN instead.
    space = running.space("s")
    running.put(veth("a", "b", space, enabled=False), veth("b", "a", space))
    running.until_applied("a", "b")
    assert "UP" not in flags(running.link("a", space))
    assert "UP" in flags(running.link("b", space))
    until(lambda: running.link("b", space)["operstate"] == "LOWERLAYERDOWN")


def test_a_live_link_is_modified_in_place(running: Lab) -> None:
    space = running.space("s")
    running.put(*pair("a", "b", space, space, ip_addresses=[]), *pair("c", "d", space, space))
    running.until_applied("a", "b", "c", "d")
    before, bystander = running.link("a", space), running.link("c", space)
    monitor = subprocess.Popen(
        ["ip", "-n", space, "-o", "monitor", "link"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        value = veth("a", "b", space, mtu=9000, phys_address="02:00:00:00:00:0a", ip_addresses=["10.0.0.1/24"])
        slower = value | {"mtu": 8000}
        for change in (value, slower, slower | {"host_if_name": "renamed"}):
            running.put(change)
            wanted = change.get("host_if_name", "a")
            running.until_state("a", "APPLIED", mtu=change["mtu"], internal_name=wanted)
            if change is slower and not RENAMES_UP:  # the next change needs the link down for a moment
                monitor.terminate()
    finally:
        monitor.terminate()
        heard, _ = monitor.communicate(timeout=5)
    after = running.link("renamed", space)
    assert after["ifindex"] == before["ifindex"]
    assert (after["mtu"], after["address"], addresses(after)) == (8000, "02:00:00:00:00:0a", ["10.0.0.1/24"])
    assert not [line for line in heard.splitlines() if ": a@" in line and ",UP" not in line], heard
    assert running.link("c", space) == bystander
    assert "a" not in running.links(space)
    running.put(slower | {"enabled": False})
    running.until_state("a", "APPLIED", internal_name="a")
    assert "UP" not in flags(running.link("a", space))
    assert running.link("a", space)["ifindex"] == before["ifindex"]


def test_an_end_goes_to_another_namespace_with_everything(running: Lab) -> None:
    old, new = running.space("old"), running.space("new")
    running.put(veth("a", "b", old, ip_addresses=["2001:db8::1/64"]), veth("b", "a", old, mtu=9000))
    running.until_applied("a", "b")
    running.put(veth("a", "b", new, mtu=1400, ip_addresses=["10.0.0.1/24", "2001:db8::1/64"]))
    until(lambda: running.link("a", new).get("mtu") == 1400)
    running.until_state("a", "APPLIED", mtu=1400)
    assert addresses(running.link("a", new)) == ["10.0.0.1/24", "2001:db8::1/64"]
    assert "a" not in running.links(old)
    running.until_applied("b")
    assert running.link("b", old)["mtu"] == 9000
    assert "UP" in flags(running.link("a", new))


def test_a_link_moves_out_of_the_agents_own_namespace_with_everything(running: Lab) -> None:
    old, new = running.space("old"), running.space("new")
    running.put(veth("a", "b", ip_addresses=["2001:db8::1/64"]), veth("b", "a", old))
    running.until_applied("a", "b")
    peer = running.link("b", old)["ifindex"]
    running.put(veth("a", "b", new, mtu=1400, ip_addresses=["10.0.0.1/24", "2001:db8::1/64"]))
    running.until_state("a", "APPLIED", mtu=1400)
    assert addresses(running.link("a", new)) == ["10.0.0.1/24", "2001:db8::1/64"]
    assert "a" not in running.links()
    assert running.link("b", old)["ifindex"] == peer
    assert "UP" in flags(running.link("a", new))


def test_addresses_follow_the_value(running: Lab) -> None:
    space = running.space("s")

    def want(*listed: str) -> None:
        running.put(veth("a", "b", space, ip_addresses=list(listed)))
        until(lambda: addresses(running.link("a", space)) == [a.lower() for a in listed], what=running.logs)

    running.put(*pair("a", "b", space, space))
    running.until_applied("a", "b")
    want("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24")
    want("10.0.0.2/24", "10.0.0.3/24")
    want("10.0.0.3/24", "10.0.0.2/24")
    want("10.0.0.3/24", "2001:db8::1/64")
    want("2001:DB8::1/48", "2001:db8::2/64")
    want()
    running.put(veth("a", "b", space, ip_addresses=["fe80::77/64"]))
    until(lambda: "fe80::77/64" in addresses(running.link("a", space), automatic=True))


def test_clearing_mtu_and_mac_brings_the_defaults_back(running: Lab) -> None:
    space = running.space("s")
    given = "02:00:00:00:00:0a"
    running.put(veth("a", "b", space, mtu=9000, phys_address=given), veth("b", "a", space))
    running.until_applied("a", "b")
    running.put(veth("a", "b", space))
    running.until_state("a", "APPLIED", mtu=1500)
    link = running.link("a", space)
    assert link["mtu"] == 1500
    assert link["address"] != given


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", 60),
        ("mtu", 70000),
        ("mtu", -1),
        ("phys_address", "xx:yy"),
        ("phys_address", "01:00:5e:00:00:01"),
        ("host_if_name", "a-name-that-is-too-long"),
        ("host_if_name", "a/b"),
        ("host_if_name", "a b"),
        ("veth.peer_if_name", {"peer_if_name": "a"}),
        ("ip_addresses[0]", ["10.0.0.300/24"]),
        ("host_if_name", "c"),
    ],
)
def test_what_cannot_be_is_invalid_and_the_live_link_stays(running: Lab, field: str, value: object) -> None:
    space = running.space("s")
    running.put(*pair("a", "b", space, space), *pair("c", "d", space, space))
    running.until_applied("a", "b", "c", "d")
    before = running.links(space)
    running.put(veth("a", "b", space) | {field.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]: value})
    state = running.until_state("a", "INVALID")
    assert [error["field"] for error in state["errors"]] == [field]
    assert state["errors"][0]["message"]
    assert running.links(space) == before
    running.put(veth("a", "b", space, mtu=1400))
    running.until_state("a", "APPLIED", mtu=1400)


def test_deleting_one_end_takes_the_pair_and_putting_it_back_brings_both(running: Lab) -> None:
    left, right = running.space("l"), running.space("r")
    values = pair("a", "b", left, right, mtu=1400, ip_addresses=["10.1.0.1/16"])
    running.put(*values)
    running.until_applied("a", "b")
    running.delete("a")
    running.until_state("b", "PENDING", missing=["interface a"])
    assert not running.links(left)
    assert not running.links(right)
    until(lambda: not running.state("a"))
    running.put(*values)
    running.until_applied("a", "b")
    assert running.link("a", left)["mtu"] == running.link("b", right)["mtu"] == 1400
    assert addresses(running.link("a", left)) == ["10.1.0.1/16"]


def test_deleting_what_is_not_there_is_fine_and_makes_nothing(running: Lab) -> None:
    left, right = running.space("l"), running.space("r")
    running.put(*pair("a", "b", left, right))
    running.until_applied("a", "b")
    running.delete("never-put")
    ip("netns", "del", left)
    running.delete("a", "b")
    until(lambda: not running.states() and not running.spaces(), what=running.logs)
    running.put(*pair("c", "d"))
    running.until_applied("c", "d")
    ip("link", "del", "dev", "c")
    running.delete("c", "d")
    until(lambda: not running.states() and not {"c", "d"} & running.links().keys(), what=running.logs)


@pytest.mark.parametrize(
    "broken", ["", "null", "[]", "{}", "{", '{"name":"other"}', '{"name":"a","type":7}', "\x01\x02"]
)
def test_a_value_that_cannot_be_decoded_then_a_good_one_then_none(running: Lab, broken: str) -> None:
    space = running.space("s")
    running.put(veth("b", "a", space))
    running.put_raw({"a": broken})
    assert running.until_state("a", "INVALID")["errors"]
    running.put(veth("a", "b", space))
    running.until_applied("a", "b")
    running.delete("a")
    until(lambda: not running.links(space) and not running.state("a"))


def test_a_bad_value_at_start_does_not_stop_the_others(lab: Lab) -> None:
    space = lab.space("s")
    lab.put_raw({"broken": "{", "x": json.dumps(veth("x", "y", space, mtu=1))})
    lab.put(*pair("a", "b", space, space))
    lab.start_agent()
    lab.until_applied("a", "b")
    lab.until_state("broken", "INVALID")
    lab.until_state("x", "INVALID")


def test_partners_change_key_by_key(running: Lab) -> None:
    space = running.space("s")
    running.put(*pair("a", "b", space, space), *pair("c", "d", space, space))
    running.until_applied("a", "b", "c", "d")
    running.put(veth("c", "a", space))
    running.until_state("c", "PENDING")
    assert {"a", "b"} <= running.links(space).keys(), "a live pair was torn apart by a third"
    running.put(veth("a", "c", space))
    running.put(veth("b", "d", space))
    running.put(veth("d", "b", space))
    running.until_applied("a", "b", "c", "d")
    links = running.links(space)
    assert links.keys() == {"a", "b", "c", "d"}
    for near, far in (("a", "c"), ("b", "d")):
        assert links[near]["link"] == far
        assert links[far]["link"] == near


@pytest.mark.parametrize("kind", ["bridge", "veth"])
def test_a_foreign_link_of_the_wanted_name_is_reported_and_left(running: Lab, kind: str) -> None:
    space = running.space("s")
    ip("netns", "add", space)
    ip("-n", space, "link", "add", "name", "a", "type", kind)
    before = running.link("a", space)
    running.put(*pair("a", "b", space, space))
    state = running.until_state("a", "FAILED")
    assert f"a ({kind}, ifindex {before['ifindex']})" in state["reason"]
    running.until_state("b", "PENDING")
    assert running.link("a", space) == before
    ip("-n", space, "link", "del", "dev", "a")
    running.until_applied("a", "b")


def test_many_at_once(running: Lab) -> None:
    spaces = [running.space(f"s{number}") for number in range(10)]
    values = [
        value
        for number in range(500)
        for value in pair(f"a{number}", f"b{number}", spaces[number % 10], spaces[(number + 1) % 10])
    ]
    running.put(*values)
    running.until_applied(*(value["name"] for value in values))
    assert sum(len(running.links(space)) for space in spaces) == 1000
    for start in range(0, 300, 100):
        running.put(*(value | {"mtu": 1400} for value in values[start : start + 100]))
    until(lambda: sum(s["mtu"] == 1400 for s in running.states().values()) == 300, within=60)
    running.etcd.ctl("del", "--prefix", running.key(""))
    until(lambda: not running.spaces(), within=60, what=running.logs)
