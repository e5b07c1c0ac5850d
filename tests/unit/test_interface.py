from __future__ import annotations

from ipaddress import ip_interface

import pytest
from pydantic import ValidationError

from ifagent.core.interface import Interface, parse_interface
from ifagent.core.kinds import Dummy, Existing, Kind, Loopback, Veth, VrfDevice
from ifagent.core.names import check_host_name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.errors import InvalidInterface

VETH = {"type": "veth", "peer_if_name": "b"}


@pytest.mark.parametrize("name", ["eth0", "a" * 15, "é", "veth.10", "x@y"])
def test_host_names_the_kernel_takes(name: str) -> None:
    assert check_host_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a" * 16, "é" * 8, "a b", "a/b", "a:b", "v%d", "à", "a\0", "lo", "all"]
)
def test_host_names_it_does_not(name: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        check_host_name(name)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("fe80::1%eth0/64", "leave out the scope"),
        ("0.0.0.0/0", "unspecified"),
        ("::/64", "unspecified"),
        ("0.1.2.3/8", "reserved"),
        ("0.255.255.255/32", "reserved"),
        ("255.255.255.255/32", "broadcast"),
        ("255.255.255.255/24", "broadcast"),
        ("ff02::1/64", "multicast"),
        ("224.0.0.1/4", "multicast"),
        ("239.255.255.255/32", "multicast"),
        ("::ffff:192.0.2.1/96", "stands for an IPv4 address, 192.0.2.1"),
        ("::1/128", "only the loopback link"),
        ("::1/64", "only the loopback link"),
        ("10.0.0.1/33", "is not an address"),
        ("x", "is not an address"),
    ],
)
def test_addresses_no_interface_can_have(address: str, why: str) -> None:
    with pytest.raises(InvalidInterface) as refused:
        parse_interface("a", {"name": "a", "kind": VETH, "ip_addresses": ["10.0.0.1/24", address]})
    (error,) = refused.value.errors
    assert error.field == "ip_addresses[1]"
    assert why in error.message


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.255/24",
        "127.0.0.1/8",
        "127.0.0.2/32",
        "169.254.1.1/16",
        "240.0.0.1/4",
        "255.255.255.254/32",
        "::2/128",
        "::192.0.2.1/96",
        "64:ff9b::192.0.2.1/96",
        "fe80::1/64",
        "fec0::1/64",
        "fd00::/8",
        "2001:db8::/64",
    ],
)
def test_addresses_an_interface_can_have(address: str) -> None:
    interface = parse_interface("a", {"name": "a", "kind": VETH, "ip_addresses": [address]})
    assert interface.ip_addresses == (ip_interface(address),)


@pytest.mark.parametrize("kind", [Loopback(), Existing()])
def test_the_loopback_link_can_have_its_addresses(kind: Kind) -> None:
    addresses = [ip_interface(text) for text in ("::1/128", "127.0.0.1/8")]
    assert Interface(name="lo", kind=kind, ip_addresses=tuple(addresses)).ip_addresses == tuple(addresses)


def test_values_are_normalised() -> None:
    interface = Interface(
        name="a",
        kind=Veth(peer_if_name="b"),
        phys_address="D2-74-8C-12-67-D2",
        ip_addresses=["10.0.0.1", "2001:DB8:0::1/64"],  # type: ignore[arg-type]
    )
    assert interface.phys_address == "d2:74:8c:12:67:d2"
    assert [str(a) for a in interface.ip_addresses] == ["10.0.0.1/32", "2001:db8::1/64"]
    assert interface.host_name == "a"


@pytest.mark.parametrize(
    ("kind", "reference"),
    [("named", ""), ("named", ".."), ("named", "a/b"), ("pid", "0"), ("pid", "x"), ("file", "rel"), ("own", "x")],
)
def test_references_that_lead_nowhere(kind: str, reference: str) -> None:
    with pytest.raises(ValidationError):
        NamespaceRef(NamespaceType(kind), reference)


def test_the_loopback_is_never_called_otherwise() -> None:
    assert Interface(name="a name that no link has", kind=Loopback()).host_name == "lo"
    assert Interface(name="a", kind=Loopback(), host_if_name="lo").host_name == "lo"
    with pytest.raises(ValidationError, match="called 'lo'"):
        Interface(name="a", kind=Loopback(), host_if_name="eth0")


def test_an_existing_link_may_be_the_loopback() -> None:
    assert Interface(name="lo", kind=Existing()).host_name == "lo"
    assert Interface(name="a", kind=Existing(), host_if_name="lo").host_name == "lo"
    assert Interface(name="a", kind=Existing()).host_name == "a"


@pytest.mark.parametrize("kind", [Dummy(), Veth(peer_if_name="b")])
def test_others_may_not_be_called_lo(kind: Kind) -> None:
    with pytest.raises(ValidationError, match="is reserved"):
        Interface(name="a", kind=kind, host_if_name="lo")
    with pytest.raises(ValidationError, match="is reserved"):
        Interface(name="lo", kind=kind)


@pytest.mark.parametrize("kind", [Loopback(), Existing(), VrfDevice(routing_table=7)])
def test_large_mtus_of_kinds_that_have_them(kind: Kind) -> None:
    assert Interface(name="a", kind=kind, mtu=65575).mtu == 65575


@pytest.mark.parametrize(("kind", "mtu"), [(Veth(peer_if_name="b"), 65536), (Existing(), 2**31), (Loopback(), 67)])
def test_mtus_out_of_range(kind: Kind, mtu: int) -> None:
    with pytest.raises(ValidationError, match="out of range"):
        Interface(name="a", kind=kind, mtu=mtu)
