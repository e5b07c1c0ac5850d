"""How fast links are, against what the drivers of this kernel say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kernel_rig import LinuxExternal, Rig, linux_rig

from ifagent.core.link import Duplex, Speed
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.linux import LinuxKernel

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with linux_rig(tmp_path) as running:
        await running.add_namespaces("a", "b")
        yield running


def inside(rig: Rig, *command: str) -> str:
    assert isinstance(rig.external, LinuxExternal)
    path = rig.external._directory / "a"
    done = subprocess.run(
        ["nsenter", f"--net={path}", *command], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout


def said(rig: Rig, host_name: str) -> Speed:
    """Return what ``ethtool`` says of a link."""
    text = inside(rig, "ethtool", host_name)
    speed, duplex = re.search(r"Speed: (\d+)Mb/s", text), re.search(r"Duplex: (\w+)", text)
    assert speed, text
    assert duplex, text
    return Speed(int(speed[1]) * 1_000_000, Duplex[duplex[1].upper()])


needs_ethtool = pytest.mark.skipif(shutil.which("ethtool") is None, reason="there is no ethtool to compare with")


async def test_what_is_taken_for_granted_of_a_veth_is_what_its_driver_says(rig: Rig) -> None:
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    assert isinstance(rig.kernel, LinuxKernel)
    for up in (False, True):
        for name, host_name in (("a", "e0"), ("b", "e1")):
            rig.external.set_link(name, host_name, up=up)
            lane, id_ = rig.kernel._lanes[rig.id(name)], rig.link(name, host_name).id
            assert lane.speeds([id_.ifindex]) == {id_: driver_of("veth").speed}


async def test_links_without_a_speed_have_none(rig: Rig) -> None:
    rig.external.add_bridge("a", "br")
    await rig.until(lambda: "br" in rig.host_names("a"))
    assert isinstance(rig.kernel, LinuxKernel)
    lane = rig.kernel._lanes[rig.id("a")]
    id_ = rig.link("a", "br").id
    assert lane.speeds([1, id_.ifindex, 999]) == {id_: Speed()}


@needs_ethtool
async def test_the_speed_of_a_tap_is_told_and_followed(rig: Rig) -> None:
    inside(rig, "ip", "tuntap", "add", "tap0", "mode", "tap")
    await rig.until(lambda: "tap0" in rig.host_names("a") and rig.link("a", "tap0").speed == said(rig, "tap0"))
    # Nobody is told of this, but it is asked for at the next look.
    inside(rig, "ethtool", "-s", "tap0", "speed", "100", "duplex", "half", "autoneg", "off")
    await rig.attach("a")
    await rig.until(lambda: rig.link("a", "tap0").speed == Speed(100_000_000, Duplex.HALF))
    assert said(rig, "tap0") == rig.link("a", "tap0").speed
