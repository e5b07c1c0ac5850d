from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ifagent.core.address_lists import AddressStep, in_kernel_order
from ifagent.core.addresses import AddressSteps, address_steps, managed
from ifagent.core.link import Address


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
