"""Links of somebody else's, and what only ligato v3 can ask of links: etcd in, ``ip`` and ``ethtool`` out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, addresses, ip, until

from ifagent.host_routes import addresses_of
from ifagent.kernel.routes import find_uplinks

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(90)]


def put_v3(lab: Lab, name: str, type_: str, space: str = "", **fields: Any) -> None:
    namespace = {"namespace": {"type": "NSID", "reference": space}} if space else {}
    value = {"name": name, "type": type_, **namespace, **fields}
    key = f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}"
    lab.etcd.ctl("put", key, json.dumps(value))


def delete_v3(lab: Lab, name: str) -> None:
    lab.etcd.ctl("del", f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}")


def offloads(space: str, link: str) -> dict[str, str]:
    """Return what ``ethtool`` says of checksums."""
    done = subprocess.run(
        ["ip", "netns", "exec", space, "ethtool", "--show-offload", link],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    lines = (line.partition(":") for line in done.stdout.splitlines())
    return {name.strip(): value.split()[0] for name, _, value in lines if "checksumming" in name}


@pytest.fixture
def space(lab: Lab) -> Iterator[str]:
    name = lab.space("s")
    ip("netns", "add", name)
    yield name
    ip("netns", "del", name, check=False)


def test_an_existing_link_is_waited_for_given_addresses_and_let_go(lab: Lab, space: str) -> None:
    lab.start_agent()
    put_v3(lab, "uplink", "EXISTING", space, host_if_name="br0", ip_addresses=["10.0.0.1/24", "2001:db8::1/64"])
    state = lab.until_state("uplink", "PENDING")
    assert state["missing"] == ["link br0"]
    ip("-n", space, "link", "add", "other", "mtu", "1400", "type", "bridge")
    ip("-n", space, "addr", "add", "10.9.0.1/24", "dev", "other")
    ip("-n", space, "link", "set", "dev", "other", "alias", "somebody's")
    ip("-n", space, "link", "set", "dev", "other", "name", "br0")
    lab.until_state("uplink", "APPLIED")
    link = lab.link("br0", space)
    assert addresses(link) == ["10.0.0.1/24", "2001:db8::1/64"]
    assert (link["mtu"], link["operstate"], link["group"]) == (1400, "DOWN", "default")

    ip("-n", space, "addr", "del", "10.0.0.1/24", "dev", "br0")
    until(lambda: addresses(lab.link("br0", space)) == ["10.0.0.1/24", "2001:db8::1/64"], what=lab.logs)

    delete_v3(lab, "uplink")
    until(lambda: not lab.state("uplink"))
    link = lab.link("br0", space)
    assert (addresses(link), link["ifalias"]) == ([], "somebody's")
    assert link["linkinfo"]["info_kind"] == "bridge"


def test_an_existing_link_goes_and_comes_back(lab: Lab, space: str) -> None:
    lab.start_agent()
    put_v3(lab, "uplink", "EXISTING", space, host_if_name="br0", ip_addresses=["10.0.0.1/24"])
    for _ in range(2):
        ip("-n", space, "link", "add", "br0", "type", "bridge")
        lab.until_state("uplink", "APPLIED")
        assert addresses(lab.link("br0", space)) == ["10.0.0.1/24"]
        ip("-n", space, "link", "del", "br0")
        lab.until_state("uplink", "PENDING")


def test_link_only_waits_for_the_addresses_of_others(lab: Lab, space: str) -> None:
    lab.start_agent()
    ip("-n", space, "link", "add", "br0", "type", "bridge")
    put_v3(lab, "seen", "EXISTING", space, host_if_name="br0", link_only=True, ip_addresses=["10.0.0.1/24"])
    assert lab.until_state("seen", "PENDING")["missing"] == ["address 10.0.0.1/24"]
    ip("-n", space, "addr", "add", "10.7.0.1/24", "dev", "br0")
    ip("-n", space, "addr", "add", "10.0.0.1/24", "dev", "br0")
    lab.until_state("seen", "APPLIED")
    assert addresses(lab.link("br0", space)) == ["10.7.0.1/24", "10.0.0.1/24"]
    assert "ifalias" not in lab.link("br0", space)


def test_a_link_of_the_host_needs_the_settings_leave(lab: Lab) -> None:
    ip("link", "add", "br-host", "type", "bridge")
    put_v3(lab, "host", "EXISTING", host_if_name="br-host", ip_addresses=["10.0.0.1/24"])
    lab.start_agent()
    reason = lab.until_state("host", "INVALID")["reason"]
    assert "--allow-existing br-host" in reason
    assert addresses(lab.link("br-host")) == []
    lab.kill_agent()
    lab.start_agent("--allow-existing", "br-host")
    lab.until_state("host", "APPLIED")
    assert addresses(lab.link("br-host")) == ["10.0.0.1/24"]
    delete_v3(lab, "host")
    until(lambda: not addresses(lab.link("br-host")), what=lab.logs)


def test_loopback(lab: Lab) -> None:
    inside = lab.space("made")
    lab.start_agent()
    put_v3(lab, "lo-made", "LOOPBACK", inside, enabled=True, ip_addresses=["10.255.0.1/32", "2001:db8::1/128"])
    lab.until_state("lo-made", "APPLIED")
    [lo] = json.loads(ip("-n", inside, "-j", "addr", "show", "dev", "lo"))
    told = [f"{a['local']}/{a['prefixlen']}" for a in lo["addr_info"]]
    assert set(told) == {"127.0.0.1/8", "10.255.0.1/32", "::1/128", "2001:db8::1/128"}
    assert "UP" in lo["flags"]
    delete_v3(lab, "lo-made")
    until(lambda: inside not in lab.spaces(), what=lab.logs)


def test_checksum_offloading(lab: Lab, space: str) -> None:
    lab.start_agent()
    pair = {"rx_checksum_offloading": "DISABLED", "tx_checksum_offloading": "DISABLED"}
    put_v3(lab, "a", "VETH", space, enabled=True, veth={"peer_if_name": "b", **pair})
    put_v3(lab, "b", "VETH", space, enabled=True, veth={"peer_if_name": "a"})
    lab.until_applied("a", "b")
    both_off = {"rx-checksumming": "off", "tx-checksumming": "off"}
    assert offloads(space, "a").items() >= both_off.items()
    assert offloads(space, "b").items() >= {"rx-checksumming": "on", "tx-checksumming": "on"}.items()
    ifindex = lab.link("a", space)["ifindex"]

    subprocess.run(["ip", "netns", "exec", space, "ethtool", "-K", "a", "tx", "on"], check=True, timeout=10)
    until(lambda: offloads(space, "a").items() >= both_off.items(), what=lab.logs)
    lab.until_state("a", "APPLIED", repairs=1)

    put_v3(lab, "a", "VETH", space, enabled=True, veth={"peer_if_name": "b"})
    until(lambda: offloads(space, "a").get("tx-checksumming") == "on", what=lab.logs)
    lab.until_applied("a")
    assert offloads(space, "a")["rx-checksumming"] == "on"
    assert lab.link("a", space)["ifindex"] == ifindex


def test_uplinks_are_found_by_their_routes(lab: Lab) -> None:
    del lab  # for its cleaning up
    try:
        ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
        ip("addr", "add", "10.77.0.1/24", "dev", "wan0")
        ip("link", "set", "dev", "wan0", "up")
        ip("link", "set", "dev", "wan1", "up")
        wan = json.loads(ip("-j", "link", "show", "dev", "wan0"))[0]["ifindex"]
        assert wan not in find_uplinks([])
        assert find_uplinks(addresses_of(["10.77.0.9"])) == {wan}
        assert find_uplinks(addresses_of(["127.0.0.1", "no.such.host.invalid"])) == {1}
        ip("route", "add", "default", "via", "10.77.0.2")
        assert wan in find_uplinks([])
    finally:
        ip("link", "del", "wan0", check=False)
