"""Addresses while they change, as the kernel tells of them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import Lab, addresses, ip, pair, until, veth
from sysctl import set_sysctl

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(90)]


@contextmanager
def address_events(space: str) -> Iterator[list[str]]:
    """Collect what the kernel says of addresses in a namespace, in order; a word at the end makes sure of all."""
    command = ["ip", "-n", space, "-oneline", "monitor", "address"]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout

        def read() -> None:
            assert monitor.stdout
            lines.extend(iter(monitor.stdout.readline, ""))

        reader = threading.Thread(target=read)
        reader.start()
        ip("-n", space, "link", "set", "dev", "lo", "up")
        try:
            until(lambda: _seen(space, lines, "127.7.7.1"))
            yield lines
            until(lambda: _seen(space, lines, "127.7.7.2"))
        finally:
            monitor.terminate()
            reader.join(10)


def _seen(space: str, lines: list[str], marker: str) -> bool:
    ip("-n", space, "addr", "add", f"{marker}/32", "dev", "lo", check=False)
    ip("-n", space, "addr", "del", f"{marker}/32", "dev", "lo", check=False)
    return any(marker in line for line in list(lines))


def deleted(lines: list[str]) -> list[str]:
    """Return the addresses that were deleted, but for those of ``lo`` and of the kernel."""
    gone = [line.split() for line in lines if line.startswith("Deleted")]
    return [words[4] for words in gone if words[2] != "lo" and not words[4].startswith("fe80")]


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        (["10.1.0.1/24", "10.1.0.2/24", "10.1.0.3/24"], ["10.1.0.2/24", "10.1.0.3/24"], ["10.1.0.1/24"]),
        (["10.1.0.1/24", "10.1.0.2/24"], ["10.1.0.2/24", "10.1.0.9/24"], ["10.1.0.1/24"]),
        (["10.1.0.1/24"], ["10.1.0.9/24"], ["10.1.0.1/24"]),
        (["10.1.0.1/24", "10.2.0.1/24"], ["10.1.0.1/24", "10.3.0.1/24"], ["10.2.0.1/24"]),
        (["10.1.0.1/24"], ["10.1.0.1/16"], ["10.1.0.1/24"]),
        (["2001:db8::1/64", "2001:db8::2/64"], ["2001:db8::9/64", "2001:db8::2/64"], ["2001:db8::1/64"]),
        (["10.1.0.1/24", "2001:db8::1/64"], ["10.1.0.1/24", "10.1.0.2/24", "2001:db8::1/64"], []),
    ],
)
def test_an_address_that_stays_is_never_missing(lab: Lab, before: list[str], after: list[str], gone: list[str]) -> None:
    space = lab.space("s")
    lab.start_agent()
    lab.put(veth("a", "b", space, ip_addresses=before), veth("b", "a", space))
    lab.until_applied("a", "b")
    with address_events(space) as lines:
        lab.put(veth("a", "b", space, ip_addresses=after))
        until(lambda: addresses(lab.link("a", space)) == after, what=lab.logs)
    assert deleted(lines) == gone


def test_the_new_address_is_there_before_the_old_one_goes(lab: Lab) -> None:
    space = lab.space("s")
    lab.start_agent()
    lab.put(veth("a", "b", space, ip_addresses=["10.1.0.1/24"]), veth("b", "a", space))
    lab.until_applied("a", "b")
    with address_events(space) as lines:
        lab.put(veth("a", "b", space, ip_addresses=["10.1.0.2/24"]))
        until(lambda: addresses(lab.link("a", space)) == ["10.1.0.2/24"], what=lab.logs)
    told = [line.split() for line in lines if "10.1.0." in line]
    assert [("Deleted" in words, "10.1.0.1/24" in words) for words in told][:2] == [(False, False), (True, True)]


def test_a_duplicate_address_is_reported(lab: Lab) -> None:
    left, right = lab.space("l"), lab.space("r")
    lab.start_agent()
    lab.put(*pair("a", "b", left, right))
    lab.until_applied("a", "b")
    until(lambda: lab.link("a", left)["operstate"] == "UP")
    lab.put(veth("b", "a", right, ip_addresses=["2001:db8::1/64"]))
    lab.until_applied("b")
    until(lambda: "tentative" not in ip("-n", right, "addr", "show", "dev", "b"))
    lab.put(veth("a", "b", left, ip_addresses=["10.0.0.1/24", "2001:db8::1/64"]))
    state = lab.until_state("a", "FAILED")
    assert state["reason"] == "another host on the link of a has 2001:db8::1/64 (duplicate address detection)"
    assert "10.0.0.1/24" in addresses(lab.link("a", left))
    lab.put(veth("a", "b", left, ip_addresses=["10.0.0.1/24", "2001:db8::2/64"]))
    lab.until_state("a", "APPLIED")


def set_ipv6(space: str, *, off: bool) -> None:
    set_sysctl(f"/run/netns/{space}", f"net.ipv6.conf.all.disable_ipv6={int(off)}")


def test_where_ipv6_is_off_the_rest_is_done_and_that_is_said(lab: Lab) -> None:
    space = lab.space("s")
    ip("netns", "add", space)
    set_ipv6(space, off=True)
    lab.start_agent()
    both = ["10.1.0.1/24", "2001:db8::1/64"]
    lab.put(veth("a", "b", space, mtu=1400, ip_addresses=both), veth("b", "a", space))
    state = lab.until_state("a", "FAILED")
    assert "2001:db8::1/64" in state["reason"]
    assert "IPv6 is disabled on this device" in state["reason"]
    link = lab.link("a", space)
    assert (addresses(link), link["mtu"], "UP" in link["flags"]) == (["10.1.0.1/24"], 1400, True)
    lab.until_applied("b")
    set_ipv6(space, off=False)
    lab.put(veth("a", "b", space, mtu=1401, ip_addresses=both))
    lab.until_state("a", "APPLIED", mtu=1401)
    assert addresses(lab.link("a", space)) == both


def test_ipv6_addresses_are_set_as_soon_as_the_link_can_have_them(lab: Lab) -> None:
    space = lab.space("s")
    ip("netns", "add", space)
    set_ipv6(space, off=True)
    lab.start_agent()
    lab.put(veth("a", "b", space, ip_addresses=["2001:db8::1/64"]), veth("b", "a", space))
    lab.until_state("a", "FAILED")
    set_ipv6(space, off=False)
    lab.until_state("a", "APPLIED")
    assert addresses(lab.link("a", space)) == ["2001:db8::1/64"]


def test_what_was_refused_is_tried_again_at_a_full_resync(lab: Lab) -> None:
    space = lab.space("s")
    ip("netns", "add", space)
    set_ipv6(space, off=True)
    lab.start_agent("--resync-interval", "0.5")
    lab.put(veth("a", "b", space, ip_addresses=["2001:db8::1/64"], enabled=False), veth("b", "a", space))
    lab.until_state("a", "FAILED")
    set_ipv6(space, off=False)  # the kernel does not tell of that while the link is down
    lab.until_state("a", "APPLIED")
    assert addresses(lab.link("a", space)) == ["2001:db8::1/64"]


def test_global_ipv6_addresses_are_back_after_down_and_up(lab: Lab) -> None:
    space = lab.space("s")
    lab.start_agent()
    both = ["10.1.0.1/24", "2001:db8::1/64", "2001:db8::2/64"]
    value = veth("a", "b", space, ip_addresses=both)
    lab.put(value, veth("b", "a", space))
    lab.until_applied("a", "b")
    ifindex = lab.link("a", space)["ifindex"]
    lab.put(value | {"enabled": False})
    until(lambda: "UP" not in lab.link("a", space)["flags"])
    lab.until_applied("a")
    lab.put(value)
    until(lambda: "UP" in lab.link("a", space)["flags"] and addresses(lab.link("a", space)) == both, what=lab.logs)
    assert lab.link("a", space)["ifindex"] == ifindex
