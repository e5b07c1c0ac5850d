"""Everything that can be said survives being written and read; everything else is refused, never a crash."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_interface
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import betterproto2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ifagent.core.counters import Counters, Rates
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.kinds import (
    AutoTap,
    Bond,
    Bridge,
    Dummy,
    Existing,
    Kind,
    Loopback,
    TapDevice,
    Tunnel,
    Veth,
    Vlan,
    VrfDevice,
    Vxlan,
)
from ifagent.core.link import Duplex, NsId
from ifagent.core.names import IPInterface, Name
from ifagent.core.namespace_ref import OWN_NAMESPACE, NamespaceRef, NamespaceType
from ifagent.core.resources import interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.errors import FieldError, InvalidInterface, InvalidState
from ifagent.formats import ligato_v1, ligato_v3, state, wire
from ifagent.formats.enums import KIND_NUMBERS
from ifagent.formats.fields import Decoded
from ifagent.formats.pb import interfaces as pb1
from ifagent.formats.pb.ligato.linux import interfaces as pb3
from ifagent.stores.intent_file import IntentFile

letters = st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=("L", "N", "P", "S"))
names = st.text(letters, min_size=1, max_size=40)
host_names = st.text(letters, min_size=1, max_size=7).filter(
    lambda text: (
        not set("/:%") & set(text) and b"\xa0" not in text.encode() and text not in {".", "..", "all", "default", "lo"}
    )
)
macs = st.binary(min_size=6, max_size=6).map(lambda octets: bytes([octets[0] & 0xFC | 2, *octets[1:]]).hex(":"))
v4 = st.builds(
    lambda ip, prefix: ip_interface((ip, prefix)), st.integers(1 << 24, 0xDFFFFFFF).map(IPv4Address), st.integers(0, 32)
)
v6 = st.builds(
    lambda ip, prefix: ip_interface((ip, prefix)),
    st.integers(2, 0xFE << 120).map(IPv6Address).filter(lambda ip: ip.ipv4_mapped is None),
    st.integers(0, 128),
)
addresses: st.SearchStrategy[tuple[IPInterface, ...]] = st.lists(v4 | v6, max_size=6, unique_by=lambda a: a.ip).map(
    tuple
)
namespaces = st.one_of(
    st.just(OWN_NAMESPACE),
    st.builds(
        NamespaceRef, st.just(NamespaceType.NAMED), names.filter(lambda n: n not in {".", ".."} and "/" not in n)
    ),
    st.builds(NamespaceRef, st.just(NamespaceType.PID), st.integers(1, 2**31 - 1).map(str)),
    st.builds(NamespaceRef, st.just(NamespaceType.FILE), names.map(lambda n: f"/run/{n.replace('..', '')}")),
    st.builds(NamespaceRef, st.just(NamespaceType.MICROSERVICE), names),
)
offloading = st.sampled_from(["default", "enabled", "disabled"])
kinds = st.one_of(
    st.builds(
        Veth,
        peer_if_name=names.map("p".__add__),
        rx_checksum_offloading=offloading,
        tx_checksum_offloading=offloading,
    ),
    st.builds(AutoTap, temp_if_name=st.just("") | host_names),
    st.just(Loopback()),
    st.just(Existing()),
    st.builds(VrfDevice, routing_table=st.integers(1, 252)),
    st.builds(Dummy),
    st.builds(
        Bridge,
        stp=st.booleans(),
        multicast_snooping=st.booleans(),
        ageing_time=st.integers(0, 1000),
        vlan_default_pvid=st.integers(0, 4094),
        vlan_protocol=st.sampled_from(["802.1q", "802.1ad"]),
    ),
    st.builds(
        Vlan,
        lower_if_name=names.map("p".__add__),
        id=st.integers(1, 4094),
        reorder_hdr=st.booleans(),
        egress_qos_map=st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, 7), max_size=4).map(
            lambda found: tuple(f"{priority}:{mapped}" for priority, mapped in found.items())
        ),
    ),
    st.builds(
        Tunnel,
        mode=st.sampled_from(["gre", "gretap"]),
        remote=st.ip_addresses(v=4).filter(lambda address: int(address) > 0).map(str),
        input_key=st.integers(0, 2**32 - 1),
        csum=st.booleans(),
        tos=st.integers(0, 255),
    ),
    st.builds(TapDevice, owner=st.integers(-1, 2**32 - 2), vnet_hdr=st.booleans()),
    st.builds(
        Bond,
        mode=st.sampled_from(["balance_rr", "active_backup"]),
        miimon=st.integers(0, 1000),
        arp_ip_targets=st.lists(st.ip_addresses(v=4).map(str), max_size=16, unique=True).map(tuple),
    ),
    st.builds(
        Vxlan,
        vni=st.integers(0, 2**24 - 1),
        remote=st.just("") | st.ip_addresses().filter(lambda address: not address.is_multicast).map(str),
        learning=st.booleans(),
    ),
)


MASTERS = {"vrf_master_interface": st.just("") | names.map("p".__add__)}


def interfaces_of(kind: Kind) -> st.SearchStrategy[Interface]:
    """Draw interfaces of one kind, with the host names and MTUs that it may have."""
    mtus = [68, 1500, 65535]
    given_names = host_names
    match kind:
        case Loopback():
            given_names = st.sampled_from(["", "lo"])
            mtus.append(65536)
        case VrfDevice():
            mtus = [1280, 65575]
        case TapDevice():
            mtus = [68, 65521]
        case Existing():
            given_names = host_names | st.just("lo")
            mtus.append(2**31 - 1)
    return st.builds(
        Interface,
        name=names.filter(lambda name: not name.startswith("p")),
        kind=st.just(kind),
        description=st.text(max_size=50),
        enabled=st.booleans(),
        ip_addresses=addresses,
        phys_address=st.just("") if isinstance(kind, VrfDevice) or not kind.ethernet else st.just("") | macs,
        mtu=st.just(0) | st.sampled_from(mtus),
        host_if_name=given_names,
        namespace=namespaces,
        link_only=st.booleans(),
        **({} if isinstance(kind, VrfDevice) else MASTERS),
    )


interfaces = kinds.flatmap(interfaces_of)
counts = st.integers(0, 2**53)
texts = st.text(max_size=30)
rates = st.builds(Rates, **dict.fromkeys(("in_packets", "in_bytes", "out_packets", "out_bytes"), st.floats(0, 1e12)))
statistics = st.builds(
    Counters,
    **{field.name: counts for field in dataclasses.fields(Counters) if field.name != "rates"},
    rates=st.none() | rates,
)
states = st.builds(
    InterfaceState,
    name=names.map(Name),
    config_state=st.sampled_from(ConfigState),
    type=st.sampled_from(sorted(KIND_NUMBERS)),
    reason=texts,
    missing=st.lists(texts, max_size=3).map(tuple),
    errors=st.lists(st.builds(FieldError, texts, texts), max_size=3).map(tuple),
    warnings=st.lists(texts, max_size=3).map(tuple),
    attempts=counts,
    next_retry=st.floats(0, 1e12),
    internal_name=texts,
    if_index=counts,
    admin_status=st.sampled_from(Status),
    oper_status=st.sampled_from(Status),
    phys_address=texts,
    mtu=counts,
    speed=counts,
    duplex=st.sampled_from(Duplex),
    statistics=st.none() | statistics,
    peer_if_index=counts,
    ip_addresses=addresses,
    namespace=namespaces,
    namespace_id=st.none() | counts.map(NsId),
    last_change=counts.map(float),
    observed_revision=counts,
    applied_revision=counts,
    repairs=counts,
    last_drift=texts,
)
# Values of any type under the keys that matter, so that a good part of the value stays intact.
half_characters = st.text(st.characters(categories=["Cs"]), max_size=2)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | half_characters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
nested_keys = st.sampled_from(
    [
        *("type", "pid", "microservice", "name", "filepath", "reference", "peer_if_name", "rxChecksumOffloading"),
        *("temp_if_name", "vpp_tap_if_name", "routing_table", "x"),
    ]
)
keys = st.sampled_from(
    sorted({*wire.field_names(pb1.LinuxInterfacesInterface()), *wire.field_names(pb3.Interface()), "hostIfName", "x"})
)
values = anything | st.dictionaries(nested_keys, anything, max_size=3)


class Family(NamedTuple):
    """One family of values; ``keeps`` is what is left of an interface that was written."""

    decode: Callable[..., Decoded]
    declare: Callable[..., Declaration]
    encode: Callable[[Interface], bytes]
    encode_binary: Callable[[Interface], bytes]
    keeps: Callable[[Interface], Interface]
    least: dict[str, Any]
    least_message: bytes


V1 = Family(
    ligato_v1.decode,
    ligato_v1.declare,
    ligato_v1.encode,
    ligato_v1.encode_binary,
    lambda interface: interface,
    {"name": "a", "veth": {"peer_if_name": "b"}},
    b"\x0a\x01a\x52\x03\x0a\x01b",
)
V3 = Family(
    ligato_v3.decode,
    ligato_v3.declare,
    ligato_v3.encode,
    ligato_v3.encode_binary,
    lambda interface: dataclasses.replace(interface, description=""),
    {"name": "a", "type": "VETH", "veth": {"peer_if_name": "b"}},
    b"\x0a\x01a\x10\x01\xa2\x01\x03\x0a\x01b",
)
families = pytest.mark.parametrize("family", [V1, V3], ids=["v1", "v3"])


def refused_or_read(family: Family, value: bytes, name: str) -> Interface | None:
    """Decode, and check that what is said of it is usable."""
    declaration = family.declare(value, name=name, revision=1)
    assert (declaration.interface is None) == bool(declaration.errors)
    for error in declaration.errors:
        assert error.message
        str(error).encode()
    for warning in declaration.warnings:
        warning.encode()
    if declaration.interface is not None:
        assert declaration.interface.name == name
    return declaration.interface


@families
@given(interfaces)
def test_json_round_trip(family: Family, interface: Interface) -> None:
    value = family.encode(interface)
    assert family.decode(value, name=interface.name) == Decoded(family.keeps(interface))
    assert all(json.loads(value).values()), "zero values are left out"


@given(interfaces)
def test_fields_round_trip(interface: Interface) -> None:
    assert ligato_v1.decode_fields(json.loads(ligato_v1.encode(interface)), name=None) == Decoded(interface)


@families
@given(interfaces)
def test_binary_round_trip(family: Family, interface: Interface) -> None:
    value = family.encode_binary(interface)
    assert family.decode(value, name=interface.name) == Decoded(family.keeps(interface))
    assert len(value) <= ligato_v1.MAX_VALUE_BYTES


@families
@given(interfaces, st.randoms(use_true_random=False))
def test_spelling_of_keys_does_not_matter(family: Family, interface: Interface, random: Random) -> None:
    def respell(fields: dict[str, Any]) -> dict[str, Any]:
        return {spell(key): respell(value) if isinstance(value, dict) else value for key, value in fields.items()}

    def spell(key: str) -> str:
        first, *rest = key.split("_")
        key = random.choice([key, first + "".join(map(str.capitalize, rest))])
        return "".join(random.choice([letter, letter.upper(), letter.lower()]) for letter in key)

    value = json.dumps(respell(json.loads(family.encode(interface)))).encode()
    assert family.decode(value, name=interface.name) == Decoded(family.keeps(interface))


@families
@given(st.binary(max_size=200), st.text(max_size=10))
@example(b"[" * 60_000, "a")
@example(b"\n", "a")
@example(b"\x0a\x01a\x48\x01", "a")
def test_any_bytes_are_refused_or_read(family: Family, value: bytes, name: str) -> None:
    refused_or_read(family, value, name)


@families
@given(st.dictionaries(keys, values, max_size=8), st.booleans())
def test_any_json_is_refused_or_read(family: Family, fields: dict[str, Any], complete: bool) -> None:
    if complete:
        fields = family.least | fields
    for value in (json.dumps(fields), json.dumps(fields, ensure_ascii=False)):
        refused_or_read(family, value.encode(errors="surrogatepass"), "a")
    with contextlib.suppress(InvalidInterface):
        ligato_v1.decode_fields(fields, name=None)


@given(anything)
def test_any_object_is_refused_or_read(fields: object) -> None:
    with contextlib.suppress(InvalidInterface):
        ligato_v1.decode_fields(fields, name=None)


@families
@given(interfaces, st.data())
def test_damaged_values_are_refused_or_read(family: Family, interface: Interface, data: st.DataObject) -> None:
    encode = data.draw(st.sampled_from([family.encode, family.encode_binary]))
    value = bytearray(encode(interface))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    refused_or_read(family, bytes(value), interface.name)


@families
@given(interfaces, st.data())
def test_no_cut_message_is_taken_for_a_longer_one(family: Family, interface: Interface, data: st.DataObject) -> None:
    value = family.encode_binary(interface)
    end = data.draw(st.integers(0, len(value) - 1))
    read = refused_or_read(family, value[:end], interface.name)
    # Only a cut between two fields can be read, and then it says exactly what is left.
    assert read is None or family.encode_binary(read) == value[:end]


@families
@given(st.lists(st.tuples(st.integers(1, 23), st.sampled_from([0, 1, 2, 5]), st.binary(max_size=9)), max_size=8))
def test_any_well_formed_message_is_refused_or_read(family: Family, fields: list[tuple[int, int, bytes]]) -> None:
    value = bytearray(family.least_message)
    for number, wire_type, content in fields:
        value += betterproto2.encode_varint(number << 3 | wire_type)
        match wire_type:
            case 0:
                value += betterproto2.encode_varint(int.from_bytes(content[:8], "little"))
            case 2:
                value += betterproto2.encode_varint(len(content)) + content
            case _:
                value += content.ljust(8, b"x")[: 8 if wire_type == 1 else 4]
    refused_or_read(family, bytes(value), "a")


declarations = st.builds(
    lambda said, warnings, revision: Declaration.of(said, warnings=tuple(warnings), revision=revision),
    interfaces,
    st.lists(texts, max_size=3),
    counts,
) | st.builds(
    lambda name, errors, revision: Declaration(key=interface_key(name), errors=tuple(errors), revision=revision),
    names,
    st.lists(st.builds(FieldError, texts, texts), min_size=1, max_size=3),
    counts,
)


@given(st.lists(declarations, max_size=4, unique_by=lambda declaration: declaration.key), texts, texts)
def test_intent_file_round_trip(said: list[Declaration], source: str, label: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        intent = {declaration.key: declaration for declaration in said}
        assert IntentFile(Path(folder), source=source, label=label).write(intent)
        found = IntentFile(Path(folder), source=source, label=label).read()
        assert found
        assert found.declarations == intent
        assert not IntentFile(Path(folder), source=source, label=label).write(dict(found.declarations))


@given(states)
def test_state_round_trip(published: InterfaceState) -> None:
    assert state.decode_state(state.encode_state_json(published)) == published
    assert state.decode_state_fields(state.encode_state(published)) == published


@given(counts, st.sampled_from(Change), st.none() | states, counts)
def test_event_round_trip(seq: int, change: Change, published: InterfaceState | None, missed: int) -> None:
    event = StateEvent(seq=seq, event=change, name=Name("a"), state=published, missed=missed)
    assert state.decode_event(state.encode_event_json(event)) == event


@given(states, st.sampled_from([field.name for field in dataclasses.fields(InterfaceState)]), values, st.binary())
@example(InterfaceState(name="a", config_state=ConfigState.APPLIED), "ip_addresses", [False], b"")
def test_any_state_is_refused_or_read(published: InterfaceState, key: str, value: object, junk: bytes) -> None:
    damaged = json.dumps(state.encode_state(published) | {key: value}).encode()
    for text in (damaged, junk, b'{"seq":1,"event":"changed","name":"a","state":' + damaged + b"}"):
        for read in (state.decode_state, state.decode_event):
            with contextlib.suppress(InvalidState):
                read(text)


address_texts = st.builds(
    "{}{}{}{}".format,
    st.ip_addresses().map(str) | st.text("0123456789abcdefABCDEF:.%", max_size=20),
    st.sampled_from(["", "/", "/", " /"]),
    st.sampled_from(["", "0", "00"]),
    st.integers(0, 200).map(str) | st.sampled_from(["", "+1", "-1", "²", "255.255.0.0", "0.0.0.255", "1_0", "24 "]),
)


def can_be_given_to_a_link(address: IPInterface) -> bool:
    """Tell whether an address can be that of a link other than the loopback."""
    if address.ip.is_multicast or address.ip.is_unspecified:
        return False
    if isinstance(address, IPv4Interface):
        return address.ip not in IPv4Network("0.0.0.0/8") and str(address.ip) != "255.255.255.255"
    return address.scope_id is None and address.ipv4_mapped is None and str(address.ip) != "::1"


@given(address_texts)
def test_an_address_is_read_as_the_standard_library_reads_it(text: str) -> None:
    expected: IPInterface | None = None
    with contextlib.suppress(ValueError):
        expected = ip_interface(text.strip())
    if expected is not None and not can_be_given_to_a_link(expected):
        expected = None
    try:
        (found,) = Interface(name="x", kind=Existing(), ip_addresses=(text,)).ip_addresses  # type: ignore[arg-type]
    except ValueError:
        assert expected is None
    else:
        assert found == expected
