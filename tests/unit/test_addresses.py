from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ifagent.core.addresses import AddressChanges, address_changes, in_kernel_order, managed
from ifagent.core.link import Address


def texts(*groups: tuple[object, ...]) -> list[list[str]]:
    return [[str(a) for a in group] for group in groups]


@pytest.mark.parametrize(
    ("have", "wanted", "early", "add", "late"),
    [
        ("10.0.0.1/24", "10.0.0.1/24", "", "", ""),
        ("", "10.0.0.1/24 10.0.0.2/24", "", "10.0.0.1/24 10.0.0.2/24", ""),
        ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.1/24", "10.0.0.2/24", ""),
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.2/24 10.0.0.1/24", "10.0.0.1/24", "10.0.0.2/24 10.0.0.1/24", ""),
        ("10.0.0.1/24 10.0.0.3/24", "10.0.0.1/24 10.0.0.2/24", "", "10.0.0.2/24", "10.0.0.3/24"),
        # The primary drops its secondaries, so it goes first and they come back; a new subnet's primary needs nothing.
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.2/24", "10.0.0.1/24", "10.0.0.2/24", ""),
        ("10.0.0.1/24 10.0.0.2/24", "10.0.0.1/24 10.0.0.2/24 10.0.0.3/16", "", "10.0.0.3/16", ""),
        ("10.0.0.1/24 10.0.0.2/24", "10.1.0.1/24", "", "10.1.0.1/24", "10.0.0.1/24"),
        ("2001:db8::1/64", "2001:db8::1/48", "2001:db8::1/64", "2001:db8::1/48", ""),
        ("10.0.0.1/24", "10.0.0.1/16", "", "10.0.0.1/16", "10.0.0.1/24"),
        # IPv6 is listed newest first, so the last one wanted is added first.
        ("", "2001:db8::1/64 2001:db8::2/64", "", "2001:db8::2/64 2001:db8::1/64", ""),
        ("2001:db8::2/64", "2001:db8::1/64 2001:db8::2/64", "", "2001:db8::1/64", ""),
        ("2001:db8::1/64", "2001:db8::1/64 2001:db8::2/64", "2001:db8::1/64", "2001:db8::2/64 2001:db8::1/64", ""),
    ],
)
def test_changes(have: str, wanted: str, early: str, add: str, late: str) -> None:
    has, wants = ([ip_interface(a) for a in text.split()] for text in (have, wanted))
    changes = address_changes(has, wants)
    assert texts(changes.early, changes.add, changes.late) == [early.split(), add.split(), late.split()]


def test_link_local_addresses_of_the_kernel_are_managed_only_when_listed() -> None:
    automatic = Address(ip_interface("fe80::1/64"), made_by_kernel=True)
    given = Address(ip_interface("10.0.0.1/24"))
    assert managed([automatic, given], []) == (given.interface,)
    assert managed([automatic, given], [automatic.interface]) == (automatic.interface, given.interface)


def test_families_are_compared_apart() -> None:
    mixed = [ip_interface(a) for a in ("fe80::1/64", "fec0::1/64", "2001:db8::1/64", "10.0.0.1/24", "127.0.0.9/8")]
    ordered = ["127.0.0.9/8", "10.0.0.1/24", "2001:db8::1/64", "fec0::1/64", "fe80::1/64"]
    assert [str(a) for a in in_kernel_order(mixed)] == ordered
    assert address_changes(in_kernel_order(mixed), mixed) == AddressChanges()
