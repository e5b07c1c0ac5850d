"""What links count, and how fast they are, on both kernels."""

from __future__ import annotations

import pytest
from kernel_rig import Rig
from linux import linux_version

from ifagent.core.counters import LinkCounters
from ifagent.core.link import UNKNOWN_SPEED, Duplex, LinkId, Speed
from ifagent.core.names import HostName
from ifagent.core.operations import DeleteLink, MoveLink, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


async def make(rig: Rig, *, up: bool = True) -> None:
    """Make a pair on which nobody sends anything by himself."""
    await rig.add_namespaces("a", "b")
    for name in ("a", "b"):
        rig.external.disable_ipv6(name)
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=up)


async def counters(rig: Rig, name: str, host_name: str) -> LinkCounters:
    return (await rig.kernel.counters({rig.id(name)}))[rig.link(name, host_name).id]


async def test_both_ends_count_packets_and_bytes(rig: Rig) -> None:
    await make(rig)
    assert await counters(rig, "a", "e0") == LinkCounters()
    rig.external.send("a", "e0", packets=3, size=200)
    rig.external.send("b", "e1", packets=1, size=60)
    assert await counters(rig, "a", "e0") == LinkCounters(out_packets=3, out_bytes=600, in_packets=1, in_bytes=60)
    assert await counters(rig, "b", "e1") == LinkCounters(in_packets=3, in_bytes=600, out_packets=1, out_bytes=60)


async def test_what_is_sent_without_carrier_is_dropped(rig: Rig) -> None:
    await make(rig, up=False)
    assert await rig.do(SetLink(target=rig.target("a", "e0"), up=True)) == 0
    rig.external.send("a", "e0", packets=2)
    # Older kernels drop them where nobody counts.
    counted = 2 if rig.is_simulated or linux_version() >= (6, 12) else 0
    assert await counters(rig, "a", "e0") == LinkCounters(out_dropped=counted)
    assert await counters(rig, "b", "e1") == LinkCounters()


async def test_counts_outlive_everything_but_the_link(rig: Rig) -> None:
    await make(rig)
    rig.external.send("a", "e0", packets=5, size=100)
    sent = LinkCounters(out_packets=5, out_bytes=500)
    for up in (False, True):
        assert await rig.do(SetLink(target=rig.target("a", "e0"), up=up)) == 0
        assert await counters(rig, "a", "e0") == sent
    assert await rig.do(SetLink(target=rig.target("a", "e0"), host_name=HostName("f0"))) == 0
    assert await rig.do(MoveLink(rig.target("a", "f0"), rig.id("b"), HostName("f0"))) == 0
    assert await counters(rig, "b", "f0") == sent
    assert await rig.do(DeleteLink(rig.target("b", "f0"))) == 0
    await rig.make_pair(("a", "e0"), ("b", "f0"))
    assert await counters(rig, "b", "f0") == LinkCounters()


async def test_only_what_was_asked_for_is_read(rig: Rig) -> None:
    await make(rig)
    everything = await rig.kernel.counters({rig.id("a"), rig.id("b")})
    assert everything.keys() == {link.id for name in "ab" for link in rig.picture[rig.id(name)].values()}
    assert {id.namespace for id in await rig.kernel.counters({rig.id("a")})} == {rig.id("a")}
    assert await rig.kernel.counters(()) == {}


async def test_a_namespace_that_is_not_attached_has_none(rig: Rig) -> None:
    await make(rig)
    gone = rig.id("b")
    await rig.kernel.detach(gone)
    assert {id.namespace for id in await rig.kernel.counters({rig.id("a"), gone})} == {rig.id("a")}


async def test_reading_tells_what_happened_meanwhile(rig: Rig) -> None:
    await make(rig)
    rig.external.set_link("a", "e0", mtu=1400)
    await rig.kernel.counters({rig.id("b")})
    await rig.until(lambda: rig.link("a", "e0").mtu == 1400)


async def test_the_speed_of_links(rig: Rig) -> None:
    await make(rig, up=False)
    rig.external.add_bridge("a", "br")
    await rig.until(lambda: "br" in rig.host_names("a"))
    ten_gigabits = Speed(10_000_000_000, Duplex.FULL)
    assert rig.link("a", "e0").speed == rig.link("b", "e1").speed == ten_gigabits
    await rig.attach("a")
    assert rig.link("a", "e0").speed == ten_gigabits
    assert rig.link("a", "br").speed == rig.link("a", "lo").speed == UNKNOWN_SPEED
    assert rig.picture[rig.id("a")][1].id == LinkId(rig.id("a"), 1)
