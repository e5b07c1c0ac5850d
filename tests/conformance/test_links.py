from __future__ import annotations

import errno

import pytest
from kernel_rig import GROUP, MAC, Rig, address, gone

from ifagent.core.link import LOOPBACK_IFINDEX, LinkId, OperState
from ifagent.core.names import HostName
from ifagent.core.operation import Operation, Target
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress, DeleteLink, LinkEnd, MoveLink, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio

NAME_OF_15 = "abcdefghijklmno"
BAD_NAMES = [
    ("a/b", errno.EINVAL),
    ("a b", errno.EINVAL),
    ("a:b", errno.EINVAL),
    ("a\tb", errno.EINVAL),
    (".", errno.EINVAL),
    ("..", errno.EINVAL),
    ("all", errno.EINVAL),
    ("default", errno.EINVAL),
    ("\N{LATIN SMALL LETTER A WITH GRAVE}", errno.EINVAL),  # its second byte, 0xa0, is a space to the kernel
    ("lo", errno.EEXIST),
    ("taken", errno.EEXIST),
    (NAME_OF_15 + "p", errno.ERANGE),
]


async def test_pair_in_two_namespaces(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    macs = (MAC.format(1), MAC.format(2))
    assert await rig.do(rig.pair(("a", "e0"), ("b", "e1"), macs=macs, mtu=1400)) == 0
    near, far = rig.link("a", "e0"), rig.link("b", "e1")
    assert (near.peer, far.peer) == (far.id, near.id)
    assert (near.mac, far.mac) == macs
    for link in (near, far):
        assert (link.kind, link.mtu, link.group, link.alias) == ("veth", 1400, GROUP, "")
        assert (link.up, link.carrier, link.operstate) == (False, False, OperState.DOWN)
        assert link.addresses == ()


async def test_pair_in_one_namespace(rig: Rig) -> None:
    await rig.add_namespaces("a")
    await rig.make_pair(("a", "e0"), ("a", "e1"))
    near, far = rig.link("a", "e0"), rig.link("a", "e1")
    assert (near.peer, far.peer) == (far.id, near.id)
    assert near.id.ifindex != far.id.ifindex


async def test_both_ends_cannot_have_one_name(rig: Rig) -> None:
    await rig.add_namespaces("a")
    assert await rig.do(rig.pair(("a", "e0"), ("a", "e0"))) == errno.EEXIST
    assert rig.host_names("a") == set()


async def test_ends_may_differ_and_have_defaults(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    near = LinkEnd(rig.id("a"), HostName("e0"), "", 0)
    far = LinkEnd(rig.id("b"), HostName("e1"), MAC.format(7), 9000)
    assert await rig.do(CreateLink("veth", (near, far), 0)) == 0
    assert rig.link("a", "e0").mtu == 1500
    first = bytes.fromhex(rig.link("a", "e0").mac[:2])[0]
    assert first & 0b11 == 0b10, "a random MAC is an individual, locally administered one"
    assert (rig.link("b", "e1").mac, rig.link("b", "e1").mtu) == (MAC.format(7), 9000)


async def test_peers_are_told_apart_where_ifindexes_coincide(rig: Rig) -> None:
    await rig.add_namespaces("a", "b", "c")
    await rig.make_pair(("a", "x"), ("b", "x"))
    await rig.make_pair(("c", "y"), ("b", "y"))
    assert rig.link("a", "x").id.ifindex == rig.link("c", "y").id.ifindex
    for name in "ac":
        for link in rig.picture[rig.id(name)].values():
            if link.peer is not None:
                assert rig.picture[link.peer.namespace][link.peer.ifindex].peer == link.id
    assert rig.link("a", "x").peer == rig.link("b", "x").id
    assert rig.link("c", "y").peer == rig.link("b", "y").id


@pytest.mark.parametrize("end", ["near", "far"])
async def test_a_foreign_link_has_the_name(rig: Rig, end: str) -> None:
    await rig.add_namespaces("a", "b")
    rig.external.add_bridge("a" if end == "near" else "b", "taken")
    await rig.until(lambda: "taken" in rig.host_names("a") | rig.host_names("b"))
    before = dict(rig.picture)
    near, far = ("taken", "e1") if end == "near" else ("e0", "taken")
    assert await rig.do(rig.pair(("a", near), ("b", far))) == errno.EEXIST
    assert rig.picture == before


@pytest.mark.parametrize(("name", "number"), BAD_NAMES)
async def test_names_that_cannot_be(rig: Rig, name: str, number: int) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "taken"), ("b", "taken"))
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    host_names = rig.host_names("a") | rig.host_names("b")
    e0 = rig.target("a", "e0")
    assert await rig.do(rig.pair(("a", name), ("b", "free"))) == number
    assert await rig.do(rig.pair(("a", "free"), ("b", name))) == number
    assert await rig.do(SetLink(target=e0, host_name=HostName(name))) == number
    assert await rig.do(MoveLink(e0, rig.id("b"), HostName(name))) == number
    assert rig.host_names("a") | rig.host_names("b") == host_names


async def test_a_name_of_15_bytes(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", NAME_OF_15), ("b", "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 7))
    assert rig.host_names("a") == {NAME_OF_15}
    assert rig.host_names("b") == {"\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 7}


@pytest.mark.parametrize("mtu", [68, 65535])
async def test_mtu_at_the_limit(rig: Rig, mtu: int) -> None:
    await rig.add_namespaces("a", "b")
    assert await rig.do(rig.pair(("a", "e0"), ("b", "e1"), mtu=mtu)) == 0
    assert (rig.link("a", "e0").mtu, rig.link("b", "e1").mtu) == (mtu, mtu)
    await rig.make_pair(("a", "f0"), ("b", "f1"))
    assert await rig.do(SetLink(target=rig.target("a", "f0"), mtu=mtu)) == 0
    assert (rig.link("a", "f0").mtu, rig.link("b", "f1").mtu) == (mtu, 1500)


@pytest.mark.parametrize("mtu", [1, 67, 65536, 2**32 - 1])
async def test_mtu_beyond_the_limit(rig: Rig, mtu: int) -> None:
    await rig.add_namespaces("a", "b")
    assert await rig.do(rig.pair(("a", "e0"), ("b", "e1"), mtu=mtu)) == errno.EINVAL
    assert rig.host_names("a") == rig.host_names("b") == set()
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    (outcome,) = await rig.execute(SetLink(target=rig.target("a", "e0"), mtu=mtu))
    assert outcome.errno == errno.EINVAL
    assert "mtu" in outcome.text
    assert rig.link("a", "e0").mtu == 1500


@pytest.mark.parametrize("mac", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"])
async def test_macs_that_cannot_be(rig: Rig, mac: str) -> None:
    await rig.add_namespaces("a", "b")
    for macs in ((mac, ""), ("", mac)):
        assert await rig.do(rig.pair(("a", "e0"), ("b", "e1"), macs=macs)) == errno.EADDRNOTAVAIL
        assert rig.host_names("a") == rig.host_names("b") == set()
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    before = rig.link("a", "e0")
    assert await rig.do(SetLink(target=rig.target("a", "e0"), mac=mac)) == errno.EADDRNOTAVAIL
    assert rig.link("a", "e0") == before


async def test_all_attributes_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    before, other = rig.link("a", "e0"), rig.link("b", "e1")
    wanted = SetLink(
        target=rig.target("a", "e0"),
        host_name=HostName("q0"),
        mac=MAC.format(5),
        mtu=1300,
        up=True,
        alias="somebody's",
        group=17,
    )
    assert await rig.do(wanted) == 0
    link = rig.link("a", "q0")
    assert link.id == before.id
    assert (link.mac, link.mtu, link.up, link.alias, link.group) == (MAC.format(5), 1300, True, "somebody's", 17)
    assert rig.link("b", "e1") == other


async def test_attributes_on_a_link_that_is_up(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    before = rig.link("a", "e0")
    await rig.until(lambda: bool(rig.addresses("a", "e0", automatic=True)))
    automatic = rig.addresses("a", "e0", automatic=True)
    assert await rig.do(SetLink(target=rig.target("a", "e0"), mac=MAC.format(5), mtu=1300)) == 0
    link = rig.link("a", "e0")
    assert (link.id, link.mac, link.mtu, link.up) == (before.id, MAC.format(5), 1300, True)
    assert rig.addresses("a", "e0", automatic=True) == automatic, "a new MAC makes no new automatic address"
    assert await rig.do(SetLink(target=rig.target("a", "e0"), host_name=HostName("q0"), mac=MAC.format(6))) == 0
    link = rig.link("a", "q0")
    assert (link.id, link.mac, link.mtu, link.up) == (before.id, MAC.format(6), 1300, True)


async def test_alias(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    e0 = rig.target("a", "e0")
    for alias, number in (("x" * 255, 0), ("x" * 256, errno.ERANGE), ("", 0), ("\N{EURO SIGN}uro", 0)):
        before = rig.link("a", "e0").alias
        assert await rig.do(SetLink(target=e0, alias=alias)) == number
        assert rig.link("a", "e0").alias == (before if number else alias)


async def test_group(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    for group in (0, 1, 2**31, 2**32 - 1):
        assert await rig.do(SetLink(target=rig.target("a", "e0"), group=group)) == 0
        assert rig.link("a", "e0").group == group
    assert rig.link("b", "e1").group == GROUP


async def test_what_stands_before_the_refused_attribute_is_done(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    change = SetLink(
        target=rig.target("a", "e0"), mac=MAC.format(5), mtu=67, group=9, host_name=HostName("q0"), alias="x", up=True
    )
    assert await rig.do(change) == errno.EINVAL
    link = rig.link("a", "e0")
    assert (link.mac, link.mtu, link.group, link.alias, link.up) == (MAC.format(5), 1500, GROUP, "", False)


async def test_a_refused_name_comes_after_mtu_and_group(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    await rig.make_pair(("a", "taken"), ("b", "taken"))
    change = SetLink(target=rig.target("a", "e0"), mtu=1300, group=9, host_name=HostName("taken"), alias="x", up=True)
    assert await rig.do(change) == errno.EEXIST
    link = rig.link("a", "e0")
    assert (link.mtu, link.group, link.alias, link.up) == (1300, 9, "", False)


async def test_an_alias_too_long_stops_everything(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    before = rig.link("a", "e0")
    assert await rig.do(SetLink(target=rig.target("a", "e0"), mtu=1300, alias="x" * 256)) == errno.ERANGE
    assert rig.link("a", "e0") == before


async def test_carrier_needs_both_ends(rig: Rig) -> None:
    await rig.add_namespaces("a")
    await rig.make_pair(("a", "e0"), ("a", "e1"))
    e0, e1 = rig.target("a", "e0"), rig.target("a", "e1")
    assert await rig.do(SetLink(target=e0, up=True)) == 0
    await rig.until(lambda: rig.link("a", "e0").operstate is OperState.LOWERLAYERDOWN)
    assert (rig.link("a", "e0").up, rig.link("a", "e0").carrier) == (True, False)
    assert (rig.link("a", "e1").up, rig.link("a", "e1").operstate) == (False, OperState.DOWN)
    assert await rig.do(SetLink(target=e1, up=True)) == 0
    for host_name in ("e0", "e1"):
        await rig.until(lambda name=host_name: rig.link("a", name).operstate is OperState.UP)  # type: ignore[misc]
        assert rig.link("a", host_name).carrier
    assert await rig.do(SetLink(target=e1, up=False)) == 0
    await rig.until(lambda: rig.link("a", "e0").operstate is OperState.LOWERLAYERDOWN)
    await rig.until(lambda: rig.link("a", "e1").operstate is OperState.DOWN)
    assert (rig.link("a", "e0").carrier, rig.link("a", "e1").carrier) == (False, False)


async def test_operstate_without_carrier_where_ifindexes_coincide(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    rig.external.add_veth("a", "e0", "b", "e1")
    await rig.until(lambda: bool(rig.host_names("a") and rig.host_names("b")))
    for target in (rig.target("a", "e0"), rig.target("b", "e1")):
        assert await rig.do(SetLink(target=target, up=True)) == 0
    assert rig.link("a", "e0").id.ifindex == rig.link("b", "e1").id.ifindex
    await rig.until(lambda: rig.link("a", "e0").operstate is OperState.UP)
    assert await rig.do(SetLink(target=rig.target("b", "e1"), up=False)) == 0
    # Linux takes the peer's ifindex for one of the link's own namespace, and here it is the link itself.
    await rig.until(lambda: rig.link("a", "e0").operstate is OperState.DOWN)
    assert (rig.link("a", "e0").up, rig.link("a", "e0").carrier) == (True, False)


async def test_loopback(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    lo = rig.link("a", "lo")
    assert lo.id == LinkId(rig.id("a"), LOOPBACK_IFINDEX)
    assert (lo.kind, lo.mac, lo.mtu, lo.carrier) == ("", "00:00:00:00:00:00", 65536, True)
    target = rig.target("a", "lo")
    assert await rig.do(DeleteLink(target)) == errno.EOPNOTSUPP
    assert await rig.do(MoveLink(target, rig.id("b"), HostName("lo2"))) == errno.EINVAL
    assert await rig.do(SetLink(target=target, up=True)) == 0
    await rig.until(lambda: rig.addresses("a", "lo", automatic=True) == ["127.0.0.1/8", "::1/128"])
    await rig.until(lambda: rig.link("a", "lo").operstate is OperState.UNKNOWN)
    assert await rig.do(SetLink(target=target, up=False)) == 0
    await rig.until(lambda: rig.addresses("a", "lo", automatic=True) == ["127.0.0.1/8"])
    await rig.until(lambda: rig.link("a", "lo").operstate is OperState.DOWN)


async def test_rename(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    await rig.make_pair(("a", "f0"), ("b", "f1"))
    e0 = rig.target("a", "e0")
    assert await rig.do(AddAddress(e0, address("10.0.0.1/24"))) == 0
    before = rig.link("a", "e0").id
    assert await rig.do(SetLink(target=e0, host_name=HostName("e0"))) == 0
    assert await rig.do(SetLink(target=e0, host_name=HostName("f0"))) == errno.EEXIST
    assert await rig.do(SetLink(target=e0, host_name=HostName("g0"))) == 0
    assert rig.host_names("a") == {"f0", "g0"}
    assert (rig.link("a", "g0").id, rig.link("a", "g0").up) == (before, True)
    assert rig.addresses("a", "g0") == ["10.0.0.1/24"]


async def test_move(rig: Rig) -> None:
    await rig.add_namespaces("a", "b", "c")
    await rig.make_pair(("a", "spare"), ("a", "spare2"))
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    e0 = rig.target("a", "e0")
    attributes = SetLink(target=e0, mac=MAC.format(5), mtu=1400, alias="somebody's", group=17)
    assert await rig.do(attributes) == 0
    for text in ("10.0.0.1/24", "2001:db8::1/64"):
        assert await rig.do(AddAddress(e0, address(text))) == 0
    before = rig.link("a", "e0")
    assert await rig.do(MoveLink(e0, rig.id("c"), HostName("q0"))) == 0
    assert gone(rig, before.id)
    link = rig.link("c", "q0")
    assert link.id.ifindex == before.id.ifindex, "an ifindex that is free is kept"
    assert (link.mac, link.mtu, link.alias, link.group) == (MAC.format(5), 1400, "somebody's", 17)
    assert (link.up, link.addresses) == (False, ())
    assert (link.peer, rig.link("b", "e1").peer) == (rig.link("b", "e1").id, link.id)
    await rig.until(lambda: not rig.link("b", "e1").carrier)
    assert rig.link("b", "e1").up


async def test_move_to_a_taken_ifindex(rig: Rig) -> None:
    await rig.add_namespaces("a", "b", "c")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    await rig.make_pair(("c", "f0"), ("c", "f1"))
    before = rig.link("a", "e0")
    taken = set(rig.picture[rig.id("c")])
    assert before.id.ifindex in taken
    assert await rig.do(MoveLink(rig.target("a", "e0"), rig.id("c"), HostName("e0"))) == 0
    link = rig.link("c", "e0")
    assert link.id.ifindex not in taken
    assert link.peer == rig.link("b", "e1").id
    assert rig.link("b", "e1").peer == link.id
    assert rig.host_names("a") == set()


async def test_move_beside_the_peer_and_back(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    for to in "ba":
        start = "a" if to == "b" else "b"
        assert await rig.do(MoveLink(rig.target(start, "e0"), rig.id(to), HostName("e0"))) == 0
        assert rig.link(to, "e0").peer == rig.link("b", "e1").id
        assert rig.link("b", "e1").peer == rig.link(to, "e0").id


async def test_move_with_a_clash(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("a", "e1"), up=True)
    await rig.make_pair(("b", "e0"), ("b", "x"))
    before = rig.link("a", "e0")
    assert await rig.do(MoveLink(rig.target("a", "e0"), rig.id("b"), HostName("e0"))) == errno.EEXIST
    assert await rig.do(MoveLink(rig.target("a", "e0"), rig.id("b"), HostName("x"))) == errno.EEXIST
    assert rig.link("a", "e0").id == before.id
    assert rig.link("a", "e0").up, "a refused move leaves the link as it was"
    assert await rig.do(MoveLink(rig.target("a", "e0"), rig.id("b"), HostName("y"))) == 0
    assert rig.host_names("b") == {"e0", "x", "y"}


async def test_a_move_whose_new_name_is_refused_is_half_done(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("a", "e1"), up=True)
    await rig.make_pair(("b", "x"), ("b", "y"))
    # Linux moves the link under its old name, which is free there, and renames it then.
    assert await rig.do(MoveLink(rig.target("a", "e0"), rig.id("b"), HostName("x"))) == errno.EEXIST
    assert rig.host_names("a") == {"e1"}
    assert rig.host_names("b") == {"e0", "x", "y"}
    assert not rig.link("b", "e0").up


async def test_renamed_while_it_is_up_a_link_keeps_its_addresses(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    e0 = rig.target("a", "e0")
    await rig.until(lambda: bool(rig.addresses("a", "e0", automatic=True)))
    for text in ("10.0.0.1/24", "10.0.0.2/24", "2001:db8::1/64", "2001:db8::2/48", "fe80::5/64"):
        assert await rig.do(AddAddress(e0, address(text))) == 0
    before = sorted(rig.addresses("a", "e0", automatic=True)), rig.addresses("a", "e0")
    assert await rig.do(SetLink(target=e0, host_name=HostName("g0"))) == 0
    assert rig.link("a", "g0").up
    await rig.until(lambda: rig.link("a", "g0").carrier)
    await rig.until(lambda: sorted(rig.addresses("a", "g0", automatic=True)) == before[0])
    assert rig.addresses("a", "g0") == before[1]


async def test_renamed_and_set_down_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    assert await rig.do(SetLink(target=rig.target("a", "e0"), host_name=HostName("g0"), up=False)) == 0
    assert not rig.link("a", "g0").up


async def test_move_within_one_namespace_is_a_rename(rig: Rig) -> None:
    await rig.add_namespaces("a")
    await rig.make_pair(("a", "e0"), ("a", "e1"), up=True)
    e0 = rig.target("a", "e0")
    assert await rig.do(AddAddress(e0, address("10.0.0.1/24"))) == 0
    assert await rig.do(MoveLink(e0, rig.id("a"), HostName("e1"))) == errno.EEXIST
    assert await rig.do(MoveLink(e0, rig.id("a"), HostName("q0"))) == 0
    assert (rig.link("a", "q0").up, rig.addresses("a", "q0")) == (True, ["10.0.0.1/24"])


async def test_delete_one_end(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"), up=True)
    await rig.make_pair(("a", "f0"), ("b", "f1"))
    assert await rig.do(DeleteLink(rig.target("b", "e1"))) == 0
    assert (rig.host_names("a"), rig.host_names("b")) == ({"f0"}, {"f1"})


async def test_an_ifindex_is_not_given_again_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    before = rig.link("a", "e0").id
    assert await rig.do(DeleteLink(rig.target("a", "e0"))) == 0
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    assert rig.link("a", "e0").id.ifindex > before.ifindex


async def test_unknown_links(rig: Rig) -> None:
    await rig.add_namespaces("a")
    nobody = Target(rig.id("a"), HostName("e0"), 99)
    before = dict(rig.picture)
    operations: list[Operation] = [
        SetLink(target=nobody, mtu=1400),
        SetLink(target=nobody, host_name=HostName("x")),
        SetLink(target=nobody, up=True),
        MoveLink(nobody, rig.id("a"), HostName("x")),
        AddAddress(nobody, address("10.0.0.1/24")),
        AddAddress(nobody, address("2001:db8::1/64")),
        DeleteAddress(nobody, address("10.0.0.1/24")),
        DeleteAddress(nobody, address("2001:db8::1/64")),
        DeleteLink(nobody),
    ]
    outcomes = await rig.execute(*operations)
    assert [outcome.errno for outcome in outcomes] == [errno.ENODEV] * len(operations)
    assert rig.picture == before


async def test_a_refusal_does_not_stop_the_others(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e1"))
    outcomes = await rig.execute(
        SetLink(target=rig.target("a", "e0"), mtu=1400),
        SetLink(target=rig.target("a", "e0"), mtu=1),
        SetLink(target=rig.target("b", "e1"), mtu=1),
        SetLink(target=rig.target("a", "e0"), alias="x"),
        rig.pair(("a", "f0"), ("b", "f1")),
    )
    assert [outcome.errno for outcome in outcomes] == [0, errno.EINVAL, errno.EINVAL, 0, 0]
    assert (rig.link("a", "e0").mtu, rig.link("a", "e0").alias) == (1400, "x")
    assert rig.host_names("a") == {"e0", "f0"}


async def test_many_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    names = [(f"e{i}", f"f{i}") for i in range(60)]
    outcomes = await rig.execute(*(rig.pair(("a", near), ("b", far)) for near, far in names))
    assert {outcome.errno for outcome in outcomes} == {0}
    for near, far in names:
        assert rig.link("a", near).peer == rig.link("b", far).id
    outcomes = await rig.execute(*(DeleteLink(rig.target("a", near)) for near, _ in names))
    assert {outcome.errno for outcome in outcomes} == {0}
    assert rig.host_names("a") == rig.host_names("b") == set()


async def test_nothing_to_do(rig: Rig) -> None:
    assert await rig.execute() == []


async def test_the_ends_of_a_new_pair_have_different_ifindexes_in_linux(rig: Rig, kernel_kind: str) -> None:
    if kernel_kind == "simulated":
        pytest.skip("it knows no operstate that is told late")
    await rig.add_namespaces("a", "b")
    for number in range(3):
        await rig.make_pair(("a", f"e{number}"), ("b", f"f{number}"))
        assert rig.link("a", f"e{number}").id.ifindex != rig.link("b", f"f{number}").id.ifindex


async def test_many_deleted_at_once_leave_the_others(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    for number in range(8):
        await rig.make_pair(("a", f"e{number}"), ("b", f"e{number}"))
    rig.external.set_link("b", "e7", group=77)
    doomed = [DeleteLink(rig.target("a", f"e{number}"), 77) for number in range(6)]
    gone = DeleteLink(Target(rig.id("a"), HostName("no"), 4444), 77)
    outcomes = await rig.execute(*doomed, gone)
    assert [outcome.errno for outcome in outcomes] == [0] * 6 + [errno.ENODEV]
    assert rig.host_names("a") == rig.host_names("b") == {"e6", "e7"}


async def test_a_link_that_has_the_group_already_is_not_deleted_with_others(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    for number in range(3):
        await rig.make_pair(("a", f"e{number}"), ("b", f"e{number}"), up=True)
    assert await rig.do(SetLink(target=rig.target("a", "e2"), group=77)) == 0
    outcomes = await rig.execute(*(DeleteLink(rig.target("a", f"e{number}"), 77) for number in range(2)))
    assert [outcome.errno for outcome in outcomes] == [0, 0]
    assert rig.host_names("a") == rig.host_names("b") == {"e2"}
