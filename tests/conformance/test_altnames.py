"""Other names of links, which share one space with their host names."""

from __future__ import annotations

import errno

import pytest
from kernel_rig import Rig

from ifagent.core.names import HostName
from ifagent.core.operations import MoveLink, RemoveAltname, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def pair(rig: Rig) -> Rig:
    """Return a rig with a pair ``e0`` that is up, from namespace ``a`` to ``b``."""
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "e0"), ("b", "e0"), up=True)
    return rig


def give(rig: Rig, name: str, host_name: str, *altnames: str) -> None:
    for altname in altnames:
        rig.external.add_altname(name, host_name, altname)
    rig.kernel.drain()


async def test_altnames_are_told(pair: Rig) -> None:
    give(pair, "a", "e0", "one", "two")
    assert pair.link("a", "e0").altnames == ("one", "two")
    assert await pair.do(RemoveAltname(pair.target("a", "e0"), HostName("one"))) == 0
    assert pair.link("a", "e0").altnames == ("two",)
    await pair.attach("a")
    assert pair.link("a", "e0").altnames == ("two",)


async def test_nobody_is_told_of_altnames_of_a_link_that_is_down(pair: Rig) -> None:
    assert await pair.do(SetLink(target=pair.target("a", "e0"), up=False)) == 0
    give(pair, "a", "e0", "one")
    assert pair.link("a", "e0").altnames == ()
    await pair.attach("a")
    assert pair.link("a", "e0").altnames == ("one",)


async def test_an_altname_that_is_not_there(pair: Rig) -> None:
    assert await pair.do(RemoveAltname(pair.target("a", "e0"), HostName("one"))) == errno.ENOENT


async def test_who_has_a_name_is_told(pair: Rig) -> None:
    await pair.make_pair(("a", "f0"), ("b", "f0"))
    give(pair, "a", "e0", "taken")
    ifindex = pair.link("a", "e0").id.ifindex
    told = f"taken is another name of e0, ifindex {ifindex}"
    for operation in (
        pair.pair(("a", "taken"), ("b", "x0")),
        pair.pair(("b", "x0"), ("a", "taken")),
        SetLink(target=pair.target("a", "f0"), host_name=HostName("taken")),
        SetLink(target=pair.target("a", "e0"), host_name=HostName("taken")),
    ):
        (outcome,) = await pair.execute(operation)
        assert (outcome.errno, outcome.text) == (errno.EEXIST, told)
    (outcome,) = await pair.execute(SetLink(target=pair.target("a", "f0"), host_name=HostName("e0")))
    assert (outcome.errno, outcome.text) == (errno.EEXIST, f"e0, ifindex {ifindex}, is there")


async def test_a_link_takes_its_altnames_along(pair: Rig) -> None:
    give(pair, "a", "e0", "one")
    assert await pair.do(MoveLink(pair.target("a", "e0"), pair.id("b"), HostName("e1"))) == 0
    assert pair.link("b", "e1").altnames == ("one",)


async def test_unless_it_is_told_not_to(pair: Rig) -> None:
    give(pair, "a", "e0", "one", "e1", "more-than-15-bytes")
    give(pair, "b", "e0", "taken")
    assert await pair.do(MoveLink(pair.target("a", "e0"), pair.id("b"), HostName("e1"), altnames=False)) == 0
    assert pair.link("b", "e1").altnames == ()
    give(pair, "b", "e0", "one", "more-than-15-bytes")


async def test_a_link_is_renamed_to_its_altname_once_that_is_off(pair: Rig) -> None:
    give(pair, "a", "e0", "one", "two")
    target = pair.target("a", "e0")
    for operation in (RemoveAltname(target, HostName("one")), SetLink(target=target, host_name=HostName("one"))):
        assert await pair.do(operation) == 0
    assert pair.link("a", "one").altnames == ("two",)
