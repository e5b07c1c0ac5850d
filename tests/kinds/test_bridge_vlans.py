"""The VLANs of bridges' ports: as declared, in no others, and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kind_battery import Battery, battery_on, interface, needs, pair
from pydantic import ValidationError

from ifagent.core.kinds import Bridge, BridgePort, Dummy
from ifagent.core.operation import Target
from ifagent.core.operations import SetLink, SetPort
from ifagent.formats import ligato_v1, ligato_v3

pytest_plugins = ["kernel_fixtures"]

BRIDGE = Bridge(vlan_filtering=True)


@pytest.fixture
async def battery(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on(kernel_kind, tmp_path) as made:
        yield made


def declare(battery: Battery, port: BridgePort, bridge: Bridge = BRIDGE, name: str = "p") -> None:
    battery.declare(interface("b", bridge), *pair(name, f"{name}-peer", master_if_name="b", bridge_port=port))


def vlans(battery: Battery, name: str = "p") -> object:
    return dict(battery.link(name).port).get("vlans")


def is_in(battery: Battery, *texts: str, name: str = "p") -> bool:
    return vlans(battery, name) == texts and battery.is_applied(name)


@pytest.mark.anyio
async def test_a_port_is_in_what_it_says_and_in_nothing_else(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge with VLANs")
    declare(battery, BridgePort(pvid=10, tagged=("20-30", "40")))
    async with battery.run():
        await battery.until(partial(is_in, battery, "10 pvid untagged", "20-30", "40"))
        link = battery.link("p").id
        # What was reported of another program: moved from one VLAN to another, the port was in both.
        battery.change("p", bridge_port=BridgePort(pvid=11, tagged=("20", "22-30")))
        await battery.until(partial(is_in, battery, "11 pvid untagged", "20", "22-30"))
        battery.change("p", bridge_port=BridgePort(pvid=20, untagged=("11",), tagged=("20",)))
        await battery.until(partial(is_in, battery, "11 untagged", "20 pvid"))
        battery.change("p", bridge_port=BridgePort(tagged=("1-4094",)))
        await battery.until(partial(is_in, battery, "1-4094"))
        battery.change("p", bridge_port=BridgePort(hairpin=True))
        await battery.until(partial(is_in, battery, "1 pvid untagged"))
        assert battery.link("p").id == link
        battery.change("p", bridge_port=BridgePort(pvid=7))
        await battery.until(partial(is_in, battery, "7 pvid untagged"))
    async with battery.run():
        await battery.applied("p", "b")
        assert battery.kernel.asked == []
        assert vlans(battery) == ("7 pvid untagged",)


@pytest.mark.anyio
async def test_drift_is_repaired_and_a_port_that_left_is_as_declared_again(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge with VLANs")
    declare(battery, BridgePort(pvid=10, tagged=("20",)))
    async with battery.run():
        await battery.until(partial(is_in, battery, "10 pvid untagged", "20"))
        target = battery.target("p")
        await battery.kernel.interfere(SetPort(target, "bridge", (("vlans", ("10 pvid untagged", "30")),)))
        await battery.until(lambda: bool(battery.kernel.asked))
        await battery.until(partial(is_in, battery, "10 pvid untagged", "20"))
        await battery.kernel.interfere(SetLink(target=target, master=0))
        await battery.until(lambda: battery.link("p").master != 0)
        await battery.until(partial(is_in, battery, "10 pvid untagged", "20"))
        await battery.kernel.interfere(SetLink(target=target, up=False))
        await battery.kernel.interfere(SetPort(target, "bridge", (("vlans", ()),)))
        await battery.until(partial(is_in, battery, "10 pvid untagged", "20"))


@pytest.mark.anyio
async def test_ports_that_say_nothing_of_vlans_are_in_the_bridges_own(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge with VLANs")
    declare(battery, BridgePort(hairpin=True), Bridge(vlan_filtering=True, vlan_default_pvid=9))
    declare(battery, BridgePort(pvid=5), Bridge(vlan_filtering=True, vlan_default_pvid=9), "q")
    async with battery.run():
        await battery.until(partial(is_in, battery, "9 pvid untagged"))
        battery.change_kind("b", vlan_default_pvid=8)
        await battery.until(partial(is_in, battery, "8 pvid untagged"))
        await battery.until(partial(is_in, battery, "5 pvid untagged", name="q"))
        battery.change_kind("b", vlan_default_pvid=0)
        await battery.until(partial(is_in, battery))


@pytest.mark.anyio
async def test_a_port_that_declares_nothing_is_left_to_others(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "bridge with VLANs")
    battery.declare(interface("b", BRIDGE), *pair("p", "q", master_if_name="b"))
    async with battery.run():
        await battery.applied("p", "b")
        target = Target.of(battery.link("p"))
        await battery.kernel.interfere(SetPort(target, "bridge", (("vlans", ("33",)),)))
        await battery.until(partial(is_in, battery, "33"))
        battery.change("b", mtu=1400)
        await battery.until(lambda: battery.link("b").mtu == 1400 and battery.is_applied("b"))
        assert vlans(battery) == ("33",)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"tagged": ("5-9",), "untagged": ("7",)}, "VLAN 7 is both tagged and untagged"),
        ({"tagged": ("0",)}, "is no VLAN id"),
        ({"pvid": 4095}, "less than or equal to 4094"),
    ],
)
def test_what_cannot_be_is_said(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        interface("p", Bridge(), master_if_name="b", bridge_port=BridgePort(**fields))


@pytest.mark.parametrize("family", [ligato_v1, ligato_v3], ids=["v1", "v3"])
def test_vlans_are_written_and_read_in_every_format(family: Any) -> None:
    port = BridgePort(pvid=10, untagged=("10", "30-31"), tagged=("20-29", "4094"))
    declared = interface("p", Dummy(), master_if_name="b", bridge_port=port)
    assert family.decode(family.encode(declared), name="p").interface == declared
    assert family.decode(family.encode_binary(declared), name="p").interface == declared
