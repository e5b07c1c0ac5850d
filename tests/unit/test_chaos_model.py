"""The model that chaos is compared with, against cases written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from chaos.compare import Comparison, differences_from_nearest, in_kernel_order
from chaos.intent import Intent, World
from chaos.observation import Link, Observation
from chaos.oracle import FAILED, INVALID, Facts, State, expect, group_of
from chaos.script import Mix, Script
from chaos.values import BAD, Family, Form, Space, Wish, bad_value, encode

from ifagent.formats import ligato_v1, ligato_v3

LABEL = "test"
OWN, S0, S1 = 100, 200, 201
SPACE0, SPACE1 = Space("named", "s0"), Space("named", "s1")


def end(name: str, peer: str, space: Space = SPACE0, **fields: Any) -> Wish:
    return Wish(name=name, peer=peer, space=space, **fields)


def tap(name: str, **fields: Any) -> Wish:
    return Wish(name=name, temp=f"vpp-{name}", **fields)


def link(name: str, space: int = S0, *, ifindex: int = 0, peer: int | str | None = None, **fields: Any) -> Link:
    """Return the link of an interface, as the agent makes it."""
    fields = {"host_name": name, "mac": "02:00:00:00:00:01", "alias": f"ifagent/{LABEL}/{name}"} | fields
    return Link(space=space, ifindex=ifindex, peer=peer, group=str(group_of(LABEL)), **fields)


def pair(a: str, b: str, left: int = S0, right: int = S0, **fields: Any) -> tuple[Link, Link]:
    """Return the links of a pair."""
    near, far = link(a, left, ifindex=2, peer=3, **fields), link(b, right, ifindex=3, peer=2, **fields)
    return (replace(near, peer=b), replace(far, peer=a)) if left == right else (near, far)


def observed(*links: Link, **fields: Any) -> Observation:
    spaces = {Space(): OWN, SPACE0: S0, SPACE1: S1}
    return Observation(own=OWN, spaces=spaces, links=links, named={"s0": S0}, **fields)


def world(*wishes: Wish, invalid: frozenset[str] = frozenset()) -> World:
    return World({wish.name: wish for wish in wishes}, invalid)


def states(one: World, seen: Observation, facts: Facts | None = None) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = expect(one, facts or Facts(), seen, LABEL).states
    return {name: (state.config_state, state.missing) for name, state in found.items()}


# States


def test_a_pair_is_applied_and_an_end_alone_waits() -> None:
    assert states(world(end("a", "b")), observed()) == {"a": ("PENDING", ("interface b",))}
    both = world(end("a", "b"), end("b", "a", SPACE1))
    expected = expect(both, Facts(), observed(), LABEL)
    assert {state.config_state for state in expected.states.values()} == {"APPLIED"}
    assert {name: place for name, (_, place) in expected.links.items()} == {"a": (S0, "a"), "b": (S1, "b")}


def test_ends_that_do_not_name_each_other_wait() -> None:
    three = world(end("a", "b"), end("b", "c"), end("c", "b"))
    assert states(three, observed())["a"] == ("PENDING", ("interface b",))
    assert states(three, observed())["b"] == ("APPLIED", ())


@pytest.mark.parametrize("space", [Space("pid", "7"), Space("file", "/x"), Space("microservice", "m")])
def test_a_namespace_is_waited_for_but_a_named_one_is_made(space: Space) -> None:
    both = world(end("a", "b", space), end("b", "a", Space("named", "new")))
    assert states(both, observed()) == {
        "a": ("PENDING", (f"namespace {space}",)),
        "b": ("PENDING", ("interface a",)),
    }
    both = world(end("a", "b", Space("named", "new")), end("b", "a"))
    assert expect(both, Facts(), observed(), LABEL).links["a"][1] == (Space("named", "new"), "a")


def test_a_file_that_is_no_namespace_is_invalid_and_its_link_stays() -> None:
    space = Space("file", "/x")
    seen = observed(*pair("a", "b"), ordinary=frozenset({space}))
    expected = expect(world(end("a", "b", space), end("b", "a")), Facts(), seen, LABEL)
    assert expected.states == {"a": INVALID, "b": State("PENDING", ("interface a",))}
    assert expected.frozen == {"a", "b"}


def test_of_two_rivals_the_one_that_has_the_place_keeps_it() -> None:
    rivals = world(end("a", "b"), end("b", "a"), end("c", "d", host_if_name="a"), end("d", "c"))
    assert states(rivals, observed())["c"] == ("INVALID", ())
    seen = observed(*pair("c", "d", host_name="x"))
    assert states(rivals, seen)["c"] == ("INVALID", ())
    there = link("c", ifindex=2, peer=3, host_name="a")
    found = states(rivals, observed(there, link("d", ifindex=3, peer=2)))
    assert (found["a"], found["b"], found["c"]) == (("INVALID", ()), ("PENDING", ("interface a",)), ("APPLIED", ()))


def test_a_foreign_link_at_the_place_is_a_conflict() -> None:
    both = world(end("a", "b"), end("b", "a"))
    foreign = Link(host_name="a", space=S0, kind="bridge")
    facts = Facts(foreign=frozenset({(S0, "a")}))
    expected = expect(both, facts, observed(foreign), LABEL)
    assert expected.states == {"a": FAILED, "b": State("PENDING", ("interface a",))}
    assert not expected.links
    # A pair that is there stays where it is.
    near, far = pair("a", "b")
    seen = observed(foreign, replace(near, host_name="old"), replace(far, peer="old"))
    expected = expect(both, facts, seen, LABEL)
    assert (expected.states["a"].config_state, expected.states["b"].config_state) == ("FAILED", "APPLIED")
    assert expected.links["a"][1] == (S0, "old")


def test_without_ipv6_the_rest_is_done_and_the_failure_told() -> None:
    wish = end("a", "b", addresses=("10.0.0.1/24", "2001:db8::1/64"))
    expected = expect(world(wish, end("b", "a", SPACE1)), Facts(), observed(without_ipv6=frozenset({S0})), LABEL)
    assert (expected.states["a"].config_state, expected.states["b"].config_state) == ("FAILED", "APPLIED")
    assert expected.links["a"][0].addresses == ("10.0.0.1/24",)


def test_an_end_that_leaves_a_namespace_of_others_does_not_wait_there() -> None:
    foreign = Link(host_name="a", space=S1, kind="bridge")
    facts = Facts(foreign=frozenset({(S1, "a")}))
    there = pair("a", "b")
    expected = expect(world(end("a", "b", SPACE1), end("b", "a")), facts, observed(foreign, *there), LABEL)
    assert expected.states == {"a": FAILED, "b": State("PENDING", ("interface a",))}
    assert not expected.links
    # Out of the agent's own it is moved, and stays until it can be.
    expected = expect(
        world(end("a", "b", SPACE1), end("b", "a")), facts, observed(foreign, *pair("a", "b", OWN)), LABEL
    )
    assert expected.links["a"][1] == (OWN, "a")


def test_who_waits_for_the_place_of_one_that_is_stuck_waits_for_its_host_name() -> None:
    foreign = Link(host_name="h", space=S0, kind="bridge")
    facts = Facts(foreign=frozenset({(S0, "h")}))
    wishes = world(end("a", "b", host_if_name="h"), end("b", "a"), end("c", "d", host_if_name="a"), end("d", "c"))
    seen = observed(foreign, *pair("a", "b"))
    assert states(wishes, seen, facts) == {
        "a": ("FAILED", ()),
        "b": ("APPLIED", ()),
        "c": ("PENDING", ("host name a",)),
        "d": ("PENDING", ("interface c",)),
    }


def test_two_that_want_each_others_places_get_them() -> None:
    wishes = world(end("a", "b", host_if_name="c"), end("b", "a"), end("c", "d", host_if_name="a"), end("d", "c"))
    near, far = pair("c", "d")
    seen = observed(*pair("a", "b"), replace(near, ifindex=4, peer=5), replace(far, ifindex=5, peer=4))
    assert {state for state, _ in states(wishes, seen).values()} == {"APPLIED"}


def test_a_tap_is_waited_for_and_adopted() -> None:
    wish = tap("t", space=SPACE1)
    assert states(world(wish), observed()) == {"t": ("PENDING", ("tap vpp-t",))}
    facts = Facts(taps={"vpp-t": "02:00:00:00:00:01"})
    free = Link(host_name="vpp-t", space=OWN, kind="tun", mac="02:00:00:00:00:01")
    expected = expect(world(wish), facts, observed(free), LABEL)
    assert expected.states["t"].config_state == "APPLIED"
    assert expected.links["t"][1] == (S1, "t")
    adopted = replace(free, host_name="t", space=S1, alias=f"ifagent-tap/{LABEL}/vpp-t/02:00:00:00:00:01/1500/t")
    [different] = Comparison(world(), facts, observed(adopted), LABEL, {})._left_over()
    assert different == "left over: t in 201 of t"


def test_a_link_of_others_is_waited_for_configured_and_let_go() -> None:
    wish = Wish(name="e", existing=True, host_if_name="h", space=SPACE0, addresses=("10.0.0.1/24",))
    assert states(world(wish), observed()) == {"e": ("PENDING", ("link h",))}
    facts = Facts(foreign=frozenset({(S0, "h"), (OWN, "h")}))
    bare = Link(host_name="h", space=S0, kind="bridge")
    right = replace(bare, alias=f"ifagent-link/{LABEL}//e", addresses=wish.addresses)
    assert states(world(wish), observed(bare), facts) == {"e": ("APPLIED", ())}
    for one, there, is_right in (
        (world(wish), right, True),
        (world(wish), bare, False),
        (world(wish), replace(right, addresses=()), False),
        (world(), bare, True),
        (world(), right, False),
        (world(replace(wish, link_only=True, addresses=())), bare, True),
    ):
        comparison = Comparison(one, facts, observed(there), LABEL, {})
        assert (not list(comparison._of_other(there))) is is_right
    # It has the place before any link of ours, and in the agent's own namespace it is the host's.
    rivals = world(wish, end("a", "b", host_if_name="h"), end("b", "a"))
    assert states(rivals, observed(bare), facts)["a"] == ("INVALID", ())
    host = replace(wish, space=Space())
    assert states(world(host), observed(replace(bare, space=OWN)), facts) == {"e": ("INVALID", ())}
    assert states(world(wish), observed(link("a", host_name="h"))) == {"e": ("FAILED", ())}


# Invalid values


def test_an_invalid_value_leaves_the_last_one_in_force() -> None:
    intent = Intent()
    first, second = end("a", "b", mtu=1400), end("a", "b", mtu=1500)
    intent.put("a", Family.V1, first)
    intent.settle(next(intent.worlds()))
    intent.put("a", Family.V1, None)
    assert [one.wishes for one in intent.worlds()] == [{"a": first}]
    intent.put("a", Family.V1, second)
    intent.put("a", Family.V1, None)
    # The agent may not have heard of the second one.
    assert [one.wishes for one in intent.worlds()] == [{"a": second}, {"a": first}]
    intent.restart()
    assert [(one.wishes, one.unknown) for one in intent.worlds()] == [({}, frozenset("a"))]
    assert states(next(intent.worlds()), observed()) == {"a": ("INVALID", ())}


def test_what_was_deleted_may_still_be_in_force_for_an_invalid_value() -> None:
    intent = Intent()
    wish = end("a", "b")
    intent.put("a", Family.V1, wish)
    intent.settle(next(intent.worlds()))
    intent.delete("a", Family.V1)
    assert [one.declared for one in intent.worlds()] == [frozenset()]
    intent.put("a", Family.V1, None)
    assert [one.wishes for one in intent.worlds()] == [{}, {"a": wish}]
    intent.restart()
    assert [one.wishes for one in intent.worlds()] == [{}]


def test_a_restart_before_an_invalid_value_may_come_after_it() -> None:
    intent = Intent()
    wish = end("a", "b")
    intent.put("a", Family.V1, wish)
    intent.restart()
    intent.put("a", Family.V1, None)
    assert [one.wishes for one in intent.worlds()] == [{}, {"a": wish}]


def test_of_two_families_v3_counts_even_when_it_is_invalid() -> None:
    intent = Intent()
    one, three = end("a", "b", mtu=1400), end("a", "b", mtu=1500)
    intent.put("a", Family.V1, one)
    intent.put("a", Family.V3, three)
    assert intent.value("a") == three
    intent.put("a", Family.V3, None)
    assert next(intent.worlds()).invalid == {"a"}
    intent.delete("a", Family.V3)
    assert intent.value("a") == one
    intent.delete("a", Family.V1)
    assert not intent.declared


# Comparing


def published(one: Link, **fields: Any) -> dict[str, Any]:
    return {
        "config_state": "APPLIED",
        "internal_name": one.host_name,
        "if_index": one.ifindex,
        "phys_address": one.mac,
        "mtu": one.mtu,
        "admin_status": 1 if one.up else 2,
        "ip_addresses": list(one.addresses),
        "observed_revision": 5,
        "applied_revision": 5,
    } | fields


def intact(**fields: Any) -> tuple[World, Observation]:
    addresses = ("10.0.0.1/24",)
    wishes = world(end("a", "b", addresses=addresses), end("b", "a", addresses=addresses))
    near, far = pair("a", "b", addresses=addresses)
    near = replace(near, **fields)
    return wishes, observed(near, far, states={"a": published(near), "b": published(far)})


def test_what_is_right_has_no_differences() -> None:
    wishes, seen = intact()
    assert list(Comparison(wishes, Facts(), seen, LABEL, {}).differences()) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"mtu": 1400},
        {"up": False},
        {"host_name": "x"},
        {"space": S1},
        {"group": "0"},
        {"mac": "02:00:00:00:00:99"},
        {"mac": "00:00:00:00:00:99"},
        {"addresses": ()},
        {"addresses": ("10.0.0.1/24", "10.0.0.2/24")},
        {"peer": 7},
        {"alias": ""},
        {"kind": "bridge"},
    ],
)
def test_whatever_is_wrong_with_a_link_is_found(fields: dict[str, Any]) -> None:
    wishes, seen = intact(**fields)
    macs = {"a": "02:00:00:00:00:01"}
    assert list(Comparison(wishes, Facts(), seen, LABEL, macs).differences())


@pytest.mark.parametrize(
    "change",
    [
        {"config_state": "RETRYING"},
        {"config_state": "INVALID"},
        {"mtu": 1},
        {"if_index": 9},
        {"ip_addresses": []},
        {"admin_status": 2},
        {"applied_revision": 4},
    ],
)
def test_whatever_is_wrong_with_a_state_is_found(change: dict[str, Any]) -> None:
    wishes, seen = intact()
    broken = replace(seen, states={**seen.states, "a": {**seen.states["a"], **change}})
    assert list(Comparison(wishes, Facts(), broken, LABEL, {}).differences())


def test_what_is_left_over_or_gone_is_found() -> None:
    wishes, seen = intact()
    more = link("z"), Link(host_name="y", space=S0), link("a", S1, host_name="second")
    for extra in more:
        broken = replace(seen, links=(*seen.links, extra))
        assert list(Comparison(wishes, Facts(), broken, LABEL, {}).differences())
    for broken, facts in (
        (replace(seen, links=seen.links[1:]), Facts()),
        (replace(seen, states={}), Facts()),
        (replace(seen, states={**seen.states, "c": seen.states["a"]}), Facts()),
        (replace(seen, stale=frozenset({"s9"})), Facts()),
        (replace(seen, named={**seen.named, "s9": 300}), Facts()),
        (seen, Facts(namespaces=frozenset({"s9"}))),
        (seen, Facts(foreign=frozenset({(S0, "h")}))),
        (seen, Facts(taps={"vpp-t": "02:00:00:00:00:01"})),
    ):
        assert list(Comparison(wishes, facts, broken, LABEL, {}).differences()), (broken, facts)


def test_the_nearest_world_is_compared() -> None:
    intent = Intent()
    wishes, seen = intact()
    for name, wish in wishes.wishes.items():
        intent.put(name, Family.V1, wish)
    intent.settle(next(intent.worlds()))
    intent.put("a", Family.V1, end("a", "b", mtu=9000))
    intent.put("a", Family.V1, None)
    invalid = {**seen.states["a"], "config_state": "INVALID", "reason": "bad"}
    seen = replace(seen, states={**seen.states, "a": invalid})
    nearest, different = differences_from_nearest(intent, Facts(), seen, LABEL, {})
    assert (nearest.wishes["a"], different) == (wishes.wishes["a"], [])


def test_what_is_left_where_nobody_refers_to_may_be_out_of_sight_of_an_agent_that_has_begun_anew() -> None:
    intent = Intent()
    wish = tap("t", space=SPACE0)
    intent.put("t", Family.V1, wish)
    mac = "02:00:00:00:00:01"
    facts = Facts(taps={"vpp-t": mac})
    left = Link(host_name="t", space=300, kind="tun", mac=mac, alias=f"ifagent-tap/{LABEL}/vpp-t/{mac}/1500/t")
    waits = {"t": {"config_state": "PENDING", "missing": ["tap vpp-t"], "reason": "none"}}
    seen = observed(left, states=waits)
    seen = replace(seen, spaces={**seen.spaces, Space("pid", "7"): 300})
    assert differences_from_nearest(intent, facts, seen, LABEL, {})[1]
    assert not differences_from_nearest(intent, facts, seen, LABEL, {}, begun_anew=True)[1]
    # Where somebody refers to, it is looked at.
    intent.put("a", Family.V1, end("a", "b", Space("pid", "7")))
    more = {**waits, "a": {"config_state": "PENDING", "missing": ["interface b"], "reason": "none"}}
    assert differences_from_nearest(intent, facts, replace(seen, states=more), LABEL, {}, begun_anew=True)[1]


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        (["10.0.0.2/24", "10.0.1.1/24", "10.0.0.1/24"], ["10.0.0.2/24", "10.0.1.1/24", "10.0.0.1/24"]),
        (["10.0.0.2/24", "10.0.0.1/24", "10.0.1.1/24"], ["10.0.0.2/24", "10.0.1.1/24", "10.0.0.1/24"]),
        (["fe80::77/64", "2001:db8::1/64", "10.0.0.1/8"], ["10.0.0.1/8", "2001:db8::1/64", "fe80::77/64"]),
    ],
)
def test_addresses_in_the_order_of_the_kernel(given: list[str], listed: list[str]) -> None:
    assert in_kernel_order(tuple(given)) == tuple(listed)


# Values and scripts


@pytest.mark.parametrize("form", Form)
def test_values_are_what_the_agent_reads(form: Form) -> None:
    fields: dict[str, Any] = {"host_if_name": "h", "mtu": 1400, "mac": "02:00:00:00:00:01"}
    fields["addresses"] = ("10.0.0.1/24",)
    read = ligato_v3.decode if form is Form.V3_JSON else ligato_v1.decode
    for space in (Space(), SPACE0, Space("pid", "77"), Space("file", "/x"), Space("microservice", "m")):
        existing = Wish(name="e", existing=True, link_only=True, space=space, **fields)
        for wish in (end("a", "b", space, **fields), tap("t", space=space, enabled=False, **fields), existing):
            decoded = read(encode(wish, form), name=wish.name)
            assert not decoded.warnings
            found = decoded.interface
            assert (found.kind.type, found.link_only) == (wish.kind, wish.link_only)
            assert (found.name, found.mtu, found.phys_address) == (wish.name, 1400, wish.mac)
            assert (found.host_name, found.enabled) == ("h", wish.enabled)
            assert tuple(map(str, found.ip_addresses)) == wish.addresses
            assert (str(found.namespace.type), found.namespace.reference) == tuple(space)


@pytest.mark.parametrize("which", range(len(BAD)))
def test_bad_values_are_bad_in_both_families(which: int) -> None:
    value = bad_value(which, "a")
    assert ligato_v1.declare(value, name="a", revision=1).errors
    assert ligato_v3.declare(value, name="a", revision=1).errors


def test_a_seed_is_a_list_of_actions() -> None:
    def actions(seed: int) -> list[object]:
        return list(Script(seed, Mix(), containers=True).actions(500))

    assert actions(1) == actions(1)
    assert actions(1) != actions(2)
    assert json.dumps(list(map(str, actions(3))))
