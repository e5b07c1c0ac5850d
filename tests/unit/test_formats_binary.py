"""The binary form: what betterproto2 lets pass and ifagent does not."""

from __future__ import annotations

import dataclasses
from enum import IntEnum
from typing import Any

import pytest

from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, BridgePort, Veth
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.errors import InvalidInterface
from ifagent.formats import ligato_v1
from ifagent.formats.enums import NAMESPACE_FIELDS, InterfaceType, NamespaceNumber
from ifagent.formats.kinds import FORMS
from ifagent.formats.pb import interfaces as pb

VETH = Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True, mtu=1500, namespace=named("n"))


def errors(value: bytes, *, name: str = "a") -> dict[str, str]:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v1.decode(value, name=name)
    return {error.field: error.message for error in caught.value.errors}


def field(number: int, wire_type: int, *content: int) -> bytes:
    return bytes([number << 3 | wire_type, *content])


def with_peer(extra: bytes = b"") -> bytes:
    return b"\x0a\x01a\x52\x03\x0a\x01b" + extra


def test_known_bytes() -> None:
    assert ligato_v1.encode_binary(VETH) == b'\n\x01a \x018\xdc\x0bJ\x05\x08\x02"\x01nR\x03\n\x01b'
    assert ligato_v1.decode(ligato_v1.encode_binary(VETH), name="a").interface == VETH


@pytest.mark.parametrize("type_", [NamespaceType.PID, NamespaceType.MICROSERVICE, NamespaceType.FILE])
def test_every_namespace_reference(type_: NamespaceType) -> None:
    reference = {NamespaceType.PID: "77", NamespaceType.FILE: "/f"}.get(type_, "web")
    interface = Interface(name="t", kind=AutoTap(temp_if_name="x"), namespace=NamespaceRef(type_, reference))
    assert ligato_v1.decode(ligato_v1.encode_binary(interface), name="t").interface == interface


@pytest.mark.parametrize("length", [9, 10, 13, 32, 91, 123])
def test_a_name_whose_length_looks_like_text(length: int) -> None:
    # Tag and length are then two bytes of white space, or a line feed and a brace.
    for first in "n{[":
        name = first + "x" * (length - 1)
        interface = Interface(name=name, host_if_name="h", kind=Veth(peer_if_name="b"))
        assert ligato_v1.decode(ligato_v1.encode_binary(interface), name=name).interface == interface


def test_every_truncation_is_refused_or_complete() -> None:
    value = ligato_v1.encode_binary(VETH)
    whole_fields = {len(value[:-5])}
    for end in range(len(value)):
        told = errors(value[:end])
        assert told, end
        if end in whole_fields:
            assert list(told) == ["veth.peer_if_name"]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (with_peer(field(7, 0, 0x80)), "mtu"),
        (with_peer(field(7, 0, *[0xFF] * 10, 1)), "mtu"),
        (with_peer(field(7, 0, *[0xFF] * 9, 2)), "mtu"),
        (with_peer(field(7, 0, 0xDC, 0x8B, 0x80, 0x80, 0x10)), "mtu"),  # 1500 once cut to 32 bits
        (with_peer(field(7, 2, 1, 5)), "mtu"),
        (with_peer(field(7, 5, 1, 2, 3, 4)), "mtu"),
        (with_peer(field(7, 0, 5)), "mtu"),
        (with_peer(field(3, 0, 99)), "type"),
        (with_peer(field(3, 0, *[0xFF] * 9, 1)), "type"),  # -1
        (with_peer(field(5, 0, 7)), "ip_addresses"),
        (with_peer(field(5, 2, 1, 0xFF)), "ip_addresses"),
        (with_peer(field(5, 2, 1, 0x41)), "ip_addresses[0]"),
        (with_peer(field(9, 2, 2, 8, 9)), "namespace.type"),
        (with_peer(field(9, 2, 2, 8)), "namespace"),
        (with_peer(field(9, 2, 1, 8)), "namespace.type"),
        (with_peer(field(9, 2, 3, 8, 2, 0x22)), "namespace.name"),
        (with_peer(field(10, 2, 0)), "veth"),
        (with_peer(field(1, 3)), "name"),
        (with_peer(field(13, 0, *[0xFF] * 9, 2)), ""),
        (with_peer(b"\x00"), ""),
        (with_peer(b"\x80"), ""),
        (with_peer(field(15, 6)), ""),
        (with_peer(field(15, 5, 1, 2, 3)), ""),
        (b"\x0a\x01a", "veth.peer_if_name"),
        (b"\x52\x03\x0a\x01b", "name"),
        (b"\x0a\x01z" + with_peer()[3:], "name"),
    ],
)
def test_broken_messages(value: bytes, wrong: str) -> None:
    assert list(errors(value)) == [wrong]


def test_scalars_count_last() -> None:
    decoded = ligato_v1.decode(with_peer(field(7, 0, 5) + field(7, 0, 0xDC, 0x0B)), name="a")
    assert decoded.interface.mtu == 1500


def test_unknown_fields_are_warned_of() -> None:
    value = with_peer(field(13, 0, 1) + field(14, 2, 1, 7) + field(15, 1, *range(8)) + field(9, 2, 2, 7 << 3, 1))
    decoded = ligato_v1.decode(value, name="a")
    assert decoded.interface == Interface(name="a", kind=Veth(peer_if_name="b"))
    assert decoded.warnings == tuple(
        f"unknown field {path} is ignored" for path in ("#13", "#14", "#15", "namespace.#7")
    )


def test_size_is_limited() -> None:
    value = with_peer(b"\x12\x80\x80\x04" + b"x" * 65536)
    assert "at most 65536" in errors(value)[""]
    assert list(errors(with_peer(b"\x12\x80\x40" + b"x" * 8192))) == ["description"]


def test_number_of_fields_is_limited() -> None:
    assert "more than 1024 fields" in errors(with_peer(field(13, 0, 1) * 1023))[""]
    assert ligato_v1.decode(with_peer(field(13, 0, 1) * 1022), name="a").warnings[-1] == "and 1012 more"


def test_our_messages_are_plain_protobuf() -> None:
    message = pb.LinuxInterfacesInterface.parse(ligato_v1.encode_binary(VETH))
    assert (message.name, message.mtu, message.enabled) == ("a", 1500, True)
    assert message.namespace is not None
    assert message.namespace.name == "n"


def names(thing: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(thing)}


def test_message_and_model_agree_field_by_field() -> None:
    own = {form.v1_field for form in FORMS.values()} - {""}
    assert names(pb.LinuxInterfacesInterface) - {"type"} - own == names(Interface) - {"kind"}
    assert names(pb.LinuxInterfacesInterfaceVeth) == names(Veth) - {"type"}
    assert names(pb.LinuxInterfacesInterfaceTap) == names(AutoTap) - {"type"}
    assert names(pb.LinuxInterfacesInterfaceNamespace) == {"type", *(name for _, name in NAMESPACE_FIELDS.values())}
    assert {meaning for meaning, _ in NAMESPACE_FIELDS.values()} == set(NamespaceType) - {NamespaceType.OWN}


@pytest.mark.parametrize(
    ("generated", "ours"),
    [
        (pb.LinuxInterfacesInterfaceType, InterfaceType),
        (pb.LinuxInterfacesInterfaceNamespaceNamespaceType, NamespaceNumber),
    ],
)
def test_enum_numbers_agree(generated: type[IntEnum], ours: type[IntEnum]) -> None:
    assert {member.name: int(member) for member in generated} == {member.name: int(member) for member in ours}


def test_every_field_of_the_message_is_read() -> None:
    full = Interface(
        name="a",
        kind=Veth(peer_if_name="b"),
        description="text",
        enabled=True,
        ip_addresses=("10.0.0.1/24",),  # type: ignore[arg-type] # parsed when it is made
        phys_address="d2:74:8c:12:67:d2",
        mtu=1500,
        host_if_name="h",
        namespace=named("n"),
        link_only=True,
        vrf_master_interface="red",
        master_if_name="red",
        bridge_port=BridgePort(hairpin=True),
    )
    message = pb.LinuxInterfacesInterface.parse(ligato_v1.encode_binary(full))
    for name in names(message) - {"name", "type", "master_if_name"} - {form.v1_field for form in FORMS.values()}:
        without = pb.LinuxInterfacesInterface.parse(bytes(message))
        setattr(without, name, getattr(pb.LinuxInterfacesInterface(), name))
        read = ligato_v1.decode(bytes(without), name="a").interface
        assert {each for each in names(full) if getattr(read, each) != getattr(full, each)} == {name}
