"""What uses a lower link for itself: macvlans, ipvlans, a bridge or a bond; one of them at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from kind_battery import Battery, battery_on, interface, needs, pair

from ifagent import ConfigState
from ifagent.core.kinds import Bridge, Ipvlan, Macvlan, Vlan, VrfDevice
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import CreateLink, DeleteLink, LinkEnd, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def battery(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on(kernel_kind, tmp_path) as made:
        yield made


async def test_the_second_one_is_invalid_and_right_at_once_when_the_first_goes(
    battery: Battery, kernel_kind: str
) -> None:
    needs(kernel_kind, "macvlan", "ipvlan")
    battery.declare(*pair("l", "m"), interface("a", Macvlan(lower_if_name="l")))
    async with battery.run():
        await battery.applied("a")
        battery.declare(interface("b", Ipvlan(lower_if_name="l")))
        await battery.says(
            "b", ConfigState.INVALID, "interface a is on l too: a link that has macvlan links has no ipvlan"
        )
        battery.kernel.asked.clear()
        battery.declare(
            interface("c", Macvlan(lower_if_name="l")), interface("d", Macvlan(lower_if_name="l", mode="passthru"))
        )
        await battery.applied("c")
        await battery.says("d", ConfigState.INVALID, "a lower link of one with mode passthru has no others")
        battery.declared.remove("a")
        battery.declared.remove("c")
        battery.declared.remove("d")
        await battery.applied("b")


async def test_ipvlans_of_one_lower_link_have_one_mode(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "ipvlan")
    battery.declare(*pair("l", "m"), interface("a", Ipvlan(lower_if_name="l", mode="l2")))
    async with battery.run():
        await battery.applied("a")
        battery.declare(interface("b", Ipvlan(lower_if_name="l", mode="l3")))
        await battery.says(
            "b", ConfigState.INVALID, "all ipvlans of a lower link have one mode and one flag, l2 and bridge"
        )
        battery.change_kind("a", mode="l3")
        await battery.applied("a", "b")


async def test_a_port_is_no_lower_link_of_a_macvlan_but_of_a_vlan(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "macvlan", "bridge")
    near, far = pair("l", "m")
    battery.declare(replace(near, master_if_name="br"), far, interface("br", Bridge()))
    battery.declare(interface("a", Macvlan(lower_if_name="l")))
    async with battery.run():
        await battery.applied("l", "br")
        await battery.says(
            "a", ConfigState.INVALID, "its lower interface l is a port of br, which takes all of its packets"
        )
        battery.change("l", master_if_name="")
        await battery.applied("a")


async def test_a_port_of_a_vrf_is(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "macvlan", "vrf", "vlan")
    near, far = pair("l", "m")
    battery.declare(replace(near, vrf_master_interface="v"), far, interface("v", VrfDevice(routing_table=77)))
    battery.declare(interface("a", Macvlan(lower_if_name="l")), interface("b", Vlan(lower_if_name="l", id=7)))
    async with battery.run():
        await battery.applied("l", "v", "a", "b")


async def test_a_link_of_somebody_else_on_the_lower_link_is_named(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "macvlan", "ipvlan")
    battery.declare(*pair("l", "m"))
    async with battery.run():
        await battery.applied("l")
        lower = battery.link("l")
        end = LinkEnd(lower.id.namespace, HostName("theirs"), "", 0)
        await battery.kernel.interfere(CreateLink("ipvlan", (end,), 0, (("mode", "l2"),), lower.id))
        battery.declare(interface("a", Macvlan(lower_if_name="l")))
        await battery.says("a", ConfigState.FAILED, "theirs (ipvlan, ifindex")
        (theirs,) = (link for link in battery.kernel.links.values() if link.host_name == "theirs")
        await battery.kernel.interfere(DeleteLink(Target.of(theirs)))
        await battery.applied("a")


async def test_a_bridge_of_somebody_else_that_has_the_lower_link_is_named(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "macvlan", "bridge")
    battery.declare(*pair("l", "m"))
    async with battery.run():
        await battery.applied("l")
        end = LinkEnd(battery.link("l").id.namespace, HostName("theirs"), "", 0)
        await battery.kernel.interfere(CreateLink("bridge", (end,), 0))
        await battery.until(lambda: "theirs" in {link.host_name for link in battery.kernel.links.values()})
        (theirs,) = (link for link in battery.kernel.links.values() if link.host_name == "theirs")
        await battery.kernel.interfere(SetLink(target=battery.target("l"), master=theirs.id.ifindex))
        battery.declare(interface("a", Macvlan(lower_if_name="l")))
        await battery.says("a", ConfigState.FAILED, "is a port of theirs (bridge, ifindex")
        await battery.kernel.interfere(SetLink(target=battery.target("l"), master=0))
        await battery.applied("a")
