from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface

import pytest

from ifagent.core.address_lists import AddressStep, in_kernel_order
from ifagent.core.addresses import CROWD, PORTION, AddressSteps, address_steps, managed, oddities
from ifagent.core.link import Address, Link, LinkId, NsId
from ifagent.core.names import HostName


def shown(step: AddressStep) -> str:
    peer = f">{step.peer}" if step.peer else ""
    signs = {"add": "+", "replace": "=", "delete": "-", "promote": "promote"}
    return signs[step.action] + (f"{step.address}{peer}" if step.address else "")


@pytest.mark.parametrize(
    ("have", "wanted", "steps"),
    [
        ("10.0.0.1/24", "10.0.0.1/24", ""),
        ("", "10.0.0.1/24 10.0.0.2/24", "+10.0.0.1/24 +10.0.0.2/24"),
        # The new one comes first, as a secondary; it is the primary when the old one has gone.
        ("10.0.0.1/24", "10.0.0.2/24", "+10.0.0.2/24 promote -10.0.0.1/24"),
        ("10.0.0.1/24 10.0.0.3/24", "10.0.0.1/24 10.0.0.2/24", "+10.0.0.2/24 -10.0.0.3/24"),
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.2/24", "promote -10.0.0.1/24"),
        ("10.0.0.1/24 10.0.0.2/24 10.0.0.3/24", "10.0.0.2/24 10.0.0.3/24", "promote -10.0.0.1/24"),
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.1/24 10.0.0.2/24 10.0.0.3/16", "+10.0.0.3/16"),
        ("10.0.0.1/24 10.0.0.2/24", "10.1.0.1/24", "+10.1.0.1/24 -10.0.0.2/24 -10.0.0.1/24"),
        ("10.0.0.1/24", "10.0.0.1/16", "+10.0.0.1/16 -10.0.0.1/24"),
        # The order can only be had by taking one of them away for a moment.
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.2/24 10.0.0.1/24", "promote -10.0.0.1/24 +10.0.0.1/24"),
        ("10.0.0.1/24 10.1.0.1/24", "10.1.0.1/24 10.0.0.1/24", "-10.0.0.1/24 +10.0.0.1/24"),
        ("2001:db8::1/64", "2001:db8::1/48", "-2001:db8::1/64 +2001:db8::1/48"),
        # IPv6 is listed newest first, so the last one wanted is added first.
        ("", "2001:db8::1/64 2001:db8::2/64", "+2001:db8::2/64 +2001:db8::1/64"),
        ("2001:db8::2/64", "2001:db8::1/64 2001:db8::2/64", "+2001:db8::1/64"),
        (
            "2001:db8::1/64",
            "2001:db8::1/64 2001:db8::2/64",
            "-2001:db8::1/64 +2001:db8::2/64 +2001:db8::1/64",
        ),
        ("2001:db8::1/64 2001:db8::2/64", "2001:db8::2/64", "-2001:db8::1/64"),
        ("2001:db8::1/64 2001:db8::2/64", "2001:db8::1/64", "-2001:db8::2/64"),
    ],
)
def test_steps(have: str, wanted: str, steps: str) -> None:
    has, wants = ([ip_interface(a) for a in text.split()] for text in (have, wanted))
    found = address_steps(map(Address, has), wants)
    assert [shown(step) for step in (*found.ipv4, *found.ipv6)] == steps.split()
    assert not found.replaced
    assert not found.contested


def test_link_local_addresses_of_the_kernel_are_managed_only_when_listed() -> None:
    automatic = Address(ip_interface("fe80::1/64"), made_by_kernel=True)
    given = Address(ip_interface("10.0.0.1/24"))
    assert managed([automatic, given], []) == (given.interface,)
    assert managed([automatic, given], [automatic.interface]) == (automatic.interface, given.interface)


def test_families_are_compared_apart() -> None:
    mixed = [ip_interface(a) for a in ("fe80::1/64", "fec0::1/64", "2001:db8::1/64", "10.0.0.1/24", "127.0.0.9/8")]
    ordered = ["127.0.0.9/8", "10.0.0.1/24", "2001:db8::1/64", "fec0::1/64", "fe80::1/64"]
    assert [str(a) for a in in_kernel_order(mixed)] == ordered
    assert address_steps(map(Address, in_kernel_order(mixed)), mixed) == AddressSteps()


def addresses(text: str) -> list[Address]:
    """Read addresses: ``!`` is one of the kernel's own, ``?`` one that somebody else has, ``>`` comes before a peer."""
    found = []
    for word in text.split():
        interface, _, peer = word.strip("!?").partition(">")
        far = ip_address(peer) if peer else None
        flags = 0x48 if "?" in word else 0
        found.append(Address(ip_interface(interface), flags, made_by_kernel="!" in word, peer=far))
    return found


@pytest.mark.parametrize(
    ("have", "wanted", "steps"),
    [
        ("127.0.0.1/8! ::1/128!", "127.0.0.1/8 ::1/128", ""),
        ("127.0.0.1/8! 127.1.0.1/16 10.0.0.2/16 127.0.0.2/8", "127.0.0.2/8 127.1.0.1/16 10.0.0.2/16", ""),
        ("127.0.0.1/8!", "127.0.0.2/8 10.0.0.1/24", "+10.0.0.1/24 +127.0.0.2/8"),
        # What the kernel made is never the one that goes, wherever it is.
        ("127.0.0.2/8 127.0.0.1/8!", "", "promote -127.0.0.2/8"),
        ("2001:db8::99/128 ::1/128!", "127.0.0.1/8 ::1/128 2001:db8::99/128", "+127.0.0.1/8"),
        ("2001:db8:7::1/64! 2001:db8::1/64 fe80::1/64!", "2001:db8::1/64", ""),
        # It is in the way where the same address is wanted with another prefix length.
        ("fe80::1/64!", "fe80::1/48", "-fe80::1/64 +fe80::1/48"),
        ("2001:db8:7::1/64!", "2001:db8:7::1/128", "-2001:db8:7::1/64 +2001:db8:7::1/128"),
        # An address with a peer is in the peer's subnet.
        ("10.0.0.1/24>10.9.9.9", "10.9.9.2/24", "+10.9.9.2/24 promote -10.0.0.1/24>10.9.9.9"),
        ("10.0.0.1/24>10.0.0.9", "10.0.0.1/24", "-10.0.0.1/24>10.0.0.9 +10.0.0.1/24"),
        ("10.0.0.1/24>0.0.0.0 10.0.0.1/24", "10.0.0.1/24", "-10.0.0.1/24>0.0.0.0"),
        ("2001:db8::1/64>2001:db8::9", "2001:db8::1/64", "-2001:db8::1/64>2001:db8::9 +2001:db8::1/64"),
        # What somebody else has as well counts for nothing in the order of the others.
        ("2001:db8::5/64? 2001:db8::1/64", "2001:db8::1/64 2001:db8::5/64", ""),
        ("2001:db8::5/64?", "", "-2001:db8::5/64"),
    ],
)
def test_steps_among_addresses_of_others(have: str, wanted: str, steps: str) -> None:
    found = address_steps(addresses(have), [ip_interface(a) for a in wanted.split()])
    assert [shown(step) for step in (*found.ipv4, *found.ipv6)] == steps.split()
    assert not found.replaced


def test_an_address_that_somebody_else_has_is_contested_until_it_is_usable() -> None:
    wanted = [ip_interface(a) for a in ("2001:db8::1/64", "2001:db8::5/64")]
    link = Link(id=LinkId(NsId(1), 2), host_name=HostName("a"), addresses=tuple(addresses("2001:db8::1/64")))
    failed = replace(link, addresses=(Address(wanted[1], 0x48), *link.addresses))
    assert address_steps(failed.addresses, wanted) == AddressSteps(contested=(wanted[1],))
    anew = replace(link, addresses=(Address(wanted[1], 0x40), *link.addresses)).with_contested(failed)
    assert address_steps(anew.addresses, wanted) == AddressSteps(contested=(wanted[1],))
    usable = replace(link, addresses=(Address(wanted[1]), *link.addresses)).with_contested(anew)
    found = address_steps(usable.addresses, wanted)
    assert not found.contested
    assert [shown(step) for step in found.ipv6] == ["-2001:db8::1/64", "+2001:db8::1/64"], "now its place counts"
    added = replace(link, addresses=(Address(wanted[1], 0x40), *link.addresses)).with_contested(link)
    assert not address_steps(added.addresses, wanted).contested, "nobody has been found to have it"


@pytest.mark.parametrize(
    ("odd", "in_place"),
    [
        (Address(ip_interface("10.0.0.1/24"), lasts=False), True),
        (Address(ip_interface("10.0.0.1/24"), 0x20), True),
        (Address(ip_interface("10.0.0.1/24"), metric=7), True),
        (Address(ip_interface("10.0.0.1/24"), 0x200), False),
        (Address(ip_interface("10.0.0.1/24"), scope=253), False),
        (Address(ip_interface("10.0.0.1/24"), broadcast=IPv4Address("10.0.0.9")), False),
        (Address(ip_interface("2001:db8::1/64"), lasts=False), True),
        (Address(ip_interface("2001:db8::1/64"), 0x200), True),
        (Address(ip_interface("2001:db8::1/64"), 0x02), True),
        (Address(ip_interface("2001:db8::1/64"), metric=7), False),
    ],
)
def test_what_others_gave_a_wanted_address_is_taken_from_it(odd: Address, in_place: bool) -> None:
    found = address_steps([odd], [odd.interface])
    expected = [f"={odd.interface}"] if in_place else [f"-{odd.interface}", f"+{odd.interface}"]
    assert [shown(step) for step in (*found.ipv4, *found.ipv6, *found.replaced)] == expected
    assert len(oddities(odd)) == 1
    assert [shown(s) for steps in address_steps([odd], [])[:2] for s in steps] == [f"-{odd.interface}"]


@pytest.mark.parametrize("flags", [0x01, 0x04, 0x40, 0x80, 0x800])
def test_what_the_kernel_says_of_an_address_is_no_difference(flags: int) -> None:
    has = [Address(ip_interface(text), flags) for text in ("10.0.0.1/24", "2001:db8::1/64")]
    assert address_steps(has, [address.interface for address in has]) == AddressSteps()


def test_a_crowd_goes_first_and_in_portions() -> None:
    wanted = [ip_interface("10.0.0.1/24"), ip_interface("2001:db8::1/64")]
    crowd = [Address(ip_interface((0x0A000000 + n, 24))) for n in range(2 * CROWD)]
    crowd += addresses("10.0.0.1/24>10.0.0.9 fe80::1/64!")
    found = address_steps(crowd, wanted)
    assert not found.ipv6
    assert found.ipv4[0] == AddressStep("promote")
    gone = {(step.address, step.peer) for step in found.ipv4[1:]}
    assert len(gone) == PORTION
    assert (ip_interface("10.0.0.1/24"), ip_address("10.0.0.9")) in gone
    assert not gone & {(a, None) for a in wanted}
    only_the_kernels = [replace(address, made_by_kernel=True) for address in crowd if address.peer is None]
    assert AddressStep("add", wanted[1]) in address_steps(only_the_kernels, wanted).ipv6
