"""What somebody else does is seen, whatever it is."""

from __future__ import annotations

import errno

import pytest
from kernel_rig import MAC, Rig, address, gone

from ifagent.core.link import OperState
from ifagent.core.names import HostName
from ifagent.core.operations import AddAddress, DeleteLink, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


async def make(rig: Rig, *, up: bool = False) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=up)


async def test_attributes(rig: Rig) -> None:
    await make(rig)
    before = rig.link("a", "e0")
    rig.external.set_link("a", "e0", mac=MAC.format(5), mtu=1400, group=17, alias="somebody's", up=True)
    await rig.until(lambda: rig.link("a", "e0").up)
    await rig.until(lambda: rig.link("a", "e0").alias == "somebody's")
    link = rig.link("a", "e0")
    assert (link.id, link.peer) == (before.id, before.peer)
    assert (link.mac, link.mtu, link.group) == (MAC.format(5), 1400, 17)


async def test_a_silent_change_is_seen_at_the_next_look(rig: Rig) -> None:
    await make(rig)
    # Linux tells nobody of a new alias or group while the link is down.
    rig.external.set_link("a", "e0", alias="somebody's")
    rig.external.set_link("a", "e0", group=17)
    await rig.attach("a")
    assert (rig.link("a", "e0").alias, rig.link("a", "e0").group) == ("somebody's", 17)


async def test_a_silent_change_is_told_with_the_next_one(rig: Rig) -> None:
    await make(rig)
    rig.external.set_link("a", "e0", alias="somebody's")
    rig.external.set_link("a", "e0", mtu=1400)
    await rig.until(lambda: rig.link("a", "e0").mtu == 1400)
    assert rig.link("a", "e0").alias == "somebody's"


async def test_rename(rig: Rig) -> None:
    await make(rig)
    before = rig.link("a", "e0").id
    rig.external.set_link("a", "e0", new_host_name="q0")
    await rig.until(lambda: rig.host_names("a") == {"q0"})
    assert rig.link("a", "q0").id == before


async def test_up_and_down(rig: Rig) -> None:
    await make(rig)
    for name, host_name in (("a", "e0"), ("b", "e1")):
        rig.external.set_link(name, host_name, up=True)
    await rig.until(lambda: rig.link("a", "e0").operstate is rig.link("b", "e1").operstate is OperState.UP)
    rig.external.set_link("b", "e1", up=False)
    await rig.until(lambda: not rig.link("a", "e0").carrier)
    await rig.until(lambda: not rig.link("b", "e1").up)


async def test_addresses(rig: Rig) -> None:
    await make(rig)
    for text in ("10.0.0.1/24", "10.0.0.2/24", "2001:db8::1/64", "2001:db8::2/64"):
        rig.external.add_address("a", "e0", text)
    expected = ["10.0.0.1/24", "10.0.0.2/24", "2001:db8::2/64", "2001:db8::1/64"]
    await rig.until(lambda: rig.addresses("a", "e0") == expected)
    rig.external.delete_address("a", "e0", "10.0.0.1/24")
    rig.external.delete_address("a", "e0", "2001:db8::1/64")
    await rig.until(lambda: rig.addresses("a", "e0") == ["2001:db8::2/64"])


async def test_delete(rig: Rig) -> None:
    await make(rig, up=True)
    near, far = rig.link("a", "e0").id, rig.link("b", "e1").id
    rig.external.delete_link("b", "e1")
    await rig.until(lambda: gone(rig, near) and gone(rig, far))


async def test_delete_and_make_again(rig: Rig) -> None:
    await make(rig)
    rig.external.delete_link("a", "e0")
    rig.external.add_veth("a", "e0", "b", "e1")
    await rig.until(lambda: rig.host_names("a") == {"e0"} and rig.link("a", "e0").group == 0)
    await rig.until(lambda: rig.host_names("b") == {"e1"} and rig.link("a", "e0").peer == rig.link("b", "e1").id)


async def test_move(rig: Rig) -> None:
    await make(rig, up=True)
    assert await rig.do(AddAddress(rig.target("a", "e0"), address("10.0.0.1/24"))) == 0
    rig.external.move_link("a", "e0", "b")
    await rig.until(lambda: rig.host_names("a") == set() and rig.host_names("b") == {"e0", "e1"})
    await rig.until(lambda: rig.link("b", "e1").peer == rig.link("b", "e0").id)
    link = rig.link("b", "e0")
    assert (link.peer, link.up, link.addresses) == (rig.link("b", "e1").id, False, ())
    await rig.until(lambda: rig.link("b", "e1").operstate is OperState.LOWERLAYERDOWN)


async def test_foreign_links(rig: Rig) -> None:
    await make(rig)
    rig.external.add_bridge("a", "br")
    rig.external.add_veth("a", "v0", "a", "v1")
    await rig.until(lambda: rig.host_names("a") == {"e0", "br", "v0", "v1"})
    await rig.until(lambda: rig.link("a", "v0").peer == rig.link("a", "v1").id)
    assert [rig.link("a", name).kind for name in ("br", "v0", "v1")] == ["bridge", "veth", "veth"]
    assert {rig.link("a", name).group for name in ("br", "v0", "v1")} == {0}
    rig.external.set_link("a", "br", up=True)
    await rig.until(lambda: rig.link("a", "br").up and rig.link("a", "br").operstate is OperState.UNKNOWN)
    await rig.until(lambda: len(rig.addresses("a", "br", automatic=True)) == 1)


async def test_an_operation_on_a_link_that_somebody_deleted(rig: Rig) -> None:
    await make(rig)
    e0 = rig.target("a", "e0")
    rig.external.delete_link("a", "e0")
    assert await rig.do(SetLink(target=e0, mtu=1400)) == errno.ENODEV
    assert await rig.do(DeleteLink(e0)) == errno.ENODEV
    assert rig.host_names("a") == rig.host_names("b") == set()


async def test_a_name_that_somebody_took_a_moment_ago(rig: Rig) -> None:
    await make(rig)
    rig.external.add_bridge("a", "q0")
    assert await rig.do(SetLink(target=rig.target("a", "e0"), host_name=HostName("q0"))) == errno.EEXIST
    assert rig.host_names("a") == {"e0", "q0"}, "the drain after an operation tells what others did before it too"


async def test_ipv6_switched_off_and_on(rig: Rig) -> None:
    await make(rig, up=True)
    await rig.until(lambda: bool(rig.addresses("a", "e0", automatic=True)))
    rig.external.disable_ipv6("a")
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == [])
    rig.external.disable_ipv6("a", disabled=False)
    await rig.until(lambda: len(rig.addresses("a", "e0", automatic=True)) == 1)
