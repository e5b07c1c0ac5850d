"""Kinds that the agent makes, alone or on a lower link: made, kept, changed, recreated, and told of.

Everything runs on the simulated kernel and on the real one, as far as that has the kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from kind_battery import Battery, battery_on, interface, needs, pair
from world import OWN, OWNER, observed, operations, realised, veth

from ifagent import ConfigState, Interface
from ifagent.core.desired import Desired
from ifagent.core.kinds import (
    Bond,
    Bridge,
    BridgePort,
    Dummy,
    Existing,
    Geneve,
    Ifb,
    Ipvlan,
    Macvlan,
    Macvtap,
    TapDevice,
    TunDevice,
    Tunnel,
    Vlan,
    VrfDevice,
    Vxlan,
)
from ifagent.core.kinds.contract import UpperKind
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operations import ChangeLink, CreateLink, DeleteLink, SetLink, SetPort
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.resources import interface_key

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio

ADDRESS = ip_interface("10.9.0.1/24")


class Case(NamedTuple):
    """A kind, what of it is changed in place, and what makes the link anew."""

    kind: Any
    in_place: dict[str, Any]
    anew: dict[str, Any]


CASES = {
    "dummy": Case(Dummy(), {}, {}),
    "ifb": Case(Ifb(), {}, {}),
    "vrf": Case(VrfDevice(routing_table=77), {}, {"routing_table": 78}),
    "bridge": Case(Bridge(), {"forward_delay": 4, "ageing_time": 60, "stp": True, "priority": 4096}, {}),
    "vlan": Case(
        Vlan(lower_if_name="l", id=7),
        {
            "reorder_hdr": False,
            "loose_binding": True,
            "egress_qos_map": ("2:5", "70000:7"),
            "ingress_qos_map": ("3:9",),
        },
        {"id": 8, "protocol": "802.1ad"},
    ),
    "macvlan": Case(Macvlan(lower_if_name="l"), {"mode": "private"}, {"mode": "passthru"}),
    "macvtap": Case(Macvtap(lower_if_name="l"), {"mode": "vepa"}, {"mode": "passthru"}),
    "bond": Case(
        Bond(mode="active_backup"),
        {"miimon": 50, "num_peer_notif": 3, "primary_reselect": "better"},
        {"mode": "802_3ad"},
    ),
    "vxlan": Case(
        Vxlan(vni=5, remote="192.0.2.1"), {"remote": "192.0.2.2", "learning": False, "ttl": 9}, {"vni": 6, "port": 4790}
    ),
    "geneve": Case(Geneve(vni=5, remote="192.0.2.1"), {"remote": "192.0.2.2", "ttl": 9}, {"vni": 6, "port": 6082}),
    "tap": Case(TapDevice(owner=0, group=0), {"owner": 1000, "group": 100}, {"multi_queue": True, "vnet_hdr": True}),
    "tun": Case(TunDevice(owner=0, group=4_000_000_000), {"owner": 7}, {"packet_info": True, "group": -1}),
    "ipvlan": Case(Ipvlan(lower_if_name="l"), {"mode": "l3", "flag": "private"}, {}),
}
TUNNELS: dict[str, dict[str, Any]] = {
    "gre": {"input_key": 7, "output_key": 8, "csum": True, "ttl": 9, "tos": 4, "remote": "192.0.2.2"},
    "gretap": {"input_key": 7, "seq": True, "remote": "192.0.2.2", "local": ""},
    "ipip": {"ttl": 9, "remote": "192.0.2.2"},
    "sit": {"tos": 4, "remote": "192.0.2.2"},
    "ip6gre": {"output_key": 8, "hop_limit": 9, "tos": 4, "flow_label": 77, "remote": "2001:db8::2"},
    "ip6gretap": {"ignore_encap_limit": True, "encap_limit": 5, "remote": "2001:db8::2"},
    "ip6tnl": {"protocol": "ip6ip6", "hop_limit": 9, "flow_label": 77, "remote": "2001:db8::2"},
}
"""What of tunnels is changed in place, by their modes."""

for mode, in_place in TUNNELS.items():
    ends = ("2001:db8::1", "2001:db8::9") if "6" in mode else ("192.0.2.1", "192.0.2.9")
    CASES[mode] = Case(Tunnel(mode=mode, remote=ends[0], local=ends[1]), in_place, {})  # type: ignore[arg-type]

UPPERS = [name for name, case in CASES.items() if isinstance(case.kind, UpperKind)]


@pytest.fixture
async def battery(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on(kernel_kind, tmp_path) as made:
        yield made


def declare(battery: Battery, name: str) -> Case:
    case = CASES[name]
    if name in UPPERS:
        battery.declare(*pair("l", "m"))
    battery.declare(interface("x", case.kind, ip_addresses=(ADDRESS,)))
    return case


@pytest.mark.parametrize("name", CASES)
async def test_it_is_made_and_a_restart_writes_nothing(battery: Battery, kernel_kind: str, name: str) -> None:
    needs(kernel_kind, name)
    declare(battery, name)
    async with battery.run():
        await battery.applied("x")
        link = battery.link("x")
        assert link.kind == CASES[name].kind.kernel_kind
        assert link.up
        assert ADDRESS in [address.interface for address in link.addresses]
        assert sum(isinstance(each, CreateLink) for each in battery.kernel.asked) == 1 + (name in UPPERS)
    async with battery.run():
        await battery.applied("x")
        assert battery.kernel.asked == []
        assert battery.link("x").id == link.id


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, case in CASES.items() for f in case.in_place])
async def test_a_setting_is_changed_in_place_and_drift_of_it_repaired(
    battery: Battery, kernel_kind: str, name: str, field: str
) -> None:
    needs(kernel_kind, name)
    case = declare(battery, name)
    async with battery.run():
        await battery.applied("x")
        link, wanted, default = battery.link("x"), case.in_place[field], getattr(case.kind, field)
        battery.change_kind("x", **{field: wanted})
        await battery.until(lambda: dict(battery.link("x").data)[field] == wanted and battery.is_applied("x"))
        assert battery.link("x").id == link.id
        battery.kernel.asked.clear()
        # The kernel forgets what of a tunnel it is not told again.
        others = battery.link("x").data if isinstance(case.kind, Tunnel) else ()
        data = tuple((dict(others) | {field: default}).items())
        now = battery.link("x").data
        await battery.kernel.interfere(ChangeLink(battery.target("x"), link.kind, data, before=now))
        await battery.until(lambda: bool(battery.kernel.asked))
        await battery.until(lambda: dict(battery.link("x").data)[field] == wanted and battery.is_applied("x"))
        battery.change_kind("x", **{field: default})
        await battery.until(lambda: dict(battery.link("x").data)[field] == default and battery.is_applied("x"))
        assert battery.link("x").id == link.id


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, case in CASES.items() for f in case.anew])
async def test_what_cannot_be_changed_is_made_anew(battery: Battery, kernel_kind: str, name: str, field: str) -> None:
    needs(kernel_kind, name)
    case = declare(battery, name)
    async with battery.run():
        await battery.applied("x")
        before, wanted = battery.link("x"), case.anew[field]
        battery.change_kind("x", **{field: wanted})
        await battery.until(lambda: dict(battery.link("x").data)[field] == wanted and battery.is_applied("x"))
        assert battery.link("x").id != before.id
        assert ADDRESS in [address.interface for address in battery.link("x").addresses]


@pytest.mark.parametrize("name", CASES)
async def test_what_every_link_has_is_changed_in_place(battery: Battery, kernel_kind: str, name: str) -> None:
    needs(kernel_kind, name)
    declare(battery, name)
    async with battery.run():
        await battery.applied("x")
        before = battery.link("x")
        battery.change("x", mtu=1400, host_if_name="y", enabled=False, ip_addresses=())
        await battery.until(lambda: battery.link("x").mtu == 1400 and not battery.link("x").up)
        await battery.applied("x")
        link = battery.link("x")
        assert (link.id, link.host_name, link.addresses) == (before.id, "y", ())
        await battery.kernel.interfere(SetLink(target=battery.target("x"), mtu=1300))
        await battery.until(lambda: battery.link("x").mtu == 1400)
        await battery.kernel.interfere(DeleteLink(battery.target("x")))
        await battery.until(lambda: battery.link("x").id != before.id and battery.is_applied("x"))
        battery.declared.remove("x")
        await battery.until(lambda: all(link.host_name != "y" for link in battery.kernel.links.values()))


@pytest.mark.parametrize("name", UPPERS)
async def test_it_waits_for_its_lower_link_and_comes_back_with_it(
    battery: Battery, kernel_kind: str, name: str
) -> None:
    needs(kernel_kind, name)
    case = CASES[name]
    battery.declare(interface("x", case.kind, ip_addresses=(ADDRESS,)))
    async with battery.run():
        await battery.says("x", ConfigState.PENDING, "lower interface l is not declared")
        battery.declare(*pair("l", "m"))
        await battery.applied("x", "l")
        lower, link = battery.link("l"), battery.link("x")
        assert link.lower == lower.id
        await battery.kernel.interfere(DeleteLink(battery.target("l")))
        await battery.until(lambda: battery.link("x").lower == battery.link("l").id != lower.id)
        await battery.applied("x", "l", "m")
        battery.change("l", mtu=1400)
        await battery.until(lambda: battery.link("x").mtu == 1400 and battery.is_applied("x"))
        battery.change("l", mtu=1500)
        await battery.until(lambda: battery.link("x").mtu == 1500 and battery.is_applied("x"))
        battery.declared.remove("l")
        await battery.says("x", ConfigState.PENDING, "lower interface l is not declared")
        await battery.until(lambda: not {"x", "l"} & {link.host_name for link in battery.kernel.links.values()})


@pytest.mark.parametrize("name", UPPERS)
async def test_its_lower_link_may_be_in_another_namespace(battery: Battery, kernel_kind: str, name: str) -> None:
    """Before Linux 6.18 the kernel makes the link beside its lower one, where the name is taken here, and moves it."""
    needs(kernel_kind, name)
    battery.declare(*pair("l", "m"), *pair("x-there", "y-there", host_if_name="x"))
    battery.declare(interface("x", CASES[name].kind, named("t"), ip_addresses=(ADDRESS,)))
    async with battery.run():
        await battery.applied("x", "l", "x-there")
        link, lower = battery.link("x"), battery.link("l")
        assert link.lower == lower.id
        assert link.id.namespace != lower.id.namespace
        assert (link.host_name, link.up) == ("x", True)
        await battery.kernel.interfere(DeleteLink(battery.target("l")))
        await battery.until(lambda: battery.link("x").lower == battery.link("l").id != lower.id)
        await battery.applied("x", "l")
    async with battery.run():
        await battery.applied("x", "l")
        assert battery.kernel.asked == []


async def test_a_vlan_is_down_with_its_lower_link_and_that_is_said(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "vlan")
    near, far = pair("l", "m", enabled=False)
    battery.declare(near, far, interface("x", Vlan(lower_if_name="l", id=7)))
    async with battery.run():
        await battery.says("x", ConfigState.PENDING, "interface l, is down")
        assert not battery.link("x").up
        battery.change("l", enabled=True)
        await battery.applied("x")
        assert battery.link("x").up
        battery.change("l", enabled=False)
        await battery.says("x", ConfigState.PENDING, "interface l, is down")
        state = battery.state("x")
        assert state is not None
        assert state.repairs == 0


async def test_the_wanted_mtu_is_given_once_the_lower_link_has_room(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "macvlan")
    battery.declare(*pair("l", "m", mtu=1400), interface("x", Macvlan(lower_if_name="l"), mtu=1500))
    async with battery.run():
        await battery.says("x", ConfigState.PENDING, "mtu 1500 is more than the 1400 bytes of its lower interface l")
        assert battery.link("x").mtu == 1400
        battery.change("l", mtu=9000)
        await battery.applied("x")
        assert battery.link("x").mtu == 1500


async def test_what_sits_on_itself_is_invalid(battery: Battery) -> None:
    for name, lower in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        battery.declare(interface(name, Vlan(lower_if_name=lower, id=7)))
    async with battery.run():
        await battery.says("a", ConfigState.INVALID, "it sits on itself: a on b on c on a")
        await battery.says("d", ConfigState.PENDING, "lower interface a is blocked")


@pytest.mark.parametrize("name", ["bridge", "vrf", "bond"])
async def test_ports_join_leave_and_follow_their_master(battery: Battery, kernel_kind: str, name: str) -> None:
    needs(kernel_kind, name)
    battery.declare(*pair("p", "q", master_if_name="x", ip_addresses=(ADDRESS, ip_interface("2001:db8::9/64"))))
    async with battery.run():
        await battery.says("p", ConfigState.PENDING, "master interface x is not declared")
        battery.declare(interface("x", CASES[name].kind))
        await battery.applied("p", "q", "x")
        assert battery.link("p").master == battery.link("x").id.ifindex
        before = battery.link("p").id
        await battery.kernel.interfere(SetLink(target=battery.target("p"), master=0))
        await battery.until(lambda: battery.link("p").master == battery.link("x").id.ifindex)
        await battery.kernel.interfere(DeleteLink(battery.target("x")))
        await battery.until(lambda: battery.link("p").master == battery.link("x").id.ifindex != 0)
        await battery.applied("p", "q", "x")
        await battery.until(lambda: len(battery.link("p").addresses) >= 2 and battery.is_applied("p"))
        battery.change("p", master_if_name="")
        await battery.until(lambda: battery.link("p").master == 0 and battery.is_applied("p"))
        battery.change("p", master_if_name="x")
        await battery.until(lambda: battery.link("p").master != 0 and battery.is_applied("p"))
        assert battery.link("p").id == before
        battery.declared.remove("x")
        await battery.says("p", ConfigState.PENDING, "master interface x is not declared")
        assert battery.link("p").id == before


def is_port_of(battery: Battery, master: int) -> bool:
    return battery.link("p").master == master


@pytest.mark.parametrize(
    ("kind", "joins", "steps"),
    [
        (VrfDevice(routing_table=7), True, ["SetLink", "AddAddress"]),
        (VrfDevice(routing_table=7), False, ["SetLink", "AddAddress"]),
        (Bond(mode="active_backup"), True, ["SetLink", "AddAddress"]),
        (Bond(mode="active_backup"), False, ["SetLink", "SetLink", "AddAddress"]),
        (Bridge(), True, ["SetLink"]),
        (Bridge(), False, ["SetLink"]),
    ],
)
def test_what_joining_and_leaving_takes_is_put_back_in_the_same_plan(kind: Any, joins: bool, steps: list[str]) -> None:
    addresses = (ADDRESS, ip_interface("2001:db8::9/64"))
    master = Interface(name="m", kind=kind, enabled=True)
    port = Interface(name="d", kind=Dummy(), enabled=True, ip_addresses=addresses, master_if_name="m" if joins else "")
    links = (
        realised(master, 5, kind=kind.kernel_kind, data=kind.data()),
        realised(port, 6, kind="dummy", master=0 if joins else 5),
    )
    result = plan(Desired({"m": master, "d": port}), observed(links), OWNER)
    on_port = [step for wave in result.waves() for step in wave if 6 in {target.ifindex for target in step.targets}]
    assert [type(step).__name__ for step in on_port] == steps


@pytest.mark.parametrize("name", ["vrf", "bond", "bridge"])
async def test_no_port_is_applied_without_the_ipv6_addresses_that_joining_takes(
    battery: Battery, kernel_kind: str, name: str
) -> None:
    needs(kernel_kind, name)
    address = ip_interface("2001:db8::9/64")
    battery.declare(interface("x", CASES[name].kind), *pair("p", "q", ip_addresses=(ADDRESS, address)))
    async with battery.run() as agent, anyio.create_task_group() as tasks:
        await battery.applied("p", "q", "x")
        without: list[str] = []

        async def follow() -> None:
            async for event in agent.states(name="p"):
                state = event.state
                if state and state.config_state is ConfigState.APPLIED and address not in state.ip_addresses:
                    without.append(f"master {state.master}: {state.ip_addresses}")

        tasks.start_soon(follow)
        for master in ("x", "", "x", ""):
            battery.change("p", master_if_name=master)
            wanted = battery.link("x").id.ifindex if master else 0
            await battery.until(partial(is_port_of, battery, wanted))
            await battery.applied("p")
            assert battery.link("p").up
        tasks.cancel_scope.cancel()
    assert without == []
    state = battery.state("p")
    assert state is not None
    assert state.repairs == 0


async def test_ports_of_a_bond_have_its_mac_and_mtu_and_that_is_no_drift(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bond")
    battery.declare(interface("x", Bond(mode="active_backup", primary_if_name="p"), mtu=1400))
    for name in "pr":
        battery.declare(*pair(name, f"{name}-peer", master_if_name="x", mtu=9000))
    async with battery.run():
        await battery.applied("p", "r", "x")
        bond = battery.link("x")
        assert {(battery.link(name).mac, battery.link(name).mtu) for name in "pr"} == {(bond.mac, 1400)}
        assert all(battery.link(name).up for name in "pr")
        await battery.until(lambda: dict(battery.link("x").data)["primary"] == battery.link("p").id.ifindex)
        battery.change("p", enabled=False)
        await battery.until(lambda: not battery.link("p").up and battery.is_applied("p"))
        battery.change("p", enabled=True, master_if_name="")
        await battery.until(lambda: battery.link("p").up and battery.link("p").mtu == 9000 and battery.is_applied("p"))
        assert battery.link("p").mac != bond.mac
        assert battery.link("x").id == bond.id
    async with battery.run():
        await battery.applied("p", "r", "x")
        assert battery.kernel.asked == []


@pytest.mark.parametrize(("field", "wanted"), [("lacp_rate", "fast"), ("ad_select", "count")])
async def test_what_a_bond_takes_only_while_it_is_down_is_changed_in_place(
    battery: Battery, kernel_kind: str, field: str, wanted: str
) -> None:
    needs(kernel_kind, "bond")
    addresses = (ADDRESS, ip_interface("2001:db8::9/64"))
    battery.declare(interface("x", Bond(mode="802_3ad"), ip_addresses=addresses))
    battery.declare(*pair("p", "q", master_if_name="x"))
    async with battery.run():
        await battery.applied("x", "p")
        before = battery.link("x").id
        battery.change_kind("x", **{field: wanted})
        await battery.until(lambda: dict(battery.link("x").data)[field] == wanted and battery.is_applied("x"))
        link = battery.link("x")
        assert (link.id, link.up) == (before, True)
        assert set(addresses) <= {address.interface for address in link.addresses}
        assert battery.link("p").master == before.ifindex
        battery.change("x", enabled=False)
        await battery.until(lambda: not battery.link("x").up and battery.is_applied("x"))
        battery.change_kind("x", **{field: getattr(Bond(mode="802_3ad"), field)})
        await battery.until(lambda: dict(battery.link("x").data)[field] != wanted and battery.is_applied("x"))
        assert not battery.link("x").up


async def test_a_vxlan_has_room_for_its_headers_on_the_link_that_it_sends_by(
    battery: Battery, kernel_kind: str
) -> None:
    needs(kernel_kind, "vxlan")
    battery.declare(*pair("l", "m"))
    battery.declare(interface("x", Vxlan(vni=5, remote="239.1.1.1", lower_if_name="l")))
    async with battery.run():
        await battery.applied("x")
        assert battery.link("x").mtu == 1450
        assert battery.link("x").lower == battery.link("l").id
        battery.change("l", mtu=1600)
        await battery.until(lambda: battery.link("x").mtu == 1550 and battery.is_applied("x"))
        await battery.kernel.interfere(DeleteLink(battery.target("l")))
        await battery.applied("x", "l")
        await battery.until(lambda: battery.link("x").lower == battery.link("l").id)
        battery.change_kind("x", lower_if_name="", remote="192.0.2.1")
        await battery.until(lambda: battery.link("x").lower is None and battery.is_applied("x"))


async def test_a_port_is_as_declared_and_again_after_it_has_left(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge")
    battery.declare(interface("b", Bridge()))
    battery.declare(*pair("p", "q", master_if_name="b", bridge_port=BridgePort(hairpin=True, path_cost=7)))
    async with battery.run():
        await battery.applied("p", "b")
        port = dict(battery.link("p").port)
        assert (port["hairpin"], port["path_cost"], port["learning"]) == (True, 7, True)
        await battery.kernel.interfere(
            SetPort(battery.target("p"), "bridge", (("hairpin", False), ("learning", False)))
        )
        await battery.until(lambda: dict(battery.link("p").port)["learning"] is True and battery.is_applied("p"))
        assert dict(battery.link("p").port)["hairpin"] is True
        await battery.kernel.interfere(SetLink(target=battery.target("p"), master=0))
        await battery.until(lambda: dict(battery.link("p").port).get("path_cost") == 7 and battery.is_applied("p"))
        battery.change("p", bridge_port=BridgePort(isolated=True))
        await battery.until(lambda: dict(battery.link("p").port)["isolated"] is True and battery.is_applied("p"))
        assert dict(battery.link("p").port)["hairpin"] is False
    async with battery.run():
        await battery.applied("p", "b")
        assert battery.kernel.asked == []


async def test_what_has_no_ports_is_no_master(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge")
    battery.declare(*pair("p", "q", master_if_name="q"))
    battery.declare(interface("b", Bridge(), ip_addresses=()))
    async with battery.run():
        await battery.says("p", ConfigState.INVALID, "interface q is of type veth, which has no ports")
        assert battery.link("p").master == 0
        battery.change("p", vrf_master_interface="b", master_if_name="")
        await battery.says("p", ConfigState.INVALID, "interface b is no VRF device")


async def test_a_link_of_somebody_elses_is_a_port_as_long_as_it_is_declared(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge")
    battery.external.add_veth("s", "up0", "s", "other")
    battery.declare(interface("b", Bridge()), interface("e", Existing(), host_if_name="up0", master_if_name="b"))
    async with battery.run():
        await battery.applied("b", "e")
        assert battery.link("e").master == battery.link("b").id.ifindex
        battery.declared.remove("e")
        await battery.until(lambda: all(link.master == 0 for link in battery.kernel.links.values()))
        assert "up0" in {link.host_name for link in battery.kernel.links.values()}


@pytest.mark.parametrize("allowed", ["*", "up0"])
def test_a_link_of_the_host_is_made_a_port_only_if_it_is_allowed_by_its_name(allowed: str) -> None:
    bridge = Interface(name="b", kind=Bridge())
    port = Interface(name="e", kind=Existing(), host_if_name="up0", master_if_name="b", link_only=True)
    links = (
        realised(bridge, 5, kind="bridge"),
        replace(realised(veth("x", "y"), 6), host_name=HostName("up0"), alias="", group=0),
    )
    world = replace(observed(links), host=frozenset({OWN}))
    result = plan(Desired({"b": bridge, "e": port}), world, OWNER, Policy(existing=(allowed,)))
    if allowed == "*":
        obstacle = result.verdicts[interface_key("e")].obstacle
        assert obstacle is not None
        assert "--allow-existing up0" in obstacle.reason
        assert operations(result) == []
    else:
        assert [step.master for step in result.steps if isinstance(step, SetLink)] == [5]
