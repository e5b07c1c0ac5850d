"""The keys of ligato v1.4.1 and of ligato v3 side by side in one store, for one agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import Lab, addresses, veth
from linux import can_make

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


def key_v3(lab: Lab, name: str) -> str:
    return f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}"


def veth_v3(name: str, peer: str, space: str, **fields: Any) -> dict[str, Any]:
    """Return a value of v3 as its tools write it: camelCase and enums by name."""
    value = {"name": name, "type": "VETH", "enabled": True, "veth": {"peerIfName": peer}}
    return {**value, "namespace": {"type": "NSID", "reference": space}, **fields}


def put(lab: Lab, values: dict[str, dict[str, Any]]) -> None:
    """Put values by key, in one transaction."""
    puts = "\n".join(f"put {key} {json.dumps(json.dumps(value))}" for key, value in values.items())
    lab.etcd.ctl("txn", given=f"\n{puts}\n\n\n".encode())


def test_a_pair_with_one_end_in_each_family(lab: Lab) -> None:
    lab.start_agent()
    left, right = lab.space("l"), lab.space("r")
    one = veth_v3("one", "other", left, mtu="1400", hostIfName="eth1", ipAddresses=["10.0.0.1/24"])
    put(lab, {key_v3(lab, "one"): one, lab.key("other"): veth("other", "one", right, mtu=1400)})
    lab.until_applied("one", "other")
    assert addresses(lab.link("eth1", left)) == ["10.0.0.1/24"]
    assert lab.link("other", right)["mtu"] == 1400


def test_of_two_values_that_of_v3_counts_and_the_other_comes_back(lab: Lab) -> None:
    lab.start_agent()
    space = lab.space("s")
    put(lab, {lab.key("a"): veth("a", "b", space, mtu=1400), lab.key("b"): veth("b", "a", space)})
    lab.until_applied("a", "b")
    ifindex = lab.link("a", space)["ifindex"]

    put(lab, {key_v3(lab, "a"): veth_v3("a", "b", space, mtu=1300)})
    state = lab.until_state("a", "APPLIED", mtu=1300)
    assert state["warnings"] == [f"is also declared under {lab.key('a')}, the ligato v3 value takes precedence"]
    assert state["applied_revision"] > lab.state("b")["applied_revision"]

    put(lab, {key_v3(lab, "a"): {"name": "a"}})
    state = lab.until_state("a", "INVALID")
    assert state["errors"][0]["field"] == "type"
    assert lab.link("a", space)["mtu"] == 1300

    put(lab, {lab.key("a"): veth("a", "b", space, mtu=1200)})
    lab.etcd.ctl("del", key_v3(lab, "a"))
    assert "warnings" not in lab.until_state("a", "APPLIED", mtu=1200)
    assert lab.link("a", space)["ifindex"] == ifindex

    lab.delete("a")
    lab.until_state("b", "PENDING")
    assert not lab.links(space)


def test_a_kind_that_this_kernel_does_not_have_is_named(lab: Lab) -> None:
    lab.start_agent()
    space = lab.space("s")
    value = {"name": "v", "type": "VRF_DEVICE", "vrf_dev": {"routing_table": 7}}
    put(lab, {key_v3(lab, "v"): value | {"namespace": {"type": "NSID", "reference": space}}})
    if can_make("vrf"):
        lab.until_applied("v")
    else:
        assert "this kernel has no vrf links" in lab.until_state("v", "FAILED")["reason"]
