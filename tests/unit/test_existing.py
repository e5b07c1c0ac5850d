"""Links of somebody else's, what the settings allow of them, and what veths have in common with them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest
from world import NS, OWN, OWNER, observed, operations, pair, realised, veth

from ifagent.core.desired import Desired
from ifagent.core.host_routes import HostRoutes
from ifagent.core.interface import Interface
from ifagent.core.kinds import Existing, Loopback, Veth
from ifagent.core.link import Address, Checksums, Link, LinkId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.core.observed import Observed
from ifagent.core.operations import AddAddress, DeleteAddress, SetChecksums, SetLink
from ifagent.core.plan import Obstacle, Plan
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.remembered import Remembered
from ifagent.core.resources import interface_key
from ifagent.core.state import ConfigState

A = veth("a", "b", "ns1", enabled=True, ip_addresses=("10.0.0.1/24",))
B = veth("b", "a", "ns2", enabled=True)
HOST = frozenset({OWN})
ANYTHING = Policy(existing=("*",))


def existing(namespace: str = "ns1", **fields: Any) -> Interface:
    ref = named(namespace) if namespace else NamespaceRef()
    return Interface(name="e", kind=Existing(), host_if_name="eth0", namespace=ref, **fields)


def eth0(*addresses: str, namespace: str = "ns1", **fields: Any) -> Link:
    place = NS[named(namespace)] if namespace else OWN
    has = tuple(Address(ip_interface(a)) for a in addresses)
    return Link(
        id=LinkId(place, 7), host_name=HostName("eth0"), kind="dummy", up=True, mtu=1400, addresses=has, **fields
    )


def planned(*interfaces: Interface, world: Observed, policy: Policy = ANYTHING, **desired: Any) -> Plan:
    return plan(Desired({i.name: i for i in interfaces}, **desired), world, OWNER, policy)


def why(result: Plan, name: str = "e") -> tuple[ConfigState, str]:
    obstacle = result.verdicts[interface_key(name)].obstacle
    assert obstacle is not None
    return obstacle.config_state, obstacle.reason


def test_a_link_that_is_not_there_is_waited_for() -> None:
    result = planned(existing(), world=observed())
    assert why(result) == (ConfigState.PENDING, "no link eth0 in namespace named:ns1")
    assert not result.steps


def test_addresses_and_nothing_else_are_set() -> None:
    link = eth0("10.0.0.9/24", alias="uplink/1%")
    result = planned(existing(ip_addresses=("10.0.0.1/24",)), world=observed([link]))
    assert operations(result) == ["SetLink", "AddAddress", "PromoteSecondaries", "DeleteAddress"]
    [mark] = [op for op in result.steps if isinstance(op, SetLink)]
    assert (mark.alias, mark.up, mark.mtu, mark.mac, mark.host_name, mark.group) == (
        "ifagent-link/test/uplink%2F1%25/e",
        *(None,) * 5,
    )
    marked = eth0("10.0.0.1/24", alias=mark.alias)
    settled = planned(existing(ip_addresses=("10.0.0.1/24",)), world=observed([marked]))
    assert not settled.steps
    assert settled.verdicts[interface_key("e")].fulfilled
    left = planned(world=observed([marked]))
    assert operations(left) == ["DeleteAddress", "SetLink"]
    assert [op.alias for op in left.steps if isinstance(op, SetLink)] == ["uplink/1%"]


def test_without_addresses_there_are_to_be_none() -> None:
    link = eth0("10.0.0.9/24", alias=OWNER.configured_alias("e", ""))
    result = planned(existing(), world=observed([link]))
    assert operations(result) == ["DeleteAddress"]


@pytest.mark.parametrize("has", [(), ("10.0.0.9/24",)])
def test_link_only_without_addresses_is_satisfied_by_any(has: tuple[str, ...]) -> None:
    result = planned(existing(link_only=True), world=observed([eth0(*has)]))
    assert not result.steps
    assert result.verdicts[interface_key("e")].fulfilled


def test_link_only_with_addresses_waits_for_others_to_give_them() -> None:
    wants = existing(link_only=True, ip_addresses=("10.0.0.1/24",))
    result = planned(wants, world=observed([eth0("10.0.0.9/24")]))
    assert not result.steps
    assert why(result)[0] is ConfigState.PENDING
    obstacle = result.verdicts[interface_key("e")].obstacle
    assert obstacle
    assert obstacle.missing == ("address 10.0.0.1/24",)
    assert planned(wants, world=observed([eth0("10.0.0.9/24", "10.0.0.1/24")])).verdicts[interface_key("e")].fulfilled


def test_a_link_that_is_no_longer_changed_gets_its_alias_back() -> None:
    link = eth0("10.0.0.1/24", alias=OWNER.configured_alias("e", "uplink"))
    result = planned(existing(link_only=True), world=observed([link]))
    assert [op.alias for op in result.steps if isinstance(op, SetLink)] == ["uplink"]
    assert operations(result) == ["SetLink"]


@pytest.mark.parametrize("alias", ["ifagent/other/x", "ifagent-link/other//x", "ifagent-tap/other/t/m/1/x"])
def test_a_link_of_another_agent_is_a_conflict(alias: str) -> None:
    result = planned(existing(), world=observed([eth0(alias=alias)]))
    assert why(result)[0] is ConfigState.FAILED
    assert alias in why(result)[1]
    assert not result.steps


def test_an_own_left_over_is_not_taken_for_somebody_elses() -> None:
    links = [replace(end, host_name=HostName("eth0")) for end in pair(A, B)]
    result = planned(existing(), world=observed(links))
    assert operations(result) == ["DeleteLink"]


def test_loopback() -> None:
    wants = Interface(
        name="l", kind=Loopback(), enabled=True, namespace=named("ns1"), ip_addresses=(ip_interface("10.0.0.1/32"),)
    )
    result = planned(wants, world=observed())
    [change] = [op for op in result.steps if isinstance(op, SetLink)]
    assert (change.up, change.mtu, change.mac, change.group) == (True, 65536, None, None)
    assert [str(op.address) for op in result.steps if isinstance(op, AddAddress)] == ["10.0.0.1/32"]


def test_a_namespace_of_ours_is_known_by_a_configured_loopback_too() -> None:
    world = observed(namespaces=("ns1",))
    lo = replace(world.links[NS[named("ns1")]][1], alias=OWNER.configured_alias("l", OWNER.namespace_mark))
    world.links[NS[named("ns1")]][1] = lo  # type: ignore[index]
    world = replace(world, remembered=Remembered(namespaces={"ns1": NS[named("ns1")]}))
    assert operations(planned(world=world))[-1] == "RemoveNamespace"
    assert OWNER.configured_mark(lo) is not None
    assert OWNER.configured_mark(lo).alias == "ifagent/test"  # type: ignore[union-attr]


def test_a_long_alias_is_given_up() -> None:
    assert OWNER.configured_alias("e", "x" * 255) == "ifagent-link/test//e"


# What the settings allow


def host_world(*links: Link, uplinks: frozenset[LinkId] = frozenset()) -> Observed:
    return replace(observed(links), host=HOST, host_routes=HostRoutes(uplinks))


@pytest.mark.parametrize(
    ("patterns", "uplink", "allowed"),
    [
        ((), False, False),
        (("eth1", "wlan*"), False, False),
        (("eth0",), False, True),
        (("eth*",), False, True),
        (("eth*",), True, False),
        (("eth*", "eth0"), True, True),
    ],
)
def test_links_of_the_host_are_changed_only_if_the_settings_allow_it(
    patterns: tuple[str, ...], uplink: bool, allowed: bool
) -> None:
    link = eth0("10.0.0.9/24", namespace="")
    world = host_world(link, uplinks=frozenset({link.id} if uplink else ()))
    result = planned(existing(""), world=world, policy=Policy(existing=patterns))
    assert bool(result.steps) is allowed
    if not allowed:
        state, reason = why(result)
        assert state is ConfigState.INVALID
        assert "--allow-existing eth0" in reason
        assert ("keeps the host connected" in reason) is uplink
    looked_at = planned(existing("", link_only=True), world=world, policy=Policy(existing=patterns))
    assert looked_at.verdicts[interface_key("e")].fulfilled


def test_a_namespace_is_the_hosts_whatever_it_is_called() -> None:
    world = replace(observed([eth0(namespace="ns1")]), host=frozenset({OWN, NS[named("ns1")]}))
    result = planned(existing("ns1"), world=world, policy=Policy())
    assert why(result)[0] is ConfigState.INVALID
    inside = planned(A, B, world=world, policy=Policy(namespaces=("named:*",)))
    assert why(inside, "a") == (
        ConfigState.INVALID,
        "namespace named:ns1 is the host's own, where interfaces are not allowed (--allow-namespace)",
    )
    assert not inside.steps


def test_namespaces_that_are_not_allowed() -> None:
    allowed = Policy(namespaces=("named:ns2", "microservice:*"))
    result = planned(A, B, world=observed(pair(A, B)), policy=allowed)
    assert why(result, "a") == (
        ConfigState.INVALID,
        "interfaces in namespace named:ns1 are not allowed (--allow-namespace)",
    )
    assert why(result, "b")[0] is ConfigState.PENDING
    # What is there stays: somebody may have changed the settings by mistake.
    assert not result.steps


def test_an_interface_beyond_the_limits_is_left_as_it_is() -> None:
    beyond = Obstacle(ConfigState.INVALID, "interface limit of 1 (--max-interfaces) exceeded")
    desired = Desired({"b": B}, refused={"a": beyond})
    result = plan(desired, observed(pair(A, B)), OWNER)
    assert not result.steps
    assert why(result, "a") == (ConfigState.INVALID, beyond.reason)
    assert why(result, "b") == (ConfigState.PENDING, f"peer a is blocked: {beyond.reason}")


def test_an_mtu_that_the_links_driver_does_not_take() -> None:
    wants = Interface(name="l", kind=Loopback(), mtu=70000, namespace=named("ns1"))
    world = observed()
    small = replace(world.links[NS[named("ns1")]][1], min_mtu=68, max_mtu=65521)
    world.links[NS[named("ns1")]][1] = small  # type: ignore[index]
    result = planned(wants, world=world)
    assert not result.steps
    obstacle = result.verdicts[interface_key("l")].obstacle
    assert obstacle
    assert obstacle.field == "mtu"
    assert "use 68 to 65521 bytes or 0" in why(result, "l")[1]


# Veths


def test_link_only_leaves_mac_and_addresses_to_others() -> None:
    ends = (replace(A, link_only=True, phys_address="02:00:00:00:00:01"), B)
    near, far = pair(A, B)
    near = replace(near, mac="02:99:99:99:99:99", addresses=(Address(ip_interface("10.9.0.1/8")),))
    assert not planned(*ends, world=observed([near, far])).steps
    made = planned(*ends, world=observed())
    assert not [op for op in made.steps if isinstance(op, AddAddress)]
    near = replace(near, mtu=1400)
    assert operations(planned(*ends, world=observed([near, far]))) == ["SetLink"]


def without_tx(name: str, link: Link, checksums: Checksums | None) -> Link:
    return replace(link, alias=OWNER.alias(name, checksums=False), checksums=checksums)


def test_checksum_offloading_is_marked_then_asked_for_then_switched() -> None:
    ends = (replace(A, kind=Veth(peer_if_name="b", tx_checksum_offloading="disabled")), B)
    near, far = pair(A, B)
    marked = planned(*ends, world=observed([near, far]))
    assert [op.alias for op in marked.steps if isinstance(op, SetLink)] == ["ifagent-nosum/test/a"]
    assert operations(marked) == ["SetLink"]
    unknown = planned(*ends, world=observed([without_tx("a", near, None), far]))
    assert not unknown.steps
    assert not unknown.verdicts[interface_key("a")].fulfilled
    wrong = planned(*ends, world=observed([without_tx("a", near, Checksums()), far]))
    assert [op.checksums for op in wrong.steps if isinstance(op, SetChecksums)] == [Checksums(rx=True, tx=False)]
    right = planned(*ends, world=observed([without_tx("a", near, Checksums(rx=True, tx=False)), far]))
    assert not right.steps
    assert right.verdicts[interface_key("a")].fulfilled


def test_the_default_of_checksum_offloading_comes_back_before_its_mark_goes() -> None:
    near, far = pair(A, B)
    world = observed([without_tx("a", near, Checksums(rx=True, tx=False)), far])
    switched = planned(A, B, world=world)
    assert operations(switched) == ["SetChecksums"]
    assert [op.checksums for op in switched.steps if isinstance(op, SetChecksums)] == [Checksums()]
    unmarked = planned(A, B, world=observed([without_tx("a", near, Checksums()), far]))
    assert operations(unmarked) == ["SetLink"]
    assert not [op for op in unmarked.steps if isinstance(op, DeleteAddress)]


def test_a_link_with_other_checksum_offloading_is_ours_like_any_other() -> None:
    link = without_tx("a", realised(A, 5), None)
    assert OWNER.owns(link)
    assert OWNER.name_of(link) == "a"
    assert operations(planned(world=observed([link]))) == ["DeleteLink"]


@pytest.mark.parametrize("was_first", ["a", "z"])
def test_of_several_that_want_a_link_the_one_has_it_that_was_first(was_first: str) -> None:
    wanting = [replace(existing(mtu=1300), name="a"), replace(existing(mtu=1350), name="z")]
    later = "z" if was_first == "a" else "a"
    order = {was_first: 1, later: 2}
    free = planned(*wanting, world=observed([eth0()]), order=order)
    assert why(free, later)[1].startswith(f"interface {was_first} already has the host name eth0")
    assert free.verdicts[interface_key(was_first)].obstacle is None
    # After a restart the order is not known any more, but the mark is.
    marked = eth0(alias=OWNER.configured_alias(was_first, ""))
    restarted = planned(*wanting, world=observed([marked]), order={later: 1, was_first: 2})
    assert why(restarted, later)[1].startswith(f"interface {was_first} already has the host name eth0")
