"""What ligato v3 accepts and refuses, and what ifagent accepts beyond it."""

from __future__ import annotations

import dataclasses
import json
from enum import IntEnum
from ipaddress import ip_interface
from typing import Any, get_args, get_type_hints

import pytest

from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, BridgePort, Dummy, Existing, Kind, Loopback, Veth, VrfDevice
from ifagent.core.kinds.veth import Offloading
from ifagent.core.namespace_ref import OWN_NAMESPACE, NamespaceRef, NamespaceType, named
from ifagent.errors import InvalidInterface
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.enums import KIND_NUMBERS, REFERENCES, LinkType, OffloadingNumber, ReferenceNumber
from ifagent.formats.kinds import FORMS
from ifagent.formats.pb import interfaces as pb1
from ifagent.formats.pb.ligato.linux import interfaces as pb
from ifagent.formats.pb.ligato.linux import namespace as pb_namespace

# As the documentation of ligato v3 shows them.
VETH1 = (
    b'{"name":"veth1","type":"VETH","namespace":{"type":"NSID","reference":"ns1"},"enabled":true,'
    b'"ip_addresses":["192.168.22.1/24","10.0.2.2/24"],"phys_address":"D2:74:8C:12:67:D2","mtu":1500,'
    b'"veth":{"peer_if_name":"veth2"}}'
)
TAP1 = (
    b'{"name":"tap1","type":"TAP_TO_VPP","namespace":{"type":"NSID","reference":"ns2"},"host_if_name":"tap-host",'
    b'"enabled":true,"ip_addresses":["172.52.45.127/24"],"phys_address":"BC:FE:E9:5E:07:04","mtu":1500,'
    b'"tap":{"vpp_tap_if_name":"tap-host"}}'
)
MINIMAL: dict[str, Any] = {"name": "a", "type": "VETH", "veth": {"peer_if_name": "b"}}


def value(**fields: Any) -> bytes:
    return json.dumps({**MINIMAL, **fields}).encode()


def other(type_: object, **fields: Any) -> bytes:
    return json.dumps({"name": "a", "type": type_, **fields}).encode()


def decode(text: bytes) -> Interface:
    decoded = ligato_v3.decode(text, name="a")
    assert decoded.warnings == ()
    return decoded.interface


def errors(text: bytes) -> dict[str, str]:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v3.decode(text, name="a")
    told = {error.field: error.message for error in caught.value.errors}
    assert len(told) == len(caught.value.errors), "one error a field"
    assert all(told.values())
    return told


def test_sample_veth() -> None:
    assert ligato_v3.decode(VETH1, name="veth1") == ligato_v3.Decoded(
        Interface(
            name="veth1",
            kind=Veth(peer_if_name="veth2"),
            enabled=True,
            ip_addresses=(ip_interface("192.168.22.1/24"), ip_interface("10.0.2.2/24")),
            phys_address="d2:74:8c:12:67:d2",
            mtu=1500,
            namespace=named("ns1"),
        )
    )


def test_sample_tap() -> None:
    interface = ligato_v3.decode(TAP1, name="tap1").interface
    assert (interface.kind, interface.host_name) == (AutoTap(temp_if_name="tap-host"), "tap-host")


def test_both_families_mean_the_same() -> None:
    v1 = b'{"name":"a","namespace":{"type":2,"name":"n"},"veth":{"peer_if_name":"b"},"enabled":true,"mtu":9000}'
    v3 = value(namespace={"type": "NSID", "reference": "n"}, enabled=True, mtu=9000)
    assert decode(v3) == ligato_v1.decode(v1, name="a").interface


@pytest.mark.parametrize(
    ("spelling", "meaning"),
    [
        ({"host_if_name": "h"}, {"host_if_name": "h"}),
        ({"hostIfName": "h"}, {"host_if_name": "h"}),
        ({"HostIfName": "h"}, {"host_if_name": "h"}),
        ({"ipAddresses": ["10.0.0.1/8"]}, {"ip_addresses": ["10.0.0.1/8"]}),
        ({"physAddress": "D2-74-8C-12-67-D2"}, {"phys_address": "d2:74:8c:12:67:d2"}),
        ({"linkOnly": True}, {"link_only": True}),
        ({"vrfMasterInterface": "red"}, {"vrf_master_interface": "red"}),
        ({"mtu": "1500"}, {"mtu": 1500}),
        ({"mtu": 1500.0}, {"mtu": 1500}),
        ({"type": 1}, {}),
        ({"type": "veth"}, {}),
        ({"type": "1"}, {}),
        ({"veth": {"peerIfName": "b"}}, {}),
        ({"veth": {"peer_if_name": "b", "rx_checksum_offloading": 0, "txChecksumOffloading": "DEFAULT"}}, {}),
        ({"tap": None, "vrf_dev": None, "vrfDev": None, "namespace": None, "mtu": None, "enabled": None}, {}),
        ({"namespace": {"type": 1, "reference": "n"}}, {"namespace": {"type": "NSID", "reference": "n"}}),
    ],
)
def test_spellings(spelling: dict[str, Any], meaning: dict[str, Any]) -> None:
    assert decode(value(**spelling)) == decode(value(**meaning))


@pytest.mark.parametrize(
    ("namespace", "wanted"),
    [
        ({"type": "NSID", "reference": "ns1"}, "named:ns1"),
        ({"type": 2, "reference": "77"}, "pid:77"),
        ({"type": "PID", "reference": "0077"}, "pid:77"),
        ({"type": "fd", "reference": "/proc/7/ns/net"}, "file:/proc/7/ns/net"),
        ({"type": "MICROSERVICE", "reference": "web"}, "microservice:web"),
    ],
)
def test_namespaces(namespace: object, wanted: str) -> None:
    assert str(decode(value(namespace=namespace)).namespace) == wanted


@pytest.mark.parametrize(
    ("namespace", "fields"),
    [
        ({}, ["namespace.type", "namespace.reference"]),
        ({"type": "NSID"}, ["namespace.reference"]),
        ({"type": "NSID", "reference": ""}, ["namespace.reference"]),
        ({"reference": "ns1"}, ["namespace.type"]),
        ({"type": "UNDEFINED", "reference": "ns1"}, ["namespace.type"]),
        ({"type": 5, "reference": "ns1"}, ["namespace.type"]),
        ({"type": "NSID", "reference": "../etc"}, ["namespace.reference"]),
        ({"type": "NSID", "reference": 7}, ["namespace.reference"]),
        ({"type": "PID", "reference": "0"}, ["namespace.reference"]),
        ({"type": "PID", "reference": "9" * 4097}, ["namespace.reference"]),
        ({"type": "PID", "reference": "9" * 60_000}, ["namespace.reference"]),
        ({"type": "PID", "reference": "\uff17"}, ["namespace.reference"]),
        ({"type": "FD", "reference": "relative"}, ["namespace.reference"]),
        ("ns1", ["namespace"]),
    ],
)
def test_wrong_namespaces(namespace: object, fields: list[str]) -> None:
    assert list(errors(value(namespace=namespace))) == fields


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (0, "default"),
        ("CHKSM_OFFLOAD_DEFAULT", "default"),
        (1, "enabled"),
        ("CHKSM_OFFLOAD_ENABLED", "enabled"),
        (2, "disabled"),
        ("chksm_offload_disabled", "disabled"),
        ("DISABLED", "disabled"),
    ],
)
def test_checksum_offloading(number: object, wanted: Offloading) -> None:
    rx = decode(value(veth={"peer_if_name": "b", "rx_checksum_offloading": number}))
    assert rx.kind == Veth(peer_if_name="b", rx_checksum_offloading=wanted)
    tx = decode(value(veth={"peer_if_name": "b", "tx_checksum_offloading": number}))
    assert tx.kind == Veth(peer_if_name="b", tx_checksum_offloading=wanted)


@pytest.mark.parametrize("number", [3, -1, "OFF", True, [], 0.5])
def test_wrong_checksum_offloading(number: object) -> None:
    told = errors(value(veth={"peer_if_name": "b", "tx_checksum_offloading": number}))
    assert list(told) == ["veth.tx_checksum_offloading"]
    assert "2 (CHKSM_OFFLOAD_DISABLED)" in told["veth.tx_checksum_offloading"]


@pytest.mark.parametrize("number", [3, "LOOPBACK", "loopback"])
@pytest.mark.parametrize("host_if_name", ["", "lo", None])
def test_loopback(number: object, host_if_name: str | None) -> None:
    interface = decode(other(number, host_if_name=host_if_name, namespace={"type": "NSID", "reference": "n"}))
    assert (interface.kind, interface.host_name, interface.namespace) == (Loopback(), "lo", named("n"))
    assert decode(other(number, mtu=65536)).mtu == 65536


def test_the_loopback_is_called_lo_whatever_the_value_says() -> None:
    decoded = ligato_v3.decode(other("LOOPBACK", host_if_name="eth0"), name="a")
    assert decoded.interface == Interface(name="a", kind=Loopback())
    assert decoded.warnings == ("host_if_name is ignored, because the loopback link is called lo",)
    long = "a name that no link could have"
    text = json.dumps({"name": long, "type": "LOOPBACK"}).encode()
    assert ligato_v3.decode(text, name=long).interface.host_name == "lo"
    assert list(errors(other("LOOPBACK", host_if_name=7))) == ["host_if_name"]


@pytest.mark.parametrize("link_only", [False, True])
@pytest.mark.parametrize("addresses", [[], ["10.0.0.1/24"]])
def test_the_four_modes_of_existing(link_only: bool, addresses: list[str]) -> None:
    interface = decode(other("EXISTING", host_if_name="lo", link_only=link_only, ip_addresses=addresses, mtu=70000))
    assert (interface.kind, interface.host_name, interface.link_only) == (Existing(), "lo", link_only)
    assert [str(address) for address in interface.ip_addresses] == addresses
    assert decode(b'{"name":"a","type":4}').namespace == OWN_NAMESPACE
    assert ligato_v3.decode(b'{"name":"lo","type":4}', name="lo").interface.host_name == "lo"


def test_kinds_that_are_not_supported_are_known() -> None:
    vrf = decode(other("VRF_DEVICE", vrf_dev={"routing_table": 7}, mtu=65575))
    assert vrf.kind == decode(other(5, vrfDev={"routingTable": "7"})).kind == VrfDevice(routing_table=7)
    assert decode(other("DUMMY")).kind == decode(other(6)).kind == Dummy()
    assert list(errors(other(5, vrf_dev={"routing_table": "x"}))) == ["vrf_dev.routing_table"]


@pytest.mark.parametrize(
    ("vpp_name", "host_name"),
    [
        ("tap0", "tap0"),
        ("", ""),
        (None, ""),
        ("chongo was here!\n", f"tap-{0xD49930D5}"),  # published with the hash
        ("GigabitEthernet0/8/0", "tap-182277009"),
    ],
)
def test_host_names_of_taps(vpp_name: str | None, host_name: str) -> None:
    interface = decode(other("TAP_TO_VPP", tap={"vpp_tap_if_name": vpp_name}))
    assert interface.kind == AutoTap(temp_if_name=host_name)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (other(None, veth={"peer_if_name": "b"}), ["type"]),
        (other("UNDEFINED"), ["type"]),
        (other("AUTO_TAP"), ["type"]),
        (other(7), ["type"]),
        (other(0), ["type"]),
        (other("VETH"), ["veth.peer_if_name"]),
        (other("VETH", veth={"peer_if_name": "a"}), ["veth.peer_if_name"]),
        (value(tap={}), ["tap"]),
        (value(vrf_dev={"routing_table": 7}), ["vrf_dev"]),
        (other("TAP_TO_VPP", veth={"peer_if_name": "b"}), ["veth"]),
        (other("LOOPBACK", tap={}), ["tap"]),
        (other("EXISTING", veth={}), ["veth"]),
        (other("DUMMY", veth={}, tap={}), ["tap", "veth"]),
        (other("TAP_TO_VPP", tap={"vpp_tap_if_name": 7}), ["tap.vpp_tap_if_name"]),
        (other("TAP_TO_VPP", tap=[]), ["tap"]),
        (other("EXISTING", host_if_name="all"), ["host_if_name"]),
        (other("DUMMY", host_if_name="lo"), ["host_if_name"]),
        (other("EXISTING", mtu=67), ["mtu"]),
        (value(mtu=65536), ["mtu"]),
        (value(mtu=-1), ["mtu"]),
        (value(link_only="yes"), ["link_only"]),
        (value(vrf_master_interface=7), ["vrf_master_interface"]),
        (value(vrf_master_interface="\n"), ["vrf_master_interface"]),
        (value(ip_addresses=["alloc:net1"]), ["ip_addresses[0]"]),
        (value(name="c"), ["name"]),
        (b'{"type":1,"veth":{"peer_if_name":"b"}}', ["name"]),
        (b'{"name":"a","type":1,"veth":{},"veth":{"peer_if_name":"b"}}', ["veth"]),
        (b"{}", ["name", "type"]),
        (b"", [""]),
        (b"[]", [""]),
        (b"{", [""]),
        (b"hello", [""]),
        (b"{" + b" " * ligato_v1.MAX_VALUE_BYTES + b"}", [""]),
    ],
)
def test_what_is_refused(text: bytes, fields: list[str]) -> None:
    assert list(errors(text)) == fields


def test_unknown_fields_are_warned_of() -> None:
    text = value(
        description="of v1", veth={"peer_if_name": "b", "x": 1}, namespace={"type": 1, "reference": "n", "y": 1}
    )
    assert ligato_v3.decode(text, name="a") == ligato_v3.Decoded(
        Interface(name="a", kind=Veth(peer_if_name="b"), namespace=named("n")),
        (
            "unknown field 'description' is ignored",
            "unknown field veth.'x' is ignored",
            "unknown field namespace.'y' is ignored",
        ),
    )


def test_declare_keeps_what_is_wrong() -> None:
    good = ligato_v3.declare(value(x=1), name="a", revision=7)
    assert (good.key.name, good.interface, good.errors, good.revision) == ("a", decode(value()), (), 7)
    assert good.warnings == ("unknown field 'x' is ignored",)
    bad = ligato_v3.declare(b"{", name="b", revision=8)
    assert (bad.key.name, bad.interface, bad.revision) == ("b", None, 8)
    assert "not valid JSON" in bad.errors[0].message


FULL = Interface(
    name="a",
    kind=Veth(peer_if_name="b", rx_checksum_offloading="enabled", tx_checksum_offloading="disabled"),
    enabled=True,
    ip_addresses=("10.0.0.1/24",),  # type: ignore[arg-type] # parsed when it is made
    phys_address="d2:74:8c:12:67:d2",
    mtu=1500,
    host_if_name="h",
    namespace=NamespaceRef(NamespaceType.MICROSERVICE, "web"),
    link_only=True,
    vrf_master_interface="red",
    master_if_name="red",
    bridge_port=BridgePort(hairpin=True),
)


def test_encode_is_what_v3_reads() -> None:
    assert ligato_v3.encode(FULL) == (
        b'{"name":"a","type":"VETH","namespace":{"type":"MICROSERVICE","reference":"web"},"host_if_name":"h",'
        b'"enabled":true,"ip_addresses":["10.0.0.1/24"],"phys_address":"d2:74:8c:12:67:d2","mtu":1500,'
        b'"link_only":true,"vrf_master_interface":"red","veth":{"peer_if_name":"b",'
        b'"rx_checksum_offloading":"CHKSM_OFFLOAD_ENABLED","tx_checksum_offloading":"CHKSM_OFFLOAD_DISABLED"},'
        b'"master_if_name":"red","bridge_port":{"hairpin":true}}'
    )
    assert ligato_v3.encode(Interface(name="a", kind=Loopback())) == b'{"name":"a","type":"LOOPBACK"}'
    assert ligato_v3.encode(Interface(name="µ", kind=AutoTap())) == '{"name":"µ","type":"TAP_TO_VPP"}'.encode()


def test_known_bytes() -> None:
    text = b"\n\x01a\x10\x01\x1a\x05\x08\x01\x12\x01n@\xdc\x0b\xa2\x01\x03\n\x01b"
    interface = Interface(name="a", kind=Veth(peer_if_name="b"), namespace=named("n"), mtu=1500)
    assert ligato_v3.encode_binary(interface) == text
    assert decode(text) == interface


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"\n\x01a\x10\x01\xa2\x01\x03\n\x01b\xaa\x01\x00", ["tap"]),
        (b"\n\x01a\x10\x01\xa2\x01\x03\n\x01b\xa2\x01\x03\n\x01b", ["veth"]),
        (b"\n\x01a\x10\x03\xaa\x01\x00", ["tap"]),
        (b"\n\x01a\x10\x03\x1a\x00", ["namespace.type", "namespace.reference"]),
        (b"\n\x01a\x10\x07", ["type"]),
        (b"\n\x01a", ["type"]),
        (b"\n\x01a\x10\x01\xa2\x01\x05\n\x01b\x10\x03", ["veth.rx_checksum_offloading"]),
        (b"\n\x01a\x10", ["type"]),
        (b"\n\x01a\x10\x03\x1a\x02\x12\xff", ["namespace.reference"]),
    ],
)
def test_broken_messages(text: bytes, fields: list[str]) -> None:
    assert list(errors(text)) == fields


def test_every_field_of_the_message_is_read() -> None:
    message = pb.Interface.parse(ligato_v3.encode_binary(FULL))
    for name in names(message) - {"name", "type", "master_if_name"} - {form.v3_field for form in FORMS.values()}:
        without = pb.Interface.parse(bytes(message))
        setattr(without, name, getattr(pb.Interface(), name))
        read = ligato_v3.decode(bytes(without), name="a").interface
        assert {each for each in names(FULL) if getattr(read, each) != getattr(FULL, each)} == {name}


def names(thing: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(thing)}


def test_message_and_model_agree_field_by_field() -> None:
    own = {form.v3_field for form in FORMS.values()} - {""}
    assert names(pb.Interface) - {"type"} - own == names(Interface) - {"kind", "description"}
    assert names(pb.VethLink) == names(Veth) - {"type"}
    assert set(REFERENCES.values()) == set(NamespaceType) - {NamespaceType.OWN}
    types = [get_type_hints(kind)["type"] for kind in get_args(Kind)]
    assert {word for type_ in types for word in get_args(type_)} == set(KIND_NUMBERS)


@pytest.mark.parametrize(
    ("generated", "ours", "not_to_be_said"),
    [
        (pb.InterfaceType, LinkType, {"UNDEFINED": 0}),
        (pb_namespace.NetNamespaceReferenceType, ReferenceNumber, {"UNDEFINED": 0}),
        (pb.VethLinkChecksumOffloading, OffloadingNumber, {}),
        (pb1.LinuxInterfacesInterfaceVethChecksumOffloading, OffloadingNumber, {}),
    ],
)
def test_enum_numbers_agree(generated: type[IntEnum], ours: type[IntEnum], not_to_be_said: dict[str, int]) -> None:
    known = {member.name: int(member) for member in ours}
    assert {member.name: int(member) for member in generated} == not_to_be_said | known
