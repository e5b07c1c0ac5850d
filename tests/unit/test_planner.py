from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import pytest
from world import NS, OWN, OWNER, lo, observed, operations, pair, planned, veth

from ifagent.core.addresses import PORTION
from ifagent.core.desired import Desired
from ifagent.core.host_routes import HostRoutes, Route
from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, Veth, VrfDevice
from ifagent.core.link import Address, Link, LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.core.observed import Absence, Observed
from ifagent.core.operations import AddAddress, CreateLink, DeleteLink, MoveLink, RemoveNamespace, SetLink
from ifagent.core.plan import Plan, Verdict
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.remembered import Adoption, Remembered, TapAddress
from ifagent.core.resources import interface_key
from ifagent.core.state import ConfigState
from ifagent.kernel.requests import encode

T = TypeVar("T")
A = veth("a", "b", "ns1", enabled=True, mtu=1400, ip_addresses=("10.0.0.1/24", "2001:db8::1/64"))
B = veth("b", "a", "ns2", enabled=True, host_if_name="eth0")


def obstacle_of(result: Plan, name: str) -> tuple[ConfigState, str]:
    obstacle = result.verdicts[interface_key(name)].obstacle
    assert obstacle is not None, result.verdicts[interface_key(name)]
    return obstacle.config_state, obstacle.reason


def find(result: Plan, kind: type[T]) -> T:
    found = [operation for operation in result.steps if isinstance(operation, kind)]
    assert len(found) == 1, result
    return found[0]


def test_what_is_right_is_not_touched() -> None:
    result = planned([A, B], observed(pair(A, B)))
    assert not result.steps
    assert all(verdict.fulfilled for verdict in result.verdicts.values())


def test_an_end_alone_waits_for_its_peer_and_nothing_is_made() -> None:
    result = planned([A], observed(namespaces=()))
    assert not result.steps
    assert obstacle_of(result, "a") == (ConfigState.PENDING, "peer b is not declared")
    obstacle = result.verdicts[interface_key("a")].obstacle
    assert obstacle is not None
    assert obstacle.missing == ("interface b",)


def test_a_pair_is_created_once_after_its_namespaces() -> None:
    result = planned([A, B], observed(namespaces=("ns1",)))
    assert operations(result)[:2] == ["CreateNamespace", "CreateLink"]
    create = find(result, CreateLink)
    near, far = create.ends
    assert (near.namespace, near.host_name, near.mtu) == (NS[named("ns1")], "a", 1400)
    assert (far.namespace, far.host_name, far.mtu) == (named("ns2"), "eth0", 1500)
    assert create.group == OWNER.group
    assert operations(result).count("SetLink") == 2
    assert operations(result).count("AddAddress") == 2


def test_every_attribute_is_corrected_in_place() -> None:
    near, far = pair(A, B)
    world = observed([replace(near, mtu=9000, mac="02:00:00:00:00:01", up=False, addresses=near.addresses[:1]), far])
    result = planned([A, B], world)
    change = find(result, SetLink)
    assert (change.target.ifindex, change.mtu, change.mac, change.up) == (2, 1400, OWNER.default_mac("a"), True)
    assert str(find(result, AddAddress).address) == "2001:db8::1/64"
    assert "mtu is 9000, wanted 1400" in result.verdicts[interface_key("a")].differences
    assert result.verdicts[interface_key("b")].fulfilled


def test_what_is_renamed_and_what_leaves_the_own_namespace_is_the_same_link() -> None:
    renamed = planned([replace(A, host_if_name="left"), B], observed(pair(A, B)))
    assert operations(renamed) == ["SetLink"]
    assert find(renamed, SetLink).host_name == "left"
    c, d = veth("c", "d", "ns1"), veth("d", "c", enabled=True)
    result = planned([c, replace(d, namespace=named("ns3"), host_if_name="right")], observed(pair(c, d)))
    assert operations(result) == ["MoveLink", "SetLink"]
    assert find(result, MoveLink).host_name == "right"


@pytest.mark.parametrize("to", ["", "ns3", "ns4"], ids=["the host's", "another", "one that is to be made"])
def test_a_pair_is_made_anew_when_an_end_leaves_a_namespace_of_others(to: str) -> None:
    """Root there may have put a link on it and moved that where nobody looks, and it would follow."""
    leaving = replace(A, namespace=named(to) if to else NamespaceRef())
    result = planned([leaving, B], observed(pair(A, B)))
    assert "MoveLink" not in operations(result)
    create = find(result, CreateLink)
    assert result.steps[create].after >= {find(result, DeleteLink)}
    assert create.ends[0].namespace == (NS[named(to)] if to == "ns3" else named(to) if to else OWN)
    both = planned([leaving, replace(B, namespace=named("ns5"))], observed(pair(A, B)))
    assert "MoveLink" not in operations(both)
    assert {DeleteLink, CreateLink} <= {type(operation) for operation in both.steps}


def test_it_stays_until_every_source_was_heard() -> None:
    result = planned([replace(A, namespace=named("ns3")), B], observed(pair(A, B)), complete=False)
    assert not result.steps
    assert obstacle_of(result, "b")[0] is ConfigState.PENDING


def test_ends_that_leave_to_each_others_places_do_not_wait_for_each_other() -> None:
    c, d = veth("c", "d", "ns3", host_if_name="a"), veth("d", "c")
    swapped = [replace(A, namespace=c.namespace), B, replace(c, namespace=A.namespace), d]
    result = planned(swapped, observed([*pair(A, B), *pair(c, d, first=4)]))
    assert operations(result)[:4] == ["DeleteLink", "DeleteLink", "CreateLink", "CreateLink"]
    assert not [verdict for verdict in result.verdicts.values() if verdict.obstacle]


def test_a_mark_in_another_namespace_than_the_interfaces_is_not_believed() -> None:
    """Root in ns3 has made a pair with the marks of two interfaces that are to be elsewhere."""
    elsewhere = [replace(link, id=LinkId(NS[named("ns3")], link.id.ifindex + 10)) for link in pair(A, B)]
    forged = [replace(a, peer=b.id) for a, b in (elsewhere, elsewhere[::-1])]
    result = planned([A, B], observed(forged))
    assert "MoveLink" not in operations(result)
    assert {operations(result)[0], operations(result)[1]} == {"DeleteLink", "CreateLink"}
    assert not result.steps[find(result, DeleteLink)].keys, "it is none of theirs"
    beside = planned([A, B], observed([*pair(A, B), *forged]))
    assert operations(beside) == ["DeleteLink"]
    assert all(verdict.fulfilled for verdict in beside.verdicts.values())


def test_a_forged_mark_that_is_not_in_our_group_is_nothing_to_us() -> None:
    dummy = Link(id=LinkId(NS[named("ns3")], 9), host_name=HostName("x"), kind="dummy", alias=OWNER.alias("b"))
    result = planned([A, B], observed([*pair(A, B), dummy]))
    assert not result.steps
    missing = planned([A, B], observed([dummy]))
    assert "CreateLink" in operations(missing)


def macvlan(lower: LinkId, namespace: NsId, ifindex: int = 9) -> Link:
    return Link(id=LinkId(namespace, ifindex), host_name=HostName("mv"), kind="macvlan", lower=lower)


def test_what_would_take_a_link_of_others_along_is_not_deleted() -> None:
    near, far = pair(A, B)
    theirs = macvlan(near.id, NS[named("ns1")])
    result = planned([], observed([near, far, theirs]))
    assert not result.steps
    assert "mv (macvlan, ifindex 9), which is not managed by this agent, is on it" in obstacle_of(result, "a")[1]
    one_end = planned([B], observed([near, far, theirs]))
    assert not one_end.steps
    anew = planned([A, replace(B, kind=Veth(peer_if_name="c")), veth("c", "b")], observed([near, far, theirs]))
    assert "DeleteLink" not in operations(anew)
    assert obstacle_of(anew, "b")[0] is ConfigState.FAILED
    assert operations(planned([], observed([near, far]))) == ["DeleteLink"]


@pytest.mark.parametrize("alias", ["", OWNER.alias("x"), OWNER.alias("held")])
def test_no_mark_makes_a_link_on_one_of_ours_pass_for_the_agents(alias: str) -> None:
    """Root of ns1 puts a macvlan on his end into the agent's group, where it may even be kept, before that goes."""
    near, far = pair(A, B)
    theirs = replace(macvlan(near.id, NS[named("ns1")]), group=OWNER.group, alias=alias)
    leaving = replace(A, namespace=named("ns3"))
    result = planned([leaving, B], observed([near, far, theirs]), held=frozenset({"held"}))
    assert {"MoveLink", "CreateLink"}.isdisjoint(operations(result))
    assert obstacle_of(result, "b")[0] is ConfigState.FAILED


@pytest.mark.parametrize(
    ("kind", "goes_with_it"),
    [*((kind, True) for kind in ("vlan", "vxlan", "hsr", "amt", "rmnet", "virt_wifi", "unheard-of")), ("gre", False)],
)
def test_which_kinds_of_links_go_with_the_one_below_them(kind: str, *, goes_with_it: bool) -> None:
    near, far = pair(A, B)
    theirs = replace(macvlan(near.id, NS[named("ns1")]), kind=kind)
    assert operations(planned([], observed([near, far, theirs]))) == ([] if goes_with_it else ["DeleteLink"])


def test_a_link_that_others_have_links_on_is_not_moved() -> None:
    c, d = veth("c", "d", "ns1"), veth("d", "c")
    near, far = pair(c, d)
    result = planned([c, replace(d, namespace=named("ns3"))], observed([near, far, macvlan(far.id, OWN)]))
    assert not result.steps
    assert "cannot be moved to" in obstacle_of(result, "d")[1]


def test_nor_is_it_made_anew() -> None:
    near, far = pair(A, B)
    world = observed([near, far, macvlan(near.id, NS[named("ns1")])])
    result = planned([replace(A, namespace=named("ns3")), B], world)
    assert not result.steps
    state, reason = obstacle_of(result, "b")
    assert state is ConfigState.FAILED
    assert "eth0 (veth, ifindex 3) cannot be recreated: mv (macvlan, ifindex 9)" in reason
    assert "is on its other end" in reason
    assert reason in obstacle_of(result, "a")[1]
    # Of one that both interfaces leave nothing but a mark says that it was theirs.
    both = planned([replace(A, namespace=named("ns3")), replace(B, namespace=named("ns4"))], world)
    assert "CreateLink" in operations(both)
    assert "DeleteLink" not in operations(both)


def test_the_pair_goes_with_one_end_and_the_other_waits() -> None:
    result = planned([B], observed(pair(A, B)))
    assert operations(result) == ["DeleteLink"]
    assert obstacle_of(result, "b")[0] is ConfigState.PENDING


def test_nothing_is_deleted_before_every_source_was_heard() -> None:
    assert not planned([B], observed(pair(A, B)), complete=False).steps
    assert not planned([], observed(pair(A, B)), complete=False).steps


def test_changing_partners_deletes_the_old_pairs_and_makes_new_ones() -> None:
    c, d = veth("c", "d", "ns3"), veth("d", "c", "ns3")
    links = [*pair(A, B), *pair(c, d, first=4)]
    crossed = [replace(i, kind=Veth(peer_if_name=p)) for i, p in ((A, "c"), (B, "d"), (c, "a"), (d, "b"))]
    result = planned(crossed, observed(links))
    assert operations(result).count("DeleteLink") == 2
    assert operations(result).count("CreateLink") == 2
    assert operations(result)[:2] == ["DeleteLink", "DeleteLink"]


def test_a_third_wheel_leaves_a_live_pair_alone() -> None:
    result = planned([A, B, veth("c", "a", "ns3")], observed(pair(A, B)))
    assert not result.steps
    assert obstacle_of(result, "c") == (ConfigState.PENDING, "interface a names b as its peer, not c")


def test_a_foreign_link_of_the_wanted_name_is_a_conflict() -> None:
    foreign = Link(id=LinkId(NS[named("ns2")], 7), host_name=HostName("eth0"), kind="bridge")
    result = planned([A, B], observed([foreign]))
    assert not result.steps
    state, reason = obstacle_of(result, "b")
    assert state is ConfigState.FAILED
    assert "eth0 (bridge, ifindex 7)" in reason
    assert obstacle_of(result, "a")[0] is ConfigState.PENDING


@pytest.mark.parametrize("name", ["\\xff\\xfe", "all", "default", "x" * 60])
def test_a_link_that_somebody_renamed_may_be_called_anything(name: str) -> None:
    near, far = pair(A, B)
    foreign = Link(id=LinkId(NS[named("ns1")], 9), host_name=HostName("a"), kind="bridge")
    result = planned([A, B], observed([replace(near, host_name=HostName(name), mtu=1300), far, foreign]))
    assert obstacle_of(result, "a")[0] is ConfigState.FAILED
    change = find(result, SetLink)
    assert (change.host_name, change.mtu) == (None, 1400), "it keeps that name, everything else is put right"


def test_of_thousands_of_differences_some_are_told() -> None:
    near, far = pair(A, B)
    many = tuple(Address(ip_interface(f"10.9.{n // 256}.{n % 256}/32")) for n in range(3000))
    result = planned([A, B], observed([replace(near, addresses=(*near.addresses, *many)), far]))
    assert len(result.steps) == PORTION + 1
    assert len(result.verdicts[interface_key("a")].differences) == 21
    assert result.verdicts[interface_key("a")].differences[0] == f"it has {len(near.addresses) + 3000} addresses"
    assert result.verdicts[interface_key("a")].differences[-1] == f"and {PORTION - 19} more"


def test_a_live_interface_keeps_its_place_against_a_rival() -> None:
    rivals = [veth("0", "1", "ns2", host_if_name="eth0"), veth("1", "0", "ns3")]
    result = planned([A, B, *rivals], observed(pair(A, B)))
    assert not result.steps
    assert obstacle_of(result, "0")[0] is ConfigState.INVALID
    assert "interface b already has the host name eth0" in obstacle_of(result, "0")[1]


def test_an_interface_of_unknown_value_is_held_with_its_peer() -> None:
    result = planned([B], observed(pair(A, B)), held=frozenset({"a"}))
    assert not result.steps
    assert obstacle_of(result, "b") == (ConfigState.PENDING, "peer a is invalid")


def test_a_link_killed_before_it_got_its_name_is_taken_at_its_place_and_swept_elsewhere() -> None:
    near, far = pair(A, B)
    nameless = [replace(near, alias=""), replace(far, alias="")]
    taken = planned([A, B], observed(nameless))
    assert sorted(operations(taken)) == ["SetLink", "SetLink"]
    assert operations(planned([], observed(nameless))) == ["DeleteLink"]


@pytest.mark.parametrize("mark", [{"group": 0, "alias": ""}, {"alias": "ifagent/other/a"}])
def test_links_of_others_are_not_swept(mark: dict[str, Any]) -> None:
    near, far = pair(A, B)
    assert not planned([], observed([replace(near, **mark), replace(far, **mark)])).steps


def test_names_are_swapped_by_making_one_pair_anew() -> None:
    c, d = veth("c", "d", "ns1"), veth("d", "c", "ns2")
    links = [*pair(A, B), *pair(c, d, first=4)]
    swapped = [replace(A, host_if_name="c"), B, replace(c, host_if_name="a"), d]
    result = planned(swapped, observed(links))
    assert operations(result).count("DeleteLink") == 1
    assert len(result.steps) > 1


def test_a_place_that_is_being_left_is_waited_for() -> None:
    c, d = veth("c", "d", "ns1", host_if_name="a"), veth("d", "c", "ns2")
    result = planned([replace(A, host_if_name="z"), B, c, d], observed(pair(A, B)))
    assert find(result, SetLink).host_name == "z"
    assert obstacle_of(result, "c") == (ConfigState.PENDING, "interface a still has the host name a")


def test_a_namespace_of_ours_goes_when_nothing_is_left_in_it() -> None:
    near, far = pair(A, B)
    mine = replace(lo(NS[named("ns1")]), alias=OWNER.namespace_mark)
    made = Remembered(namespaces={"ns1": NS[named("ns1")]})

    def seen(*links: Link, remembered: Remembered = made) -> Observed:
        return replace(observed(links), remembered=remembered)

    result = planned([], seen(mine, near, far))
    assert operations(result) == ["DeleteLink", "RemoveNamespace"]
    assert find(result, RemoveNamespace).namespace == named("ns1")
    foreign = Link(id=LinkId(NS[named("ns1")], 9), host_name=HostName("x"))
    assert operations(planned([], seen(mine, near, far, foreign))) == ["DeleteLink"]
    assert not planned([veth("y", "z", "ns1")], seen(mine)).steps
    for other in (Remembered(), Remembered(namespaces={"ns1": NsId(7)}), Remembered(namespaces={"ns2": None})):
        assert not planned([], seen(mine, remembered=other)).steps, "anybody in it can write that alias"
    assert not planned([], seen(lo(NS[named("ns1")]))).steps


def test_a_namespace_that_cannot_be_seen_shelters_both_ends() -> None:
    near, far = pair(A, B)
    world = observed([near, far])
    hidden = replace(world, links={k: v for k, v in world.links.items() if k != NS[named("ns1")]})
    result = planned([A, B], hidden)
    assert not result.steps
    assert obstacle_of(result, "a")[0] is ConfigState.PENDING


def test_a_broken_pair_is_made_anew() -> None:
    near, far = pair(A, B)
    result = planned([A, B], observed([replace(near, peer=None), replace(far, peer=LinkId(OWN, 99))]))
    assert operations(result)[:3] == ["DeleteLink", "DeleteLink", "CreateLink"]
    assert all(isinstance(op, DeleteLink | CreateLink) or step.after for op, step in result.steps.items())


def test_references_that_lead_nowhere_are_pending_with_a_reason() -> None:
    ref = NamespaceRef(NamespaceType.MICROSERVICE, "web")
    result = planned([replace(A, namespace=ref), B], observed())
    assert obstacle_of(result, "a")[0] is ConfigState.PENDING
    assert not result.steps
    assert result.verdicts[interface_key("b")] != Verdict()


def tap(**fields: Any) -> Interface:
    return Interface(name="t", kind=AutoTap(temp_if_name="tap0"), enabled=True, **fields)


def made_tap(host_name: str = "tap0", ifindex: int = 7, **fields: Any) -> Link:
    link = Link(id=LinkId(OWN, ifindex), host_name=HostName(host_name), kind="tun", mac="06:00:00:00:00:01", mtu=1500)
    return replace(link, **fields)


def test_a_tap_is_waited_for_and_adopted_in_place() -> None:
    interface = tap(host_if_name="eth7", mtu=1400)
    assert obstacle_of(planned([interface], observed()), "t")[0] is ConfigState.PENDING
    change = find(planned([interface], observed([made_tap()])), SetLink)
    assert (change.target.ifindex, change.host_name, change.mtu, change.up, change.mac) == (7, "eth7", 1400, True, None)
    assert change.group is None, "a TAP in the agent's group would be deleted with it"
    assert change.alias == "ifagent-tap/test/tap0/06:00:00:00:00:01/1500/t"


def test_what_is_no_tap_is_not_adopted() -> None:
    for other in (made_tap(mac=""), made_tap(kind="veth"), made_tap(alias="ifagent-tap/other/a/b/1/c")):
        result = planned([tap()], observed([other]))
        assert not result.steps
        assert "not a TAP that can be adopted" in obstacle_of(result, "t")[1]


def test_a_tap_is_marked_before_it_is_moved() -> None:
    result = planned([tap(namespace=named("ns1"), ip_addresses=("10.0.0.1/24",))], observed([made_tap()]))
    assert operations(result) == ["SetLink", "MoveLink", "SetLink", "AddAddress"]
    first = next(iter(next(result.waves())))
    assert isinstance(first, SetLink)
    assert first.alias is not None


def adopted(**fields: Any) -> Link:
    return made_tap(alias="ifagent-tap/test/tap0/06:00:00:00:00:01/1500/t", **fields)


def remembering(link: Link, **fields: Any) -> Observed:
    """Return a world with a TAP that the agent remembers to have adopted."""
    adoption = Adoption(name="t", host_name=HostName("tap0"), link=link.id, mac="06:00:00:00:00:01", mtu=1500, up=True)
    adoption = replace(adoption, **fields)
    return replace(observed([link]), remembered=Remembered({"t": adoption}))


AWAY = LinkId(NS[named("ns1")], 7)


def test_an_adopted_tap_is_given_back_and_never_deleted() -> None:
    away = adopted(id=AWAY, host_name=HostName("eth7"), mtu=1400)
    world = remembering(away, keeps_mtu=True)
    result = planned([], world)
    assert operations(result) == ["MoveLink", "SetLink"]
    assert (find(result, MoveLink).to, find(result, MoveLink).host_name) == (OWN, "tap0")
    change = find(result, SetLink)
    assert (change.mtu, change.up, change.alias) == (1500, True, "")
    assert not planned([], world, complete=False).steps
    assert not planned([], world, held=frozenset({"t"})).steps


def test_it_is_given_back_whole() -> None:
    bridge = Link(id=LinkId(OWN, 3), host_name=HostName("br0"), kind="bridge")
    had = TapAddress(ip_interface("10.44.0.1/24")), TapAddress(ip_interface("10.8.0.2/32"), ip_address("10.8.0.1"))
    away = adopted(id=AWAY, host_name=HostName("t"), up=True, addresses=(Address(ip_interface("10.0.0.1/24")),))
    world = remembering(away, alias="vm 5", master=3, addresses=had)
    world.links[OWN][3] = bridge  # type: ignore[index]
    result = planned([], world)
    change = find(result, SetLink)
    assert (change.alias, change.up, change.master) == ("vm 5", True, 3)
    assert [(op.address, op.peer) for op in result.steps if isinstance(op, AddAddress)] == [*had]
    assert list(result.steps)[-1] == change, "the mark goes last"
    assert result.learnt.adoptions["t"] == replace(
        world.remembered.adoptions["t"], moving_to=OWN, keeps_mac=True, keeps_mtu=True
    )
    home = made_tap("tap0", alias="vm 5", up=True, master=3, addresses=tuple(Address(a, peer=b) for a, b in had))
    back = replace(world.remembered.adoptions["t"], link=home.id)
    there = replace(observed([home, bridge]), remembered=Remembered({"t": back}))
    assert not planned([], there).steps
    assert planned([], there).learnt.adoptions == {"t": None}


def test_a_bridge_with_the_ifindex_of_another_one_gets_no_port() -> None:
    away = adopted(id=AWAY, host_name=HostName("t"), up=True)
    for name, master_name, master in (("br0", "", 3), ("br0", "br0", 3), ("evil", "br0", None)):
        world = remembering(away, master=3, master_name=master_name)
        world.links[OWN][3] = Link(id=LinkId(OWN, 3), host_name=HostName(name), kind="bridge")  # type: ignore[index]
        assert find(planned([], world), SetLink).master == master
    seen = world.remembered.without_link(LinkId(OWN, 3), own=OWN)
    assert (seen.adoptions["t"].master, seen.adoptions["t"].master_name) == (0, "")
    assert seen.without_link(LinkId(NS[named("ns1")], 3), own=OWN) is seen
    assert not seen.without_link(AWAY, own=OWN).adoptions


def test_a_master_that_its_creator_has_given_a_tap_since_stays() -> None:
    bridges = [Link(id=LinkId(OWN, n), host_name=HostName(f"br{n}"), kind="bridge") for n in (3, 4)]
    home = made_tap("tap0", alias=adopted().alias, up=True, master=4)
    world = replace(observed([home, *bridges]), remembered=remembering(home, master=3).remembered)
    assert find(planned([], world), SetLink).master is None


def test_addresses_that_link_only_leaves_to_the_creator_are_his() -> None:
    born = made_tap("tap0", up=True, addresses=(Address(ip_interface("10.44.0.1/24")),))
    alone = tap(link_only=True, host_if_name="tap0")
    policy = Policy(taps=("tap0",))
    adoption = plan(Desired({"t": alone}), observed([born]), OWNER, policy).learnt.adoptions["t"]
    assert adoption is not None
    assert adoption.leaves_addresses
    marked = replace(born, alias=adopted().alias, addresses=(Address(ip_interface("10.45.0.1/24")),))
    world = replace(observed([marked]), remembered=Remembered({"t": adoption}))
    assert operations(planned([], world)) == ["SetLink"], "what he has changed since is not changed back"
    for taken in (tap(host_if_name="tap0"), tap(link_only=True, namespace=named("ns1"))):
        after = planned([taken], world).learnt.adoptions["t"]
        assert after is not None
        assert not after.leaves_addresses
        assert after.addresses == (TapAddress(ip_interface("10.45.0.1/24")),)
        stripped = replace(observed([replace(marked, addresses=())]), remembered=Remembered({"t": after}))
        assert find(planned([], stripped), AddAddress).address == ip_interface("10.45.0.1/24")
        assert planned([alone], stripped).learnt.adoptions["t"] == replace(after, moving_to=None)


def test_it_is_remembered_while_nobody_listens_where_it_is() -> None:
    world = remembering(adopted(id=AWAY), moving_to=OWN)
    elsewhere = {namespace: links for namespace, links in world.links.items() if namespace != AWAY.namespace}
    assert "t" not in planned([], replace(world, links=elsewhere)).learnt.adoptions
    assert planned([], replace(world, links={**elsewhere, AWAY.namespace: {}})).learnt.adoptions == {"t": None}


def test_it_is_remembered_before_it_is_moved_and_found_after() -> None:
    result = planned([tap(namespace=named("ns1"))], observed([made_tap(up=True, master=0)]))
    adoption = result.learnt.adoptions["t"]
    assert adoption is not None
    assert (adoption.link, adoption.moving_to, adoption.up) == (LinkId(OWN, 7), NS[named("ns1")], True)
    after = adopted(id=LinkId(NS[named("ns1")], 2), host_name=HostName("t"), up=True)
    world = replace(observed([after]), remembered=Remembered({"t": adoption}))
    result = planned([tap(namespace=named("ns1"))], world)
    assert not result.steps
    assert result.learnt.adoptions["t"] == replace(adoption, link=after.id, moving_to=None)
    gone = replace(observed(), remembered=Remembered({"t": adoption}))
    assert planned([], gone).learnt.adoptions == {"t": None}


@pytest.mark.parametrize(
    "alias",
    [
        "ifagent-tap/test/docker0/06:00:00:00:00:01/1500/t",
        "ifagent-tap/test/tap0/not a MAC/1500/t",
        "ifagent-tap/test/tap0/06:00:00:00:00:01:02/1500/t",
        f"ifagent-tap/test/tap0/06:00:00:00:00:01/{'9' * 200}/t",
        "ifagent-tap/test/tap0/06:00:00:00:00:01/\u0661/t",
        f"ifagent-tap/test/{'x' * 200}/06:00:00:00:00:01/1500/t",
        "ifagent-tap/test////t",
    ],
)
def test_a_tap_of_which_only_the_alias_tells_stays_where_it_is(alias: str) -> None:
    """Whoever is root in the namespace of an adopted TAP may write into its alias what he likes."""
    away = made_tap("eth7", id=AWAY, alias=alias, addresses=(Address(ip_interface("10.0.0.1/24")),))
    wanted_elsewhere = [tap(namespace=named("ns2"))]
    for result in (planned([], observed([away])), planned(wanted_elsewhere, observed([away]))):
        assert operations(result) == ["DeleteAddress", "SetLink"]
        assert find(result, SetLink).alias == ""
        assert not result.learnt.adoptions
    assert not planned(wanted_elsewhere, observed([away])).steps[find(planned([], observed([away])), SetLink)].keys
    at_its_place = planned([tap(namespace=named("ns1"))], observed([away]))
    assert "MoveLink" not in operations(at_its_place)
    assert not at_its_place.learnt.adoptions, "it may be somebody else's, so it is never given back"
    for operation in at_its_place.steps:
        if isinstance(operation, SetLink):
            assert encode(operation, fds={OWN: 1})


def test_a_namespace_with_the_same_number_is_not_that_of_an_adopted_tap() -> None:
    adoption = Adoption(name="t", host_name=HostName("tap0"), link=AWAY)
    seen = Remembered({"t": adoption}).with_cookies({AWAY.namespace: 7, OWN: 1})
    assert seen.adoptions == {"t": replace(adoption, cookie=7)}
    assert seen.with_cookies({AWAY.namespace: 7}) is seen
    assert seen.with_cookies({NS[named("ns2")]: 9}) is seen
    assert not seen.with_cookies({AWAY.namespace: 8}).adoptions


def test_a_remembered_tap_is_known_whatever_its_alias_says() -> None:
    away = made_tap("eth7", id=AWAY, alias="scribbled over")
    result = planned([tap(namespace=named("ns1"), host_if_name="eth7")], remembering(away))
    assert find(result, SetLink).alias == "ifagent-tap/test/tap0/06:00:00:00:00:01/1500/t"


def test_what_a_tap_is_not_told_stays_as_its_creator_has_it() -> None:
    link = adopted(host_name=HostName("t"), mtu=1400, mac="02:00:00:00:00:02", up=True)
    assert not planned([tap()], remembering(link)).steps


def test_clearing_mtu_and_mac_of_a_tap_brings_its_creators_back() -> None:
    created = made_tap("t", up=True)
    given = tap(mtu=1400, phys_address="02:00:00:00:00:02")
    adoption = planned([given], observed([replace(created, host_name=HostName("tap0"))])).learnt.adoptions["t"]
    assert adoption is not None
    assert (adoption.keeps_mac, adoption.keeps_mtu) == (True, True)
    link = adopted(host_name=HostName("t"), mtu=1400, mac="02:00:00:00:00:02", up=True)
    world = replace(observed([link]), remembered=Remembered({"t": adoption}))
    change = find(planned([tap()], world), SetLink)
    assert (change.mtu, change.mac, change.alias) == (1500, "06:00:00:00:00:01", None)


@pytest.mark.parametrize(
    ("used", "why"),
    [
        ({"addresses": (Address(ip_interface("10.8.0.1/24")),)}, "it has the address 10.8.0.1/24"),
        (
            {"addresses": (Address(ip_interface("fd00:88::5/64"), made_by_kernel=True),)},
            "it has the address fd00:88::5/64",
        ),
        ({"master": 3}, "it is a port of another link"),
        ({}, "routes lead out of it"),
        (None, "mv (macvlan, ifindex 9) is on it"),
    ],
)
def test_a_tap_that_the_host_uses_is_only_adopted_by_name(used: dict[str, Any] | None, why: str) -> None:
    used_tap = made_tap(**(used or {}))
    world = observed([used_tap, *([macvlan(used_tap.id, OWN)] if used is None else [])])
    routes = (Route(ip_network("10.8.0.0/24"), links=(used_tap.id,)),) if used == {} else ()
    world = replace(world, host_routes=HostRoutes(routes=routes))
    state, reason = obstacle_of(planned([tap()], world), "t")
    assert state is ConfigState.PENDING
    assert f"it is in use, {why}; the agent's operator can allow it with --allow-tap tap0" in reason
    desired = Desired({"t": tap()})
    assert plan(desired, world, OWNER, Policy(taps=("tap0",))).verdicts[interface_key("t")].obstacle is None
    assert plan(desired, world, OWNER, Policy(taps=("tap*",))).verdicts[interface_key("t")].obstacle is not None
    free = observed([made_tap()])
    assert plan(desired, free, OWNER, Policy(taps=("tap*",))).verdicts[interface_key("t")].obstacle is None
    not_allowed = plan(desired, free, OWNER, Policy(taps=("vm*",)))
    assert "adopting it is not allowed" in obstacle_of(not_allowed, "t")[1]


def test_two_that_want_one_tap_do_not_share_it() -> None:
    rival = replace(tap(), name="u")
    result = planned([tap(), rival], observed([made_tap()]))
    assert result.verdicts[interface_key("t")].obstacle is None
    assert obstacle_of(result, "u")[0] is ConfigState.PENDING


def test_a_reference_that_cannot_lead_to_a_namespace_is_invalid() -> None:
    ref = NamespaceRef(NamespaceType.FILE, "/tmp/x")
    absent = {ref: Absence("is not a network namespace", invalid=True)}
    result = planned([replace(A, namespace=ref), B], replace(observed(), absent=absent))
    assert obstacle_of(result, "a") == (ConfigState.INVALID, "/tmp/x is not a network namespace")
    assert not result.steps


def test_a_pair_whose_end_becomes_something_else_goes() -> None:
    other = replace(A, kind=VrfDevice(routing_table=7))
    result = planned([other, B], observed(pair(A, B)))
    assert operations(result) == ["DeleteLink", "CreateLink", "SetLink", *["AddAddress"] * len(A.ip_addresses)]
    assert obstacle_of(result, "b")[1] == "interface a is of type vrf_device, which has no peer"


def test_addresses_wait_for_the_vrf_that_they_belong_to() -> None:
    asked = replace(A, vrf_master_interface="red")
    result = planned([asked, B], observed(pair(replace(A, ip_addresses=()), B)))
    assert obstacle_of(result, "a") == (ConfigState.PENDING, "master interface red is not declared")
    assert "AddAddress" not in operations(result)


def test_checksum_offloading_is_enabled_by_default() -> None:
    asked = replace(A, kind=Veth(peer_if_name="b", rx_checksum_offloading="enabled", tx_checksum_offloading="enabled"))
    result = planned([asked, B], observed(pair(A, B)))
    assert not result.steps
    assert all(verdict.fulfilled for verdict in result.verdicts.values())


def test_a_tap_is_given_back_when_its_name_means_another_kind_by_now() -> None:
    result = planned([veth("t", "u")], observed([adopted(host_name=HostName("t"))]), held=frozenset({"u"}))
    assert find(result, SetLink).alias == ""


@pytest.mark.parametrize("was_first", ["a", "z"])
def test_of_several_that_want_a_host_name_the_one_has_it_that_was_first(was_first: str) -> None:
    later = "z" if was_first == "a" else "a"
    rivals = [veth(name, f"{name}-peer", "ns1", host_if_name="web") for name in ("a", "z")]
    peers = [veth(f"{name}-peer", name, "ns2") for name in ("a", "z")]
    order = {was_first: 1, later: 2, "a-peer": 3, "z-peer": 4}
    result = planned([*rivals, *peers], observed(), order=order)
    assert obstacle_of(result, later)[1].startswith(f"interface {was_first} already has the host name web")
    assert result.verdicts[interface_key(was_first)].obstacle is None
    # Whatever the order, a link that is there counts.
    has = next(each for each in rivals if each.name == later)
    other_end = next(each for each in peers if each.name == f"{later}-peer")
    result = planned([*rivals, *peers], observed(pair(has, other_end)), order=order)
    assert obstacle_of(result, was_first)[1].startswith(f"interface {later} already has the host name web")


@pytest.mark.parametrize("was_first", ["a", "z"])
def test_of_several_that_want_a_tap_the_one_adopts_it_that_was_first(was_first: str) -> None:
    later = "z" if was_first == "a" else "a"
    wanting = [
        Interface(name=name, kind=AutoTap(temp_if_name="tap0"), host_if_name=HostName(f"tap-{name}"), enabled=True)
        for name in ("a", "z")
    ]
    tap = Link(id=LinkId(OWN, 9), host_name=HostName("tap0"), kind="tun", mac="02:00:00:00:00:09", mtu=1500)
    result = planned(wanting, observed([tap]), order={was_first: 1, later: 2})
    assert result.learnt.adoptions.keys() == {was_first}
    assert obstacle_of(result, later)[0] is ConfigState.PENDING
