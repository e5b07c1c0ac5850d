"""The parts of chaos beside its model: what must stay, what may not grow, and how actions are written down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from chaos.actions import Action, Drift, Simple, Store, Value, What, kind_of, line_of
from chaos.intent import Intent, World
from chaos.observation import Link, Observation
from chaos.resources import Sample, growth
from chaos.steady import Steady
from chaos.values import Family, Form, Space, Wish

LABEL = "test"
SPACE = Space("named", "s0")


def links(ifindex: int = 2) -> tuple[Link, Link]:
    near = Link(host_name="a", space=200, ifindex=ifindex, peer="b", alias=f"ifagent/{LABEL}/a")
    return near, replace(near, host_name="b", ifindex=ifindex + 1, peer="a", alias=f"ifagent/{LABEL}/b")


def seen(*there: Link, state: str = "APPLIED") -> Observation:
    states = {name: {"config_state": state} for name in "ab"}
    return Observation(own=100, spaces={Space(): 100, SPACE: 200}, links=there, states=states)


def steady_after(*actions: Action, state: str = "APPLIED") -> list[str]:
    """Return what is wrong when a pair is made anew after these actions."""
    intent = Intent()
    intent.put("a", Family.V1, wish())
    steady = Steady(LABEL)
    world = World({"a": wish(), "b": wish(name="b", peer="a")}, frozenset())
    steady.begin(seen(*links(), state=state), world)
    for action in actions:
        steady.note(action, intent, lambda space: space)
    assert not list(steady.check(seen(*links())))
    return list(steady.check(seen(*links(ifindex=5))))


def wish(**fields: Any) -> Wish:
    return Wish(**{"name": "a", "peer": "b", "space": SPACE} | fields)


def put(after: Wish | None) -> Store:
    return Store((Value("a", Form.V1_JSON, after),))


def drift(*words: str, host_name: str = "a", to: Space | None = None) -> Drift:
    return Drift("a", SPACE, host_name, words, to)


@pytest.mark.parametrize(
    "action",
    [
        put(wish(mtu=1400, enabled=False, mac="02:00:00:00:00:09", addresses=("10.0.0.1/24",))),
        put(None),
        drift("link", "set", "dev", "DEV", "down"),
        drift("address", "flush", "dev", "DEV"),
        Simple(What.AGENT_KILL),
        Simple(What.ETCD_STOP),
        Simple(What.NAMESPACE_ADD, "s0"),
        Simple(What.NAMESPACE_DELETE, "s1"),
    ],
)
def test_what_does_not_end_a_link_is_no_excuse(action: Action) -> None:
    assert len(steady_after(action)) == 2


@pytest.mark.parametrize(
    "action",
    [
        put(wish(peer="c")),
        put(wish(host_if_name="x")),
        put(wish(space=Space())),
        Store((), (("b", Family.V1),)),
        drift("link", "delete", "dev", "DEV"),
        drift("link", "set", "dev", "DEV", "netns", to=Space()),
        replace(drift("link", "delete", "dev", "DEV", host_name="b"), name="z"),
        Simple(What.NAMESPACE_DELETE, "s0"),
    ],
)
def test_what_may_end_a_link_is_one(action: Action) -> None:
    assert not steady_after(action)


def test_what_was_not_applied_may_change() -> None:
    assert not steady_after(state="PENDING")


def samples(*descriptors: int, memory: float = 70.0, step: float = 0.0) -> list[Sample]:
    return [Sample(count, memory + step * number, 10, 1) for number, count in enumerate(descriptors)]


def test_growth_is_found() -> None:
    same = [27] * 15
    assert not growth(samples(*same))
    assert not growth(samples(40, 35, 30, *same))
    assert not growth(samples(*same, step=0.1))
    assert growth(samples(*same, step=0.6)) == ["memory has grown from 72.7 to 77.5 MiB"]
    assert growth(samples(*same, 28))
    assert growth(samples(*range(20, 40)))
    assert growth(samples(1, 1, 1, 1)) == ["only 1 samples after the first 3, too few to tell"]


def test_actions_are_counted_and_written_down() -> None:
    assert kind_of(put(wish())) == "put"
    assert kind_of(put(None)) == "put invalid"
    assert kind_of(Store((), (("a", Family.V1),))) == "delete"
    assert kind_of(drift("link", "set", "dev", "DEV", "mtu", "900")) == "drift link set dev mtu"
    assert line_of(Simple(What.ETCD_STOP)) == line_of(Simple(What.ETCD_STOP))
    assert line_of(Simple(What.ETCD_STOP)) != line_of(Simple(What.ETCD_KILL))
