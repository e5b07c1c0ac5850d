"""TAPs and TUNs that the agent makes, with real programs that have them open."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
from kind_battery import Battery, battery_on, interface, needs, pair
from linux import can_make

from ifagent import ConfigState
from ifagent.core.kinds import AutoTap, Bridge, TapDevice, TunDevice
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.operation import Target
from ifagent.core.operations import DeleteLink
from ifagent.kernel.tun import attach, flags_of, open_device
from ifagent.nsfs import OWN_NAMESPACE_PATH, in_netns

pytest_plugins = ["kernel_fixtures"]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.skipif(not can_make("tap"), reason="this kernel makes no TAPs"),
]


@pytest.fixture
async def battery(tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on("linux", tmp_path) as made:
        yield made


async def open_as_program(battery: Battery, tmp_path: Path, name: str) -> int:
    """Open the device of an interface as a program in its namespace does."""
    link = battery.link(name)

    def opened() -> int:
        home = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY)
        place = os.open(tmp_path / "netns" / "s", os.O_RDONLY)
        try:
            with in_netns(place, home=home):
                file = open_device()
        finally:
            os.close(home)
            os.close(place)
        attach(file, link.host_name, flags_of(dict(link.data)))
        return file

    return await anyio.to_thread.run_sync(opened)


async def test_a_program_gets_what_is_sent_and_a_restart_leaves_it_alone(battery: Battery, tmp_path: Path) -> None:
    battery.declare(interface("x", TunDevice()))
    async with battery.run():
        await battery.applied("x")
        assert not battery.link("x").carrier
        file = await open_as_program(battery, tmp_path, "x")
        try:
            await battery.until(lambda: battery.link("x").carrier)
            packet = bytes.fromhex("4500001c0000000040110000c0000201c00002020001000200080000")
            os.write(file, packet)
        finally:
            os.close(file)
        link = battery.link("x")
    async with battery.run():
        await battery.applied("x")
        assert battery.kernel.asked == []
        assert battery.link("x").id == link.id


async def test_who_may_open_it_is_changed_once_no_program_has_it_open(battery: Battery, tmp_path: Path) -> None:
    battery.declare(interface("x", TapDevice()))
    async with battery.run():
        await battery.applied("x")
        before = battery.link("x")
        file = await open_as_program(battery, tmp_path, "x")
        try:
            battery.change_kind("x", owner=pwd.getpwnam("nobody").pw_uid)
            await battery.says("x", ConfigState.RETRYING, "a program has the device open")
        finally:
            os.close(file)
        await battery.applied("x")
        assert dict(battery.link("x").data)["owner"] == pwd.getpwnam("nobody").pw_uid
        assert battery.link("x").id == before.id


async def test_it_goes_although_a_program_has_it_open(battery: Battery, tmp_path: Path) -> None:
    battery.declare(interface("x", TapDevice()))
    async with battery.run():
        await battery.applied("x")
        file = await open_as_program(battery, tmp_path, "x")
        try:
            battery.declared.remove("x")
            await battery.until(lambda: all(link.host_name != "x" for link in battery.kernel.links.values()))
            with pytest.raises(OSError, match=os.strerror(errno.EBADFD)):
                os.read(file, 2000)
        finally:
            os.close(file)


async def test_a_name_that_is_taken_is_told_and_then_had(battery: Battery) -> None:
    battery.external.add_veth("s", "x", "s", "other")
    battery.declare(interface("x", TapDevice()))
    async with battery.run():
        await battery.says("x", ConfigState.FAILED, "x (veth")
        for link in list(battery.kernel.links.values()):
            if link.host_name == "x":
                await battery.kernel.interfere(DeleteLink(Target.of(link)))
        await battery.applied("x")


async def test_a_tap_of_our_own_is_not_adopted(battery: Battery) -> None:
    own = NamespaceRef()
    name = HostName(f"it{os.getpid() % 100000}")
    battery.declare(interface("x", TapDevice(), own, host_if_name=name))
    async with battery.run():
        await battery.applied("x")
        battery.declare(interface("y", AutoTap(temp_if_name=name)))
        await battery.says("y", ConfigState.PENDING, "it is not a TAP that can be adopted")
        battery.declared.remove("x")
        await battery.until(lambda: all(link.host_name != name for link in battery.kernel.links.values()))


async def test_it_is_a_port_of_a_bridge(battery: Battery) -> None:
    needs("linux", "bridge")
    battery.declare(interface("b", Bridge()), interface("x", TapDevice(), master_if_name="b"), *pair("p", "q"))
    battery.declare(interface("t", TunDevice(), master_if_name="b"))
    async with battery.run():
        await battery.applied("b", "x")
        assert battery.link("x").master == battery.link("b").id.ifindex
        await battery.says("t", ConfigState.INVALID, "a tun link carries no Ethernet frames")
