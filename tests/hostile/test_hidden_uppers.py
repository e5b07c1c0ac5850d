"""T1: root of a namespace hides a link that he has put on his end of a pair; it does not follow the end elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, addresses, ip, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

HIS_ADDRESS = "10.6.0.66/24"


@pytest.fixture
def hidden(lab: Lab) -> Iterator[str]:
    """Return a namespace that no interface is in."""
    space = lab.space("hidden")
    ip("netns", "add", space)
    yield space
    ip("netns", "del", space, check=False)


def hide_macvlan(space: str, lower: str, hidden: str) -> None:
    """Put a macvlan on a link and move it to where the agent does not look."""
    ip("-n", space, "link", "add", "link", lower, "name", "mv", "type", "macvlan", "mode", "bridge", check=False)
    if not ip("-n", space, "link", "show", "dev", "mv", check=False):
        pytest.skip("this kernel makes no macvlan")
    ip("-n", space, "link", "set", "dev", "mv", "netns", hidden)
    ip("-n", hidden, "address", "add", HIS_ADDRESS, "dev", "mv")
    ip("-n", hidden, "link", "set", "dev", "mv", "up")


def reaches(space: str, address: str) -> bool:
    """Tell whether an address answers to somebody in a namespace."""
    return " 0% packet loss" in ip("netns", "exec", space, "ping", "-c1", "-W1", address, check=False)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("to", ["green", ""])
def test_it_does_not_follow_an_end_that_leaves(lab: Lab, hidden: str, to: str, restarted: bool) -> None:
    red, blue = lab.space("red"), lab.space("blue")
    there = lab.space(to) if to else ""
    far = veth("b", "a", blue, ip_addresses=["10.6.0.1/24"])
    lab.put(veth("a", "b", red, host_if_name="eth7"), far)
    lab.start_agent()
    lab.until_applied("a", "b")
    hide_macvlan(red, "eth7", hidden)
    until(lambda: reaches(hidden, "10.6.0.1"), what=lab.logs)

    if restarted:
        lab.kill_agent()
    lab.put(veth("a", "b", there, host_if_name="eth7", mtu=1400))
    if restarted:
        lab.start_agent()
    lab.until_state("a", "APPLIED", mtu=1400)
    until(lambda: addresses(lab.link("b", blue)) == ["10.6.0.1/24"], what=lab.logs)
    assert "eth7" in lab.links(there)
    assert "eth7" not in lab.links(red)
    assert "mv" not in lab.links(hidden)
    assert not reaches(hidden, "10.6.0.1")


def test_nor_when_both_ends_leave(lab: Lab, hidden: str) -> None:
    red, blue, green, grey = (lab.space(name) for name in ("red", "blue", "green", "grey"))
    lab.put(veth("a", "b", red), veth("b", "a", blue))
    lab.start_agent()
    lab.until_applied("a", "b")
    hide_macvlan(red, "a", hidden)
    lab.put(veth("a", "b", green, mtu=1400), veth("b", "a", grey, mtu=1400))
    for name in ("a", "b"):
        lab.until_state(name, "APPLIED", mtu=1400)
    until(lambda: "mv" not in lab.links(hidden), what=lab.logs)


def test_what_is_hidden_on_an_end_that_stays_is_no_hindrance(lab: Lab, hidden: str) -> None:
    """What is changed in place, and what leaves the agent's own namespace, is the same link as before."""
    red, blue = lab.space("red"), lab.space("blue")
    lab.put(veth("a", "b", red), veth("b", "a"))
    lab.start_agent()
    lab.until_applied("a", "b")
    hide_macvlan(red, "a", hidden)
    before = lab.link("a", red)["ifindex"]
    lab.put(veth("a", "b", red, host_if_name="eth7"), veth("b", "a", blue, mtu=1400, ip_addresses=["10.6.0.1/24"]))
    lab.until_state("b", "APPLIED", mtu=1400)
    lab.until_state("a", "APPLIED", internal_name="eth7")
    assert lab.link("eth7", red)["ifindex"] == before
    assert "mv" in lab.links(hidden), "it is his end that it is on"
