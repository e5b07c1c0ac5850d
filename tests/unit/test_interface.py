from __future__ import annotations

import pytest
from pydantic import ValidationError

from ifagent.core.interface import (
    Existing,
    Interface,
    Kind,
    Loopback,
    NamespaceRef,
    NamespaceType,
    Unsupported,
    Veth,
    check_host_name,
)


@pytest.mark.parametrize("name", ["eth0", "a" * 15, "é", "veth.10", "x@y"])
def test_host_names_the_kernel_takes(name: str) -> None:
    assert check_host_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a" * 16, "é" * 8, "a b", "a/b", "a:b", "v%d", "à", "a\0", "lo", "all"]
)
def test_host_names_it_does_not(name: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        check_host_name(name)


@pytest.mark.parametrize("address", ["fe80::1%eth0/64", "0.0.0.0/0", "ff02::1/64", "224.0.0.1/4", "10.0.0.1/33", "x"])
def test_addresses_no_interface_can_have(address: str) -> None:
    with pytest.raises(ValidationError):
        Interface(name="a", kind=Veth(peer_if_name="b"), ip_addresses=[address])  # type: ignore[arg-type]


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


@pytest.mark.parametrize("kind", [Unsupported(type="dummy"), Veth(peer_if_name="b")])
def test_others_may_not_be_called_lo(kind: Kind) -> None:
    with pytest.raises(ValidationError, match="is reserved"):
        Interface(name="a", kind=kind, host_if_name="lo")
    with pytest.raises(ValidationError, match="is reserved"):
        Interface(name="lo", kind=kind)


@pytest.mark.parametrize("kind", [Loopback(), Existing(), Unsupported(type="vrf_device")])
def test_large_mtus_of_kinds_that_have_them(kind: Kind) -> None:
    assert Interface(name="a", kind=kind, mtu=65575).mtu == 65575


@pytest.mark.parametrize(("kind", "mtu"), [(Veth(peer_if_name="b"), 65536), (Existing(), 2**31), (Loopback(), 67)])
def test_mtus_out_of_range(kind: Kind, mtu: int) -> None:
    with pytest.raises(ValidationError, match="out of range"):
        Interface(name="a", kind=kind, mtu=mtu)
