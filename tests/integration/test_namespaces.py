"""Named namespaces: made when needed, taken away when not, and never by merely looking."""

from __future__ import annotations

import pytest
from lab import Lab, ip, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd]


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


def test_only_realising_makes_a_namespace_and_it_goes_when_unused(running: Lab) -> None:
    left, right = running.space("l"), running.space("r")
    running.put(veth("a", "b", left))
    running.until_state("a", "PENDING")
    assert not running.spaces()
    running.put(veth("b", "a", right))
    running.until_applied("a", "b")
    assert running.spaces() == {left, right}
    running.delete("a", "b")
    until(lambda: not running.spaces())


def test_a_namespace_of_others_stays(running: Lab) -> None:
    space = running.space("s")
    ip("netns", "add", space)
    running.put(*pair("a", "b", space, space))
    running.until_applied("a", "b")
    running.delete("a", "b")
    until(lambda: not running.links(space))
    until(lambda: not running.states())
    assert running.spaces() == {space}


def test_a_namespace_with_links_of_others_stays_until_they_are_gone(running: Lab) -> None:
    space = running.space("s")
    running.put(*pair("a", "b", space, space))
    running.until_applied("a", "b")
    ip("-n", space, "link", "add", "foreign", "type", "bridge")
    running.delete("a", "b")
    until(lambda: running.links(space).keys() == {"foreign"})
    until(lambda: not running.states())
    assert running.spaces() == {space}
    ip("-n", space, "link", "del", "foreign")
    until(lambda: not running.spaces())


def test_a_namespace_deleted_by_hand_is_made_again(running: Lab) -> None:
    left, right = running.space("l"), running.space("r")
    running.put(*pair("a", "b", left, right, mtu=1400))
    running.until_applied("a", "b")
    ip("netns", "del", left)
    until(lambda: running.link("a", left).get("mtu") == 1400, what=running.logs)
    until(lambda: running.state("a").get("repairs", 0) >= 1, what=running.logs)
    running.until_applied("a", "b")


def test_other_namespaces_are_left_alone(running: Lab) -> None:
    spaces = [running.space(f"o{number}") for number in range(20)]
    for space in spaces:
        ip("netns", "add", space)
    running.put(*pair("a", "b"))
    running.until_applied("a", "b")
    for space in spaces:
        ip("netns", "del", space)
    until(lambda: not running.spaces())
    running.delete("a", "b")


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "x" * 300])
def test_names_that_are_no_names_are_refused(running: Lab, name: str) -> None:
    running.put(veth("a", "b", name))
    state = running.until_state("a", "INVALID")
    assert [error["field"] for error in state["errors"]] == ["namespace.name"]
