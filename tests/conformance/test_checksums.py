"""Checksum offloading, which the kernel tells of only when it is asked."""

from __future__ import annotations

import errno

import pytest
from kernel_rig import Rig

from ifagent.core.link import Checksums, LinkId
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import SetChecksums, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


async def make(rig: Rig) -> tuple[Target, LinkId]:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e0"), up=True)
    return rig.target("a", "e0"), rig.link("a", "e0").id


async def test_it_is_told_of_links_that_were_asked_about(rig: Rig) -> None:
    e0, id_ = await make(rig)
    assert rig.link("a", "e0").checksums is None
    await rig.kernel.inspect({id_})
    assert rig.link("a", "e0").checksums == Checksums(rx=True, tx=True)
    assert rig.link("b", "e0").checksums is None
    assert await rig.do(SetChecksums(e0, Checksums(rx=True, tx=False))) == 0
    assert rig.link("a", "e0").checksums == Checksums(rx=True, tx=False)
    await rig.attach("a")
    assert rig.link("a", "e0").checksums == Checksums(rx=True, tx=False)
    await rig.kernel.inspect(())
    assert rig.link("a", "e0").checksums is None


async def test_what_somebody_else_switches_is_told(rig: Rig) -> None:
    _, id_ = await make(rig)
    await rig.kernel.inspect({id_})
    rig.external.set_checksums("a", "e0", rx=False, tx=False)
    await rig.until(lambda: rig.link("a", "e0").checksums == Checksums(rx=False, tx=False))
    rig.external.set_link("a", "e0", mtu=1400)
    await rig.until(lambda: rig.link("a", "e0").mtu == 1400)
    assert rig.link("a", "e0").checksums == Checksums(rx=False, tx=False)


async def test_a_renamed_link_keeps_it(rig: Rig) -> None:
    e0, id_ = await make(rig)
    await rig.kernel.inspect({id_})
    assert await rig.do(SetChecksums(e0, Checksums(rx=False, tx=True))) == 0
    assert await rig.do(SetLink(target=e0, host_name=HostName("f0"))) == 0
    assert rig.link("a", "f0").checksums == Checksums(rx=False, tx=True)
    assert await rig.do(SetChecksums(e0, Checksums())) == 0
    assert rig.link("a", "f0").checksums == Checksums()


async def test_a_link_that_is_gone(rig: Rig) -> None:
    e0, id_ = await make(rig)
    rig.external.delete_link("a", "e0")
    await rig.until(lambda: "e0" not in rig.host_names("a"))
    assert await rig.do(SetChecksums(e0, Checksums(rx=False))) == errno.ENODEV
    await rig.kernel.inspect({id_})
    assert "e0" not in rig.host_names("a")
