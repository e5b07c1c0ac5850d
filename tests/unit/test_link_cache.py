"""What the kernel says, put together: peers by relative ids, addresses in order, changes during a listing."""

from __future__ import annotations

import time
from ipaddress import ip_interface
from typing import Any

import pytest

from ifagent.core.events import LinkSeen
from ifagent.core.link import IFA_F_TENTATIVE, UNKNOWN_SPEED, Address, Duplex, Link, LinkId, NsId, OperState, Speed
from ifagent.core.names import HostName
from ifagent.kernel.bridge_vlans import PortVlans
from ifagent.kernel.link_cache import LinkCache, NamespaceDump, Notification
from ifagent.kernel.messages import AddressMessage, LinkMessage
from ifagent.kernel.ordering import AddressList
from ifagent.kernel.rtnetlink import IFA_F_SECONDARY

A, B, C = NsId(101), NsId(102), NsId(103)
NSIDS = {(A, 0): B, (B, 5): A, (A, 1): C, (C, 0): A}
"""Which namespace an id means in a namespace."""

NOTHING = NamespaceDump.of([], [])


def veth(ifindex: int, peer: int = 0, nsid: int | None = None, **changes: Any) -> LinkMessage:
    fields: dict[str, Any] = {
        "host_name": HostName(f"v{ifindex}"),
        "kind": "veth",
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "up": False,
        "carrier": False,
        "operstate": OperState.DOWN,
        "group": 0,
        "alias": "",
        "master": 0,
    }
    return LinkMessage(ifindex=ifindex, link_ifindex=peer, link_nsid=nsid, **fields | changes)


def address(text: str, flags: int = 0, *, ifindex: int = 2, scope: int = 0, far: str = "") -> AddressMessage:
    interface = ip_interface(text)
    family = 2 if interface.version == 4 else 10
    other = ip_interface(far or text)
    return AddressMessage(ifindex, family, Address(interface, flags), int(other.ip), scope)


def listed(addresses: AddressList) -> list[str]:
    return [str(message.address.interface) for message in addresses]


@pytest.fixture
def cache() -> LinkCache:
    return LinkCache(lambda namespace, nsid: NSIDS.get((namespace, nsid)), newest_first=True)


def peers(cache: LinkCache, *namespaces: NsId) -> dict[LinkId, LinkId | None]:
    """Return the peers in a listing that changes nothing."""
    found = {}
    for namespace in namespaces:
        state = cache._namespaces[namespace]
        for ifindex in state.links:
            found[LinkId(namespace, ifindex)] = cache._link(state, LinkId(namespace, ifindex)).peer
    return found


def link_of(cache: LinkCache, id_: LinkId) -> Link:
    return cache._link(cache._namespaces[id_.namespace], id_)


# Speed

GIGABIT = Speed(1_000_000_000, Duplex.FULL)


def nic(*, carrier: bool = True, ifindex: int = 2) -> LinkMessage:
    return veth(ifindex, kind="", carrier=carrier)


def test_the_speed_of_a_veth_is_never_asked_for(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2), nic(ifindex=1)], []), ())
    cache.apply(A, Notification(veth(3)))
    cache.apply(A, Notification(veth(3, carrier=True)))
    assert cache.take_speeds_to_read() == set()
    assert link_of(cache, LinkId(A, 3)).speed == Speed(10_000_000_000, Duplex.FULL)
    assert link_of(cache, LinkId(A, 1)).speed == UNKNOWN_SPEED, "lo has none"


def test_the_speed_of_others_is_asked_for_when_it_may_be_new(cache: LinkCache) -> None:
    nic_id = LinkId(A, 2)
    cache.replace(A, NamespaceDump.of([nic(carrier=False)], []), ())
    assert cache.take_speeds_to_read() == {nic_id}
    cache.apply(A, Notification(nic(carrier=False)))
    assert cache.take_speeds_to_read() == set(), "nothing has happened to its carrier"
    cache.apply(A, Notification(nic()))
    assert cache.take_speeds_to_read() == {nic_id}
    cache.changed()
    cache.set_speeds({nic_id: GIGABIT, LinkId(A, 9): GIGABIT, LinkId(B, 2): GIGABIT})
    [seen] = cache.changed()
    assert seen.link
    assert (seen.id, seen.link.speed) == (nic_id, GIGABIT)
    cache.set_speeds({nic_id: GIGABIT})
    assert cache.changed() == []
    cache.replace(A, NamespaceDump.of([nic()], []), ())
    assert link_of(cache, nic_id).speed == GIGABIT, "known until it is known better"
    assert cache.take_speeds_to_read() == {nic_id}


def test_the_speed_of_a_link_goes_with_it(cache: LinkCache) -> None:
    nic_id = LinkId(A, 2)
    cache.replace(A, NamespaceDump.of([nic()], []), ())
    for go in (
        lambda: cache.apply(A, Notification(nic(), gone=True)),
        lambda: cache.replace(A, NOTHING, ()),
        lambda: cache.drop(A),
    ):
        cache.set_speeds({nic_id: GIGABIT})
        go()
        cache.replace(A, NamespaceDump.of([nic()], []), ())
        assert link_of(cache, nic_id).speed == UNKNOWN_SPEED


# Peers


def test_ends_with_the_same_ifindex_are_told_apart(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2, 2, 0), veth(3, 2, 1)], []), ())
    cache.replace(B, NamespaceDump.of([veth(2, 2, 5)], []), ())
    cache.replace(C, NamespaceDump.of([veth(2, 3, 0)], []), ())
    assert peers(cache, A, B, C) == {
        LinkId(A, 2): LinkId(B, 2),
        LinkId(A, 3): LinkId(C, 2),
        LinkId(B, 2): LinkId(A, 2),
        LinkId(C, 2): LinkId(A, 3),
    }


def test_a_peer_is_told_on_both_sides_once_its_namespace_is_listed(cache: LinkCache) -> None:
    first = cache.replace(A, NamespaceDump.of([veth(2, 4, 0)], []), ())
    assert first.links is not None
    assert first.links[2].peer is None
    second = cache.replace(B, NamespaceDump.of([veth(4, 2, 5)], []), ())
    assert second.links is not None
    assert second.links[4].peer == LinkId(A, 2)
    (seen,) = cache.changed()
    assert seen.id == LinkId(A, 2)
    assert seen.link is not None
    assert seen.link.peer == LinkId(B, 4)


def test_what_one_end_says_is_true_of_both(cache: LinkCache) -> None:
    """At creation the far end is told first, and knows no peer yet."""
    for namespace in (A, B):
        cache.replace(namespace, NOTHING, ())
    cache.apply(B, Notification(veth(4)))
    cache.apply(A, Notification(veth(2, 4, 0)))
    assert {seen.id: seen.link.peer for seen in cache.changed() if seen.link} == {
        LinkId(B, 4): LinkId(A, 2),
        LinkId(A, 2): LinkId(B, 4),
    }
    cache.apply(B, Notification(veth(4, up=True)))
    (seen,) = cache.changed()
    assert seen.link is not None
    assert (seen.link.up, seen.link.peer) == (True, LinkId(A, 2))


def test_an_end_that_moves_takes_its_peer_along(cache: LinkCache) -> None:
    """The other end is not told of by the kernel then."""
    for namespace in (A, B, C):
        cache.replace(namespace, NOTHING, ())
    cache.apply(B, Notification(veth(4)))
    cache.apply(A, Notification(veth(2, 4, 0)))
    cache.changed()
    cache.apply(B, Notification(veth(4), gone=True))
    cache.apply(C, Notification(veth(9, 2, 0)))
    assert {seen.id: seen.link and seen.link.peer for seen in cache.changed()} == {
        LinkId(B, 4): None,
        LinkId(A, 2): LinkId(C, 9),
        LinkId(C, 9): LinkId(A, 2),
    }


def test_a_namespace_that_is_dropped_takes_its_peers_away(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2, 4, 0)], []), ())
    cache.replace(B, NamespaceDump.of([veth(4, 2, 5)], []), ())
    cache.changed()
    cache.drop(B)
    (seen,) = cache.changed()
    assert seen.link is not None
    assert (seen.id, seen.link.peer) == (LinkId(A, 2), None)
    assert B not in cache
    cache.apply(B, Notification(veth(4, 2, 5)))
    assert cache.changed() == []


def test_an_ifindex_used_again_by_another_kind_has_no_peer(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2, 3), veth(3, 2)], []), ())
    listing = cache.replace(A, NamespaceDump.of([veth(2, kind="bridge"), veth(3)], []), ())
    assert listing.links is not None
    assert {link.peer for link in listing.links.values()} == {None}


# Changes


def test_only_what_is_different_is_told_once(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2)], [address("192.0.2.1/24")]), ())
    cache.apply(A, Notification(veth(2)))
    cache.apply(A, Notification(address("192.0.2.1/24")))
    assert cache.changed() == []
    cache.apply(A, Notification(veth(2, mtu=1400)))
    cache.apply(A, Notification(veth(2, mtu=1300)))
    (seen,) = cache.changed()
    assert seen.link is not None
    assert (seen.link.mtu, [str(a.interface) for a in seen.link.addresses]) == (1300, ["192.0.2.1/24"])
    assert cache.changed() == []


def test_a_link_that_goes_takes_its_addresses(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2)], [address("192.0.2.1/24"), address("fe80::1/64")]), ())
    cache.apply(A, Notification(veth(2), gone=True))
    assert cache.changed() == [LinkSeen(LinkId(A, 2), None)]
    cache.apply(A, Notification(address("192.0.2.9/24")))  # of a link that nobody knows
    cache.apply(A, Notification(veth(2)))
    (seen,) = cache.changed()
    assert seen.link is not None
    assert seen.link.addresses == ()


def test_what_was_heard_during_a_listing_comes_on_top(cache: LinkCache) -> None:
    since = [
        Notification(veth(2), gone=True),
        Notification(veth(3, mtu=1300)),
        Notification(address("192.0.2.1/24", ifindex=3)),
    ]
    listing = cache.replace(A, NamespaceDump.of([veth(2), veth(3)], [address("192.0.2.7/24")]), since)
    assert listing.links is not None
    assert listing.links.keys() == {3}
    assert (listing.links[3].mtu, len(listing.links[3].addresses)) == (1300, 1)
    assert cache.changed() == []


def test_a_guessed_place_is_said_once(cache: LinkCache) -> None:
    cache.replace(A, NamespaceDump.of([veth(2)], [address("2001:db8::1/64")]), ())
    cache.apply(A, Notification(address("2001:db8::2/64")))  # not tentative: it may have been there for a while
    assert cache.take_to_relist() == {A}
    assert cache.take_to_relist() == set()
    cache.apply(A, Notification(address("2001:db8::3/64", IFA_F_TENTATIVE)))
    assert cache.take_to_relist() == set()


# The order of addresses, against what net/ipv4/devinet.c and net/ipv6/addrconf.c do


def test_ipv4_primaries_come_before_secondaries_and_narrow_scopes_first() -> None:
    have = AddressList()
    for new in (
        address("192.0.2.1/24"),
        address("192.0.2.2/24", IFA_F_SECONDARY),
        address("198.51.100.1/24", scope=253),
        address("203.0.113.1/24"),
    ):
        assert have.insert(new, newest_first=True)
    # The kernel puts a primary behind the last primary whose scope is as narrow or narrower.
    assert listed(have) == ["198.51.100.1/24", "192.0.2.1/24", "203.0.113.1/24", "192.0.2.2/24"]
    have.insert(address("192.0.2.1/24", 0x80), newest_first=True)
    assert [message.address.flags for message in have] == [0, 0x80, 0, IFA_F_SECONDARY]


def test_a_deleted_primary_promotes_the_first_of_its_subnet() -> None:
    texts = ("192.0.2.1/24", "198.51.100.1/24")
    have = AddressList(address(text) for text in texts)
    for text in ("198.51.100.2/24", "192.0.2.2/24", "192.0.2.3/24"):
        have.append(address(text, IFA_F_SECONDARY))
    have.remove(address("192.0.2.1/24"))
    assert listed(have) == ["198.51.100.1/24", "192.0.2.2/24", "198.51.100.2/24", "192.0.2.3/24"]


def test_one_ipv4_address_in_two_subnets_is_two() -> None:
    have = AddressList([address("192.0.2.1/24"), address("192.0.2.1/32")])
    have.remove(address("192.0.2.1/32"))
    assert listed(have) == ["192.0.2.1/24"]


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        (True, ["2001:db8::2/64", "2001:db8::1/64", "fec0::1/64", "fe80::2/64", "fe80::1/64"]),
        (False, ["2001:db8::1/64", "2001:db8::2/64", "fec0::1/64", "fe80::1/64", "fe80::2/64"]),
    ],
)
def test_ipv6_is_sorted_by_scope(newest_first: bool, expected: list[str]) -> None:
    have = AddressList()
    for text in ("fe80::1/64", "2001:db8::1/64", "fec0::1/64", "2001:db8::2/64", "fe80::2/64"):
        have.insert(address(text, IFA_F_TENTATIVE), newest_first=newest_first)
    assert listed(have) == expected
    have.remove(address("fec0::1/48"))  # one address is there once, whatever its prefix
    assert "fec0::1/64" not in listed(have)


@pytest.mark.parametrize("text", ["10.{}.{}.{}/24", "10.{}.{}.{}/32", "2001:db8::{:x}:{:x}:{:x}/64"])
def test_thousands_of_addresses_take_linear_time(cache: LinkCache, text: str) -> None:
    """Anybody may give them to a link in his own container, and others wait meanwhile."""
    cache.replace(A, NamespaceDump.of([veth(2)], []), ())
    many = [address(text.format(n >> 14, n >> 7 & 127, n & 127)) for n in range(5000)]
    start = time.process_time()
    for message in many:
        cache.apply(A, Notification(message))
    for message in reversed(many):
        cache.apply(A, Notification(message, gone=True))
    assert time.process_time() - start < 5
    assert cache.changed() == [], "none is left"


def test_a_link_with_the_ifindex_of_one_that_has_gone_is_another_one(cache: LinkCache) -> None:
    tap = veth(3, kind="tun")
    cache.replace(A, NamespaceDump.of([tap]), ())
    cache.apply(A, Notification(tap, gone=True))
    cache.apply(A, Notification(tap))
    gone, new = cache.changed()
    assert gone == LinkSeen(LinkId(A, 3), None)
    assert new.link is not None
    assert cache.changed() == []


# VLANs of bridges' ports


def vlans_of(cache: LinkCache, ifindex: int) -> object:
    return dict(link_of(cache, LinkId(A, ifindex)).port).get("vlans")


def test_vlans_are_those_of_a_port_until_it_goes(cache: LinkCache) -> None:
    port = veth(2, port=(("hairpin", False),))
    cache.replace(A, NamespaceDump.of([port], [], [PortVlans(2, ("7",))]), ())
    assert vlans_of(cache, 2) == ("7",)
    cache.apply(A, Notification(PortVlans(2, ("8",))))
    [seen] = cache.changed()
    assert seen.id == LinkId(A, 2)
    cache.apply(A, Notification(veth(2, mtu=1400, port=port.port)))
    assert vlans_of(cache, 2) == ("8",), "other messages do not tell them"
    cache.apply(A, Notification(veth(2)))
    assert vlans_of(cache, 2) is None, "it is no port any more"
    cache.apply(A, Notification(veth(2), gone=True))
    cache.apply(A, Notification(port))
    assert vlans_of(cache, 2) is None, "that was another link"


def test_vlans_of_links_that_are_not_there_are_not_kept(cache: LinkCache) -> None:
    cache.replace(A, NOTHING, ())
    cache.apply(A, Notification(PortVlans(2, ("7",))))
    cache.apply(A, Notification(veth(2, port=(("hairpin", False),))))
    assert vlans_of(cache, 2) is None
    assert [seen.id for seen in cache.changed()] == [LinkId(A, 2)]


def test_a_listing_tells_of_other_vlans(cache: LinkCache) -> None:
    port = veth(2, port=(("hairpin", False),))
    cache.replace(A, NamespaceDump.of([port], [], [PortVlans(2, ("7",))]), ())
    again = cache.replace(A, NamespaceDump.of([port], [], [PortVlans(2, ("8",))]), ())
    assert again.links is not None
    assert [dict(link.port)["vlans"] for link in again.links.values()] == [("8",)]
