"""Restart, resync and drift: the kernel ends as declared, and what is right is not touched."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from lab import Lab, addresses, ip, pair, until, veth
from linux import RENAMES_UP

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(180)]


def test_a_restart_touches_nothing_that_is_right(lab: Lab) -> None:
    left, right = lab.space("l"), lab.space("r")
    spelt = {"phys_address": "02:AA:BB:CC:DD:EE", "ip_addresses": ["10.0.0.1/24", "2001:DB8::1/64"]}
    values = [
        veth("a", "b", left, host_if_name="Eth0", **spelt),
        veth("b", "a", right, ip_addresses=["10.0.0.2/24"]),
    ]
    lab.put(*values)
    lab.start_agent()
    lab.until_applied("a", "b")
    until(lambda: "tentative" not in ip("-n", left, "addr") + ip("-n", right, "addr"))
    before = lab.links(left), lab.links(right)
    ping = subprocess.Popen(
        ["ip", "netns", "exec", left, "ping", "-i", "0.02", "10.0.0.2"], stdout=subprocess.PIPE, text=True
    )
    monitors = [
        subprocess.Popen(["ip", "-n", space, "-o", "monitor", "link", "address"], stdout=subprocess.PIPE, text=True)
        for space in (left, right)
    ]
    try:
        assert lab.kill_agent(signal.SIGTERM) == 0
        lab.start_agent()
        lab.until_applied("a", "b")
        lab.kill_agent()
        lab.start_agent()
        lab.until_applied("a", "b")
    finally:
        ping.send_signal(signal.SIGINT)
        lost, _ = ping.communicate(timeout=5)
        heard = []
        for monitor in monitors:
            monitor.terminate()
            heard.append(monitor.communicate(timeout=5)[0])
    assert " 0% packet loss" in lost
    assert heard == ["", ""]
    assert (lab.links(left), lab.links(right)) == before


def test_what_was_removed_meanwhile_goes_and_foreign_links_stay(lab: Lab) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", space, space), *pair("c", "d", space, space))
    lab.start_agent()
    lab.until_applied("a", "b", "c", "d")
    lab.kill_agent()
    ip("-n", space, "link", "add", "foreign", "type", "veth", "peer", "name", "foreign2")
    lab.delete("a", "b")
    lab.put(veth("c", "d", space, mtu=1400))
    lab.put(*pair("e", "f", space, space))
    lab.start_agent()
    lab.until_applied("c", "d", "e", "f")
    until(lambda: lab.links(space).keys() == {"c", "d", "e", "f", "foreign", "foreign2"}, what=lab.logs)
    assert lab.link("c", space)["mtu"] == 1400


MAC = "02:00:00:00:00:0a"
ADDRESSES = ["10.0.0.1/24", "2001:db8::1/64"]

DRIFT: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "mtu": ("link set dev a mtu 1300", lambda link: link["mtu"] == 1400),
    "mac": ("link set dev a address 02:00:00:00:00:99", lambda link: link["address"] == MAC),
    "down": ("link set dev a down", lambda link: "UP" in link["flags"] and addresses(link) == ADDRESSES),
    "name": ("link set dev a name q", bool),
    "alias": ("link set dev a alias mine", lambda link: link["ifalias"].endswith("/a")),
    "group": ("link set dev a group 7", lambda link: link["group"] != "7"),
    "address gone": ("addr flush dev a", lambda link: addresses(link) == ADDRESSES),
    "address more": ("addr add 10.9.9.9/8 dev a", lambda link: addresses(link) == ADDRESSES),
}


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_repaired_in_place_and_told(lab: Lab, what: str) -> None:
    command, right = DRIFT[what]
    if what == "name" and not RENAMES_UP:
        pytest.skip("before Linux 6.2 nobody can rename a link that is up")
    left, other = lab.space("l"), lab.space("r")
    lab.put(veth("a", "b", left, mtu=1400, phys_address=MAC, ip_addresses=ADDRESSES), veth("b", "a", other))
    lab.start_agent()
    lab.until_applied("a", "b")
    before = lab.link("a", left)["ifindex"]
    ip("-n", left, *command.split())
    # Two addresses that go may be noticed one after the other.
    until(lambda: lab.state("a")["config_state"] == "APPLIED" and lab.state("a").get("repairs"), what=lab.logs)
    until(lambda: lab.link("a", left) and right(lab.link("a", left)), what=lab.logs)
    assert lab.link("a", left)["ifindex"] == before
    assert lab.state("a")["last_drift"]


def test_a_link_deleted_again_and_again_comes_back_but_damped(lab: Lab) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", space, space))
    lab.start_agent()
    lab.until_applied("a", "b")
    said = []
    for _ in range(8):
        until(lambda: lab.link("a", space), within=30, what=lab.logs)
        ip("-n", space, "link", "del", "dev", "a", check=False)
        said.append(lab.state("a"))
    until(lambda: lab.state("a").get("config_state") == "APPLIED" and lab.link("a", space), within=60, what=lab.logs)
    assert lab.state("a")["repairs"] >= 6
    log = (lab.folder / "agent-0.log").read_text()
    assert '"interface retrying"' in log
    assert "repeatedly changed externally" in log


def test_a_clean_end_leaves_the_links_and_takes_the_states(lab: Lab) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", space, space))
    lab.start_agent()
    lab.until_applied("a", "b")
    assert lab.kill_agent(signal.SIGTERM) == 0
    assert lab.links(space).keys() == {"a", "b"}
    until(lambda: not lab.states())
