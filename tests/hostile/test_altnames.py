"""Other names of links: in the way of a wanted host name, or what somebody calls his link by."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from lab import Lab, addresses, ip, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(90)]

needs_tun = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened")
MOST = 490
"""Nearly the most altnames that Linux gives a link: in a message they must take less than 64 KiB."""


@pytest.fixture
def space(lab: Lab) -> str:
    name = lab.space("s")
    ip("netns", "add", name)
    ip("-n", name, "link", "add", "foreign", "up", "type", "veth", "peer", "name", "fp")
    return name


def add_altnames(space: str, host_name: str, *altnames: str) -> None:
    batch = "".join(f"link property add dev {host_name} altname {altname}\n" for altname in altnames)
    subprocess.run(["ip", "-n", space, "-batch", "-"], input=batch, text=True, check=True, timeout=60)


def ifindex(space: str, host_name: str) -> int:
    [link] = json.loads(ip("-n", space, "-j", "link", "show", "dev", host_name))
    return int(link["ifindex"])


def put_existing(lab: Lab, name: str, space: str, host_name: str, *texts: str) -> None:
    value = {
        "name": name,
        "type": "EXISTING",
        "namespace": {"type": "NSID", "reference": space},
        "host_if_name": host_name,
        "ip_addresses": texts,
    }
    lab.etcd.ctl("put", f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}", json.dumps(value))


def test_who_has_a_wanted_name_is_told_and_it_is_taken_once_it_is_free(lab: Lab, space: str) -> None:
    add_altnames(space, "foreign", "wanted")
    lab.start_agent()
    lab.put(veth("a", "b", space, host_if_name="wanted"), veth("b", "a", space))
    state = lab.until_state("a", "FAILED")
    assert f"wanted is another name of foreign, ifindex {ifindex(space, 'foreign')}" in state["reason"]
    lab.until_state("b", "PENDING")
    ip("-n", space, "link", "property", "del", "dev", "foreign", "altname", "wanted")
    lab.until_applied("a", "b")
    assert lab.link("wanted", space)["linkinfo"]["info_kind"] == "veth"


def test_a_link_keeps_its_name_while_the_wanted_one_is_taken(lab: Lab, space: str) -> None:
    lab.start_agent()
    lab.put(veth("a", "b", space), veth("b", "a", space))
    lab.until_applied("a", "b")
    add_altnames(space, "foreign", "wanted")
    lab.put(veth("a", "b", space, host_if_name="wanted", ip_addresses=["10.0.0.1/24"]))
    state = lab.until_state("a", "FAILED")
    assert f"wanted is another name of foreign, ifindex {ifindex(space, 'foreign')}" in state["reason"]
    assert addresses(lab.link("a", space)) == ["10.0.0.1/24"]
    add_altnames(space, "a", "mine")
    lab.put(veth("a", "b", space, host_if_name="mine", ip_addresses=["10.0.0.1/24"]))
    lab.until_state("a", "APPLIED", internal_name="mine")


def test_a_link_is_renamed_to_what_it_is_called_besides(lab: Lab, space: str) -> None:
    there = lab.space("t")
    lab.start_agent()
    lab.put(veth("a", "b", space), veth("b", "a", space))
    lab.until_applied("a", "b")
    before = ifindex(space, "a")
    add_altnames(space, "a", "other", "newname", "further")
    lab.put(veth("a", "b", space, host_if_name="newname"))
    lab.until_state("a", "APPLIED", internal_name="newname")
    assert ifindex(space, "newname") == before
    assert set(lab.link("newname", space)["altnames"]) == {"other", "further"}
    lab.put(veth("a", "b", there, host_if_name="other"))
    lab.until_state("a", "APPLIED", internal_name="other")
    assert "altnames" not in lab.link("other", there)


@needs_tun
def test_no_altname_of_a_tenants_comes_to_the_host(lab: Lab, space: str) -> None:
    """More than are known of a link, and some that are too long for a host name; only a TAP comes as the same link."""
    names = [f"docker{number}" for number in range(MOST // 4)] + [
        f"docker{number}".ljust(100, "x") for number in range(9)
    ]
    ip("tuntap", "add", "dev", "made", "mode", "tap")
    lab.start_agent()
    lab.put({"name": "t", "type": 1, "namespace": {"type": 2, "name": space}, "tap": {"temp_if_name": "made"}})
    lab.until_applied("t")
    add_altnames(space, "t", *names)
    lab.delete("t")
    until(lambda: "made" in lab.links() and not lab.link("made").get("ifalias"), what=lab.logs)
    assert "altnames" not in lab.link("made")


def test_hundreds_of_altnames_hide_nothing(lab: Lab, space: str) -> None:
    """More than are known of a link: who is in the way is found out when the kernel refuses the name."""
    names = [f"n{number}" for number in range(MOST)]
    add_altnames(space, "foreign", *names)
    lab.start_agent()
    last = names[-1]
    lab.put(veth("a", "b", space, host_if_name=last), veth("b", "a", space))
    lab.put(veth("c", "d", space), veth("d", "c", space))
    lab.until_applied("c", "d")
    until(
        lambda: (
            f"{last} is another name of foreign, ifindex {ifindex(space, 'foreign')}"
            in lab.state("a").get("reason", "")
        ),
        what=lambda: f"{lab.state('a')}\n{lab.logs()}",
    )
    ip("-n", space, "link", "property", "del", "dev", "foreign", "altname", last)
    lab.put(veth("a", "b", space, host_if_name=last, mtu=1400))
    lab.until_applied("a", "b")


def test_an_existing_link_is_found_by_what_it_is_called_besides(lab: Lab, space: str) -> None:
    lab.start_agent()
    put_existing(lab, "e", space, "enp0s31f6", "10.6.0.1/24")
    lab.until_state("e", "PENDING")
    add_altnames(space, "foreign", "enp0s31f6")
    lab.until_state("e", "APPLIED", internal_name="foreign")
    assert addresses(lab.link("foreign", space)) == ["10.6.0.1/24"]
    assert lab.link("foreign", space)["altnames"] == ["enp0s31f6"]
    ip("-n", space, "link", "property", "del", "dev", "foreign", "altname", "enp0s31f6")
    lab.until_state("e", "PENDING")
    until(lambda: addresses(lab.link("foreign", space)) == [], what=lab.logs)


def test_a_link_is_that_of_the_interface_that_has_its_host_name(lab: Lab, space: str) -> None:
    """Two interfaces for one link: they must not take each other's addresses off it."""
    add_altnames(space, "foreign", "enp0s31f6")
    lab.start_agent()
    put_existing(lab, "by-altname", space, "enp0s31f6", "10.6.0.1/24")
    lab.until_state("by-altname", "APPLIED")
    put_existing(lab, "by-name", space, "foreign", "10.7.0.1/24")
    lab.until_state("by-name", "APPLIED")
    state = lab.until_state("by-altname", "FAILED")
    assert "belongs to interface by-name" in state["reason"]
    assert addresses(lab.link("foreign", space)) == ["10.7.0.1/24"]
