"""DUMMY: a link alone, made in one request where it is to be, with everything that every link has."""

from __future__ import annotations

import errno
import json
from ipaddress import ip_interface

import pytest
from kernel_rig import GROUP, MAC, Rig
from lab import Lab, addresses, ip, until
from linux import can_make
from world import NS, OWNER, observed, operations, planned

from ifagent.core.interface import Interface
from ifagent.core.kinds import Dummy
from ifagent.core.link import OperState
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operations import CreateLink, DeleteLink, LinkEnd, SetLink
from ifagent.formats import ligato_v1, ligato_v3

pytest_plugins = ["kernel_fixtures", "etcd_fixtures", "lab_fixtures"]

needs_dummy = pytest.mark.skipif("not can_make('dummy')", reason="this kernel makes no dummy links")


def test_what_is_said_of_it() -> None:
    for value in ({"type": 5}, {"type": "DUMMY"}):
        assert ligato_v1.decode(json.dumps({"name": "d", **value}).encode(), name="d").interface.kind == Dummy()
    interface = Interface(name="d", kind=Dummy(), mtu=100_000, ip_addresses=(ip_interface("10.0.0.1/32"),))
    for family in (ligato_v1, ligato_v3):
        assert family.decode(family.encode(interface), name="d").interface == interface
        assert family.decode(family.encode_binary(interface), name="d").interface == interface


def test_it_is_made_in_one_request() -> None:
    interface = Interface(name="d", kind=Dummy(), namespace=named("ns1"), mtu=9000, enabled=True)
    result = planned([interface], observed())
    assert operations(result) == ["CreateLink", "SetLink"]
    end = LinkEnd(NS[named("ns1")], HostName("d"), OWNER.default_mac("d"), 9000)
    assert CreateLink("dummy", (end,), OWNER.group) in result.steps


@pytest.mark.anyio
async def test_what_the_kernel_makes_of_it(rig: Rig, kernel_kind: str) -> None:
    if kernel_kind == "linux" and not can_make("dummy"):
        pytest.skip("this kernel makes no dummy links")
    await rig.add_namespaces("a")

    def create(host_name: str, mac: str = "", mtu: int = 0) -> CreateLink:
        return CreateLink("dummy", (LinkEnd(rig.id("a"), HostName(host_name), mac, mtu),), GROUP)

    assert await rig.do(create("d0", MAC.format(1), 100_000)) == 0
    link = rig.link("a", "d0")
    assert (link.kind, link.mac, link.mtu, link.group, link.peer) == ("dummy", MAC.format(1), 100_000, GROUP, None)
    assert (link.up, link.carrier, link.min_mtu, link.max_mtu) == (False, True, 0, 0)
    assert await rig.do(SetLink(target=rig.target("a", "d0"), up=True, alias="mine", mtu=68)) == 0
    await rig.until(lambda: rig.link("a", "d0").operstate is OperState.UNKNOWN)
    assert (rig.link("a", "d0").alias, rig.link("a", "d0").mtu) == ("mine", 68)
    assert await rig.do(create("d0")) == errno.EEXIST
    assert await rig.do(create("d1")) == 0
    assert rig.link("a", "d1").mtu == 1500
    assert await rig.do(DeleteLink(rig.target("a", "d0"))) == 0
    assert rig.host_names("a") & {"d0", "d1"} == {"d1"}


@needs_dummy
@pytest.mark.kernel
@pytest.mark.etcd
def test_it_is_kept_as_it_is_declared(lab: Lab) -> None:
    space, other = lab.space("s"), lab.space("o")
    value = {
        "name": "d",
        "type": 5,
        "enabled": True,
        "namespace": {"type": 2, "name": space},
        "mtu": 9000,
        "phys_address": "02:00:00:00:00:0d",
        "ip_addresses": ["10.0.0.1/32", "2001:db8::1/128"],
    }
    lab.put(value)
    lab.start_agent()
    lab.until_applied("d")
    link = lab.link("d", space)
    assert (link["mtu"], link["address"]) == (9000, "02:00:00:00:00:0d")
    assert addresses(link) == ["10.0.0.1/32", "2001:db8::1/128"]

    ip("-n", space, "link", "set", "dev", "d", "mtu", "1400")
    until(lambda: lab.link("d", space)["mtu"] == 9000, what=lab.logs)
    ip("-n", space, "link", "del", "dev", "d")
    until(lambda: lab.link("d", space).get("mtu") == 9000, what=lab.logs)

    lab.put({**value, "host_if_name": "lo1", "mtu": 1500})
    until(lambda: lab.link("lo1", space).get("mtu") == 1500, what=lab.logs)
    lab.put({**value, "namespace": {"type": 2, "name": other}})
    until(lambda: lab.link("d", other).get("mtu") == 9000 and not lab.links(space), what=lab.logs)
    lab.kill_agent()
    lab.delete("d")
    lab.start_agent()
    until(lambda: not lab.links(other) and not lab.states(), what=lab.logs)
