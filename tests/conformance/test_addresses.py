from __future__ import annotations

import errno

import pytest
from kernel_rig import IFA_F_SECONDARY, MAC, Rig, address

from ifagent.core.link import Address
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress, LinkEnd, PromoteSecondaries, SetLink

pytest_plugins = ["kernel_fixtures"]
pytestmark = pytest.mark.anyio


async def make(rig: Rig, *, up: bool = True, detect_duplicates: bool = False) -> Target:
    """Make a pair from ``a`` to ``b`` and return its end in ``a``, with a known automatic address once it is up."""
    await rig.add_namespaces("a", "b", detect_duplicates=detect_duplicates)
    near, far = (LinkEnd(rig.id(name), HostName("e0"), MAC.format(i), 1500) for i, name in enumerate("ab", start=1))
    assert await rig.do(CreateLink("veth", (near, far), 0)) == 0
    if up:
        for name in "ba":
            assert await rig.do(SetLink(target=rig.target(name, "e0"), up=True)) == 0
        await rig.until(lambda: AUTOMATIC in rig.addresses("a", "e0", automatic=True))
    return rig.target("a", "e0")


AUTOMATIC = "fe80::5eff:fe10:1/64"


async def add(rig: Rig, target: Target, *texts: str) -> None:
    for text in texts:
        assert await rig.do(AddAddress(target, address(text))) == 0


async def drop(rig: Rig, target: Target, *texts: str) -> None:
    for text in texts:
        assert await rig.do(DeleteAddress(target, address(text))) == 0


def found(rig: Rig, text: str) -> Address:
    (one,) = (a for a in rig.link("a", "e0").addresses if str(a.interface) == text)
    return one


async def test_ipv4_in_the_order_added_then_the_secondaries(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.2/24", "10.0.0.1/24", "10.0.1.1/24", "10.0.0.3/24", "10.0.0.2/16", "192.168.0.1/32")
    assert rig.addresses("a", "e0") == [
        "10.0.0.2/24",
        "10.0.1.1/24",
        "10.0.0.2/16",
        "192.168.0.1/32",
        "10.0.0.1/24",
        "10.0.0.3/24",
    ]
    secondaries = [str(a.interface) for a in rig.link("a", "e0").addresses if a.flags & IFA_F_SECONDARY]
    assert secondaries == ["10.0.0.1/24", "10.0.0.3/24"]


async def test_ipv4_loopback_addresses_come_first(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "127.0.0.5/32", "127.0.0.6/32", "10.0.1.1/24")
    assert rig.addresses("a", "e0") == ["127.0.0.5/32", "127.0.0.6/32", "10.0.0.1/24", "10.0.1.1/24"]


async def test_deleting_the_primary_drops_its_secondaries(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "10.0.1.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.9/16", "10.0.1.2/24")
    await drop(rig, e0, "10.0.0.1/24")
    assert rig.addresses("a", "e0") == ["10.0.1.1/24", "10.0.0.9/16", "10.0.1.2/24"]


async def test_secondaries_outlive_their_primary_when_asked(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "10.0.1.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.1.2/24", "127.0.0.5/32")
    for _ in range(2):
        assert await rig.do(PromoteSecondaries(e0)) == 0
    await drop(rig, e0, "10.0.0.1/24")
    left = ["127.0.0.5/32", "10.0.1.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.1.2/24"]
    assert rig.addresses("a", "e0") == left
    assert not found(rig, "10.0.0.2/24").flags & IFA_F_SECONDARY
    await rig.attach("a")
    assert rig.addresses("a", "e0") == left
    await drop(rig, e0, "10.0.1.1/24", "10.0.0.2/24")
    assert rig.addresses("a", "e0") == ["127.0.0.5/32", "10.0.1.2/24", "10.0.0.3/24"]


async def test_deleting_a_secondary_drops_it_alone(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24")
    await drop(rig, e0, "10.0.0.2/24")
    assert rig.addresses("a", "e0") == ["10.0.0.1/24", "10.0.0.3/24"]


async def test_after_the_primary_the_next_one_added_is_primary(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "10.0.0.2/24")
    await drop(rig, e0, "10.0.0.1/24")
    await add(rig, e0, "10.0.0.2/24", "10.0.0.1/24")
    assert rig.addresses("a", "e0") == ["10.0.0.2/24", "10.0.0.1/24"]
    assert not found(rig, "10.0.0.2/24").flags & IFA_F_SECONDARY
    assert found(rig, "10.0.0.1/24").flags & IFA_F_SECONDARY


@pytest.mark.parametrize("detect_duplicates", [False, True])
async def test_ipv6_newest_first_within_its_scope(rig: Rig, detect_duplicates: bool) -> None:
    e0 = await make(rig, detect_duplicates=detect_duplicates)
    await add(
        rig,
        e0,
        "2001:db8::1/64",
        "fe80::5/64",
        "2001:db8::2/64",
        "fec0::1/64",
        "fd00::1/64",
        "fe80::6/64",
        "2001:db8::3/128",
        "::ffff:1.2.3.4/96",
        "2001:db8:2::/64",
    )
    expected = [
        "2001:db8:2::/64",
        "::ffff:102:304/96",
        "2001:db8::3/128",
        "fd00::1/64",
        "2001:db8::2/64",
        "2001:db8::1/64",
        "fec0::1/64",
        "fe80::6/64",
        "fe80::5/64",
        AUTOMATIC,
    ]
    interfaces = [a.interface for a in rig.link("a", "e0").addresses]
    assert interfaces == [address(text) for text in expected]


async def test_ipv4_comes_before_ipv6(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "2001:db8::1/64", "10.0.0.1/24")
    assert rig.addresses("a", "e0") == ["10.0.0.1/24", "2001:db8::1/64"]


async def test_what_is_there_already(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64")
    for text in ("10.0.0.1/24", "2001:db8::1/64", "2001:db8::1/48", AUTOMATIC):
        (outcome,) = await rig.execute(AddAddress(e0, address(text)))
        assert outcome.errno == errno.EEXIST
        assert outcome.text, "the kernel says why"
    await add(rig, e0, "10.0.0.1/16", "10.0.0.1/25")
    assert rig.addresses("a", "e0") == ["10.0.0.1/24", "10.0.0.1/16", "10.0.0.1/25", "2001:db8::1/64"]


async def test_one_address_on_two_links(rig: Rig) -> None:
    e0 = await make(rig)
    await rig.make_pair(("a", "f0"), ("b", "f1"))
    for text in ("10.0.0.1/24", "2001:db8::1/64"):
        await add(rig, e0, text)
        await add(rig, rig.target("a", "f0"), text)
    assert rig.addresses("a", "f0") == ["10.0.0.1/24", "2001:db8::1/64"]


async def test_what_is_not_there(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64")
    for text in ("10.0.0.2/24", "10.0.0.1/25", "10.0.0.1/32", "2001:db8::2/64", "2001:db8::1/48", "fe80::77/64"):
        (outcome,) = await rig.execute(DeleteAddress(e0, address(text)))
        assert outcome.errno == errno.EADDRNOTAVAIL
        assert outcome.text, "the kernel says why"
    assert rig.addresses("a", "e0") == ["10.0.0.1/24", "2001:db8::1/64"]


@pytest.mark.parametrize("text", ["::1/128", "::/64", "ff02::1/64"])
async def test_ipv6_addresses_that_cannot_be(rig: Rig, text: str) -> None:
    e0 = await make(rig)
    (outcome,) = await rig.execute(AddAddress(e0, address(text)))
    assert outcome.errno == errno.EADDRNOTAVAIL
    assert outcome.text, "the kernel says why"
    assert rig.addresses("a", "e0") == []


@pytest.mark.parametrize("text", ["224.0.0.1/4", "255.255.255.255/32", "10.0.0.0/24", "10.0.0.255/24", "1.1.1.1/0"])
async def test_ipv4_addresses_that_surprisingly_can_be(rig: Rig, text: str) -> None:
    e0 = await make(rig)
    await add(rig, e0, text)
    assert rig.addresses("a", "e0") == [text]


async def test_the_unspecified_ipv4_address_is_accepted_and_forgotten(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "0.0.0.0/8")
    assert rig.addresses("a", "e0") == []


async def test_down_takes_ipv6_away(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64", "fe80::5/64")
    assert await rig.do(SetLink(target=e0, up=False)) == 0
    assert rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24"]
    assert await rig.do(SetLink(target=e0, up=True)) == 0
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24", AUTOMATIC])


async def test_the_peer_going_down_takes_no_address_away(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64")
    before = rig.addresses("a", "e0", automatic=True)
    assert await rig.do(SetLink(target=rig.target("b", "e0"), up=False)) == 0
    await rig.until(lambda: not rig.link("a", "e0").carrier)
    assert rig.addresses("a", "e0", automatic=True) == before


@pytest.mark.parametrize("detect_duplicates", [False, True])
async def test_ipv6_on_a_link_that_is_down_stays_when_it_comes_up(rig: Rig, detect_duplicates: bool) -> None:
    e0 = await make(rig, up=False, detect_duplicates=detect_duplicates)
    await add(rig, e0, "2001:db8::1/64", "fe80::5/64", "2001:db8::2/64", "10.0.0.1/24")
    assert rig.addresses("a", "e0") == ["10.0.0.1/24", "2001:db8::2/64", "2001:db8::1/64", "fe80::5/64"]
    for name in "ab":
        assert await rig.do(SetLink(target=rig.target(name, "e0"), up=True)) == 0
    expected = ["10.0.0.1/24", "2001:db8::2/64", "2001:db8::1/64", AUTOMATIC, "fe80::5/64"]
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == expected)


async def test_no_automatic_address_before_there_is_carrier(rig: Rig) -> None:
    e0 = await make(rig, up=False)
    assert await rig.do(SetLink(target=e0, up=True)) == 0
    assert rig.addresses("a", "e0", automatic=True) == []
    assert await rig.do(SetLink(target=rig.target("b", "e0"), up=True)) == 0
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == [AUTOMATIC])
    assert found(rig, AUTOMATIC).made_by_kernel


async def test_a_deleted_automatic_address_comes_back_only_after_down(rig: Rig) -> None:
    e0 = await make(rig)
    await drop(rig, e0, AUTOMATIC)
    for up in (False, True):
        assert await rig.do(SetLink(target=rig.target("b", "e0"), up=up)) == 0
        await rig.until(lambda carrier=up: rig.link("a", "e0").carrier is carrier)  # type: ignore[misc]
    assert rig.addresses("a", "e0", automatic=True) == []
    for up in (False, True):
        assert await rig.do(SetLink(target=e0, up=up)) == 0
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == [AUTOMATIC])


async def test_a_listed_address_like_the_automatic_one_stays_listed(rig: Rig) -> None:
    e0 = await make(rig, up=False)
    await add(rig, e0, AUTOMATIC)
    for name in "ab":
        assert await rig.do(SetLink(target=rig.target(name, "e0"), up=True)) == 0
    await rig.until(lambda: bool(rig.addresses("b", "e0", automatic=True)))
    assert rig.addresses("a", "e0", automatic=True) == [AUTOMATIC]
    assert not found(rig, AUTOMATIC).made_by_kernel


async def test_an_mtu_below_1280_takes_ipv6_away(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64")
    assert await rig.do(SetLink(target=e0, mtu=1279)) == 0
    assert rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24"]
    assert await rig.do(AddAddress(e0, address("2001:db8::1/64"))) == errno.EINVAL
    assert await rig.do(DeleteAddress(e0, address("2001:db8::1/64"))) == errno.ENXIO
    await add(rig, e0, "10.0.0.2/24")
    assert await rig.do(SetLink(target=e0, mtu=1280)) == 0
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24", "10.0.0.2/24", AUTOMATIC])


async def test_ipv6_off_in_the_namespace(rig: Rig) -> None:
    e0 = await make(rig)
    await add(rig, e0, "10.0.0.1/24", "2001:db8::1/64")
    rig.external.disable_ipv6("a")
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24"])
    (outcome,) = await rig.execute(AddAddress(e0, address("2001:db8::1/64")))
    assert outcome.errno == errno.EACCES
    assert "disabled" in outcome.text
    assert await rig.do(AddAddress(e0, address("fe80::5/64"))) == errno.EACCES
    assert await rig.do(DeleteAddress(e0, address("2001:db8::1/64"))) == errno.EADDRNOTAVAIL
    await add(rig, e0, "10.0.0.2/24")
    rig.external.disable_ipv6("a", disabled=False)
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == ["10.0.0.1/24", "10.0.0.2/24", AUTOMATIC])
    await add(rig, e0, "2001:db8::1/64")


async def test_ipv6_off_holds_for_links_made_later(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    rig.external.disable_ipv6("a")
    await rig.make_pair(("a", "e0"), ("b", "e0"), up=True)
    await rig.until(lambda: bool(rig.addresses("b", "e0", automatic=True)))
    assert rig.addresses("a", "e0", automatic=True) == []
    assert await rig.do(AddAddress(rig.target("a", "e0"), address("2001:db8::1/64"))) == errno.EACCES


async def test_a_changed_mac_counts_after_down(rig: Rig) -> None:
    e0 = await make(rig)
    for change in (SetLink(target=e0, mac=MAC.format(7)), SetLink(target=e0, up=False), SetLink(target=e0, up=True)):
        assert await rig.do(change) == 0
    await rig.until(lambda: rig.addresses("a", "e0", automatic=True) == ["fe80::5eff:fe10:7/64"])
