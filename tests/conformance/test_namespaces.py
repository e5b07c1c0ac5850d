from __future__ import annotations

import errno

import pytest
from kernel_rig import Rig, address, gone

from ifagent.core.events import LinksListed, NamespaceSeen, NamespacesListed
from ifagent.core.link import LOOPBACK_IFINDEX, NsId
from ifagent.core.namespace_ref import OWN_NAMESPACE, named
from ifagent.core.operations import AddAddress, CreateNamespace, RemoveNamespace, SetLink
from ifagent.errors import NamespaceUnavailable

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


async def test_the_first_words(rig: Rig) -> None:
    listed, own = rig.events[:2]
    assert isinstance(listed, NamespacesListed)
    assert isinstance(own, NamespaceSeen)
    assert (own.ref, own.id) == (OWN_NAMESPACE, rig.kernel.own)
    await rig.open(rig.kernel.own, own.path)
    assert rig.picture[rig.kernel.own][LOOPBACK_IFINDEX].host_name == "lo"


async def test_a_created_namespace_is_listed_and_marked(rig: Rig) -> None:
    assert await rig.do(CreateNamespace(named("a"), "the mark")) == 0
    assert set(rig.names) == {named("a")}
    assert rig.picture == {}, "nothing is listened to before it is attached"
    await rig.attach("a")
    (lo,) = rig.picture[rig.id("a")].values()
    assert (lo.host_name, lo.alias, lo.up, lo.addresses) == ("lo", "the mark", False, ())


async def test_create_what_exists(rig: Rig) -> None:
    rig.external.add_namespace("a")
    await rig.until(lambda: named("a") in rig.names)
    before = rig.id("a")
    assert await rig.do(CreateNamespace(named("a"), "mark")) == errno.EEXIST
    assert rig.id("a") == before
    await rig.attach("a")
    assert rig.link("a", "lo").alias == ""


async def test_create_twice_and_several(rig: Rig) -> None:
    outcomes = await rig.execute(*(CreateNamespace(named(name), "mark") for name in "abc"))
    assert {outcome.errno for outcome in outcomes} == {0}
    assert set(rig.names) == {named(name) for name in "abc"}
    assert len({rig.id(name) for name in "abc"}) == 3
    assert await rig.do(CreateNamespace(named("b"), "mark")) == errno.EEXIST


async def test_remove_with_links_in_it(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    await rig.make_pair(("a", "inner"), ("a", "inner2"))
    await rig.make_pair(("b", "stays"), ("b", "stays2"))
    id = rig.id("a")
    assert await rig.do(RemoveNamespace(named("a"), id)) == 0
    assert named("a") not in rig.names
    await rig.kernel.detach(id)
    assert id not in rig.picture
    await rig.until(lambda: rig.host_names("b") == {"stays", "stays2"})


async def test_remove_what_is_not_there(rig: Rig) -> None:
    await rig.add_namespaces("a")
    assert await rig.do(RemoveNamespace(named("nobody"), rig.id("a"))) == errno.ENOENT
    assert await rig.do(RemoveNamespace(named("a"), NsId(1))) == errno.ENOENT
    assert set(rig.names) == {named("a")}
    await rig.attach("a")


async def test_remove_and_create_again(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    first = rig.id("a")
    assert await rig.do(RemoveNamespace(named("a"), first)) == 0
    await rig.kernel.detach(first)
    await rig.until(lambda: rig.host_names("b") == set())
    await rig.add_namespaces("a")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    assert rig.host_names("a") == {"e0"}


async def test_namespaces_of_others_come_and_go(rig: Rig) -> None:
    rig.external.add_namespace("a")
    await rig.until(lambda: named("a") in rig.names)
    rig.external.add_namespace("b")
    await rig.until(lambda: set(rig.names) == {named("a"), named("b")})
    rig.external.remove_namespace("a")
    await rig.until(lambda: set(rig.names) == {named("b")})


async def test_attach_lists_everything(rig: Rig) -> None:
    rig.external.add_namespace("a")
    rig.external.add_bridge("a", "br")
    rig.external.set_link("a", "br", alias="somebody's", mtu=1400, group=5)
    rig.external.add_address("a", "br", "10.0.0.1/24")
    rig.external.add_address("a", "br", "10.0.0.2/24")
    await rig.until(lambda: named("a") in rig.names)
    await rig.attach("a")
    listed = rig.events[-1]
    assert isinstance(listed, LinksListed)
    assert listed.links is not None
    bridge = rig.link("a", "br")
    assert (bridge.kind, bridge.alias, bridge.mtu, bridge.group) == ("bridge", "somebody's", 1400, 5)
    assert (bridge.peer, bridge.carrier) == (None, True)
    assert rig.addresses("a", "br") == ["10.0.0.1/24", "10.0.0.2/24"]


async def test_attach_again_looks_again(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    assert await rig.do(AddAddress(rig.target("a", "e0"), address("10.0.0.1/24"))) == 0
    await rig.until(lambda: bool(rig.link("a", "e0").addresses))
    start = len(rig.events)
    before = rig.link("a", "e0").id
    await rig.attach("a")
    (listed,) = (e for e in rig.events[start:] if isinstance(e, LinksListed))
    assert listed.namespace == rig.id("a")
    assert listed.links is not None
    link = listed.links[before.ifindex]
    assert (link.id, link.peer) == (before, rig.link("b", "e1").id)
    assert address("10.0.0.1/24") in [a.interface for a in link.addresses]


async def test_attach_to_what_is_not_there(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    id, path = rig.names[named("a")]
    for wrong, leads in ((NsId(1), path), (rig.id("b"), path + "x"), (id, path + "x")):
        await rig.kernel.detach(wrong)
        rig.events.clear()
        with pytest.raises(NamespaceUnavailable):
            await rig.open(wrong, leads)
        assert not any(isinstance(e, LinksListed) and e.links is not None for e in rig.events)


async def test_a_name_that_leads_elsewhere_now(rig: Rig) -> None:
    rig.external.add_namespace("a")
    await rig.until(lambda: named("a") in rig.names)
    id, path = rig.names[named("a")]
    await rig.open(id, path)
    rig.external.remove_namespace("a")
    rig.external.add_namespace("a")
    await rig.until(lambda: named("a") in rig.names and rig.id("a") != id)
    await rig.kernel.detach(id)
    with pytest.raises(NamespaceUnavailable):
        await rig.open(id, path)
    await rig.open(*rig.names[named("a")])


async def test_a_namespace_lives_while_it_is_attached(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    id = rig.id("a")
    rig.external.remove_namespace("a")
    await rig.until(lambda: named("a") not in rig.names)
    assert rig.host_names("b") == {"e1"}
    (e0,) = (link for link in rig.picture[id].values() if link.host_name == "e0")
    peer = rig.link("b", "e1").id
    await rig.kernel.detach(id)
    await rig.until(lambda: gone(rig, peer))
    assert e0.id.namespace not in rig.picture


async def test_detach(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    id = rig.id("a")
    await rig.kernel.detach(id)
    assert LinksListed(id, None) in rig.events
    assert id not in rig.picture
    await rig.kernel.detach(id)
    rig.external.set_link("a", "e0", mtu=1400)
    rig.external.set_link("b", "e1", mtu=1300)
    await rig.until(lambda: rig.link("b", "e1").mtu == 1300)
    assert id not in rig.picture, "no word from a namespace that is not attached"
    await rig.attach("a")
    assert rig.link("a", "e0").mtu == 1400
    assert rig.link("a", "e0").peer == rig.link("b", "e1").id
    assert await rig.do(SetLink(target=rig.target("a", "e0"), mtu=1500)) == 0
    assert rig.link("a", "e0").mtu == 1500


async def test_a_peer_is_known_once_its_namespace_is_attached(rig: Rig) -> None:
    rig.external.add_namespace("a")
    rig.external.add_namespace("b")
    rig.external.add_veth("a", "e0", "b", "e1")
    await rig.until(lambda: {named("a"), named("b")} <= set(rig.names))
    await rig.attach("a")
    assert rig.link("a", "e0").kind == "veth"
    await rig.attach("b")
    rig.kernel.drain()
    await rig.until(lambda: rig.link("a", "e0").peer == rig.link("b", "e1").id)
    assert rig.link("b", "e1").peer == rig.link("a", "e0").id
