"""What v1.4.1 accepts, what ifagent accepts beyond it, and what users are told otherwise."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest

from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, Veth
from ifagent.core.namespace_ref import OWN_NAMESPACE, NamespaceRef, NamespaceType, named
from ifagent.errors import InvalidInterface
from ifagent.formats import ligato_v1
from ifagent.formats.enums import InterfaceType, NamespaceNumber
from ifagent.formats.fields import MAX_MESSAGE, MAX_REPORTED, MAX_TEXT

VETH1 = (
    b'{"enabled":true,"mtu":1500,"ip_addresses":["192.168.22.1/24","2001:db8:0:0:0:ff00:89e3:bb42/48"],'
    b'"namespace":{"name":"ns1","type":2},"name":"veth1","host_if_name":"veth1Name",'
    b'"phys_address":"d2:74:8c:12:67:d2","type":0,"veth":{"peer_if_name":"veth2"}}'
)
TAP1 = (
    b'{"name":"tap1","host_if_name":"linux-tap","enabled":true,"type":1,"mtu":1500,"phys_address":"92:c7:42:67:ab:cc",'
    b'"namespace":{"type":2,"name":"ns1"},"ip_addresses":["172.52.45.127/24"],"tap":{"temp_if_name":"tap1"}}'
)
MINIMAL: dict[str, Any] = {"name": "a", "veth": {"peer_if_name": "b"}}


def value(**fields: Any) -> bytes:
    return json.dumps({**MINIMAL, **fields}).encode()


def decode(text: bytes) -> Interface:
    decoded = ligato_v1.decode(text, name="a")
    assert decoded.warnings == ()
    return decoded.interface


def errors(text: bytes, *, name: str = "a") -> dict[str, str]:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v1.decode(text, name=name)
    assert caught.value.name == name
    told = {error.field: error.message for error in caught.value.errors}
    assert len(told) == len(caught.value.errors), "one error a field"
    assert all(told.values())
    return told


def test_sample_veth() -> None:
    assert ligato_v1.decode(VETH1, name="veth1") == ligato_v1.Decoded(
        Interface(
            name="veth1",
            kind=Veth(peer_if_name="veth2"),
            enabled=True,
            ip_addresses=(ip_interface("192.168.22.1/24"), ip_interface("2001:db8::ff00:89e3:bb42/48")),
            phys_address="d2:74:8c:12:67:d2",
            mtu=1500,
            host_if_name="veth1Name",
            namespace=named("ns1"),
        )
    )


def test_sample_tap() -> None:
    interface = ligato_v1.decode(TAP1, name="tap1").interface
    assert interface.kind == AutoTap(temp_if_name="tap1")
    assert interface.host_name == "linux-tap"


def test_absent_means_zero() -> None:
    interface = decode(value())
    assert interface == Interface(name="a", kind=Veth(peer_if_name="b"))
    assert not interface.enabled
    assert interface.namespace == OWN_NAMESPACE


@pytest.mark.parametrize("text", [b" ", b"\t", b"\r\n", b"\n", b"\n\n  "])
def test_white_space_around_json(text: bytes) -> None:
    assert decode(text + value() + text) == decode(value())


@pytest.mark.parametrize(
    "key", ["host_if_name", "hostIfName", "HOST_IF_NAME", "Host_If_Name", "hostifname", "HostIfName", "HOSTIFNAME"]
)
def test_keys_in_any_spelling(key: str) -> None:
    assert decode(value(**{key: "eth7"})).host_name == "eth7"


def test_nested_keys_in_any_spelling() -> None:
    text = b'{"Name":"a","VETH":{"peerIfName":"b"},"nameSpace":{"TYPE":"NAMED_NS","Name":"n"}}'
    assert decode(text) == decode(value(namespace={"type": 2, "name": "n"}))


@pytest.mark.parametrize("number", [0, "VETH", "veth", "0", 0.0, None])
def test_veth_by_number_and_name(number: object) -> None:
    assert decode(value(type=number)).kind == Veth(peer_if_name="b")


@pytest.mark.parametrize("number", [1, "AUTO_TAP", "auto_tap", "1", 1.0])
def test_tap_by_number_and_name(number: object) -> None:
    assert decode(value(type=number, veth=None)).kind == AutoTap()
    assert decode(value(type=number, veth=None, tap={"tempIfName": "t"})).kind == AutoTap(temp_if_name="t")


@pytest.mark.parametrize(
    ("namespace", "wanted"),
    [
        (None, "own"),
        ({}, "own"),
        ({"type": 0, "pid": 0}, "own"),
        ({"type": 2}, "own"),
        ({"type": 2, "name": ""}, "own"),
        ({"type": 3, "filepath": None}, "own"),
        ({"pid": 77}, "pid:77"),
        ({"type": "PID_REF_NS", "pid": "77"}, "pid:77"),
        ({"type": 1, "microservice": "web"}, "microservice:web"),
        ({"type": "NAMED_NS", "name": "ns1", "pid": 0, "filepath": ""}, "named:ns1"),
        ({"type": 3, "filepath": "/proc/7/ns/net"}, "file:/proc/7/ns/net"),
    ],
)
def test_namespaces(namespace: object, wanted: str) -> None:
    assert str(decode(value(namespace=namespace)).namespace) == wanted


@pytest.mark.parametrize(
    ("namespace", "field"),
    [
        ("ns1", "namespace"),
        (["ns1"], "namespace"),
        ({"type": 4, "name": "ns1"}, "namespace.type"),
        ({"type": "NAMED", "name": "ns1"}, "namespace.type"),
        ({"type": 2, "name": "../etc"}, "namespace.name"),
        ({"type": 2, "name": 7}, "namespace.name"),
        ({"type": 3, "filepath": "relative"}, "namespace.filepath"),
        ({"type": 3, "filepath": "/" + "x" * 5000}, "namespace.filepath"),
        ({"pid": -1}, "namespace.pid"),
        ({"pid": 2**40}, "namespace.pid"),
        ({"pid": "self"}, "namespace.pid"),
        ({"type": 1}, "namespace.microservice"),
    ],
)
def test_wrong_namespaces(namespace: object, field: str) -> None:
    assert list(errors(value(namespace=namespace))) == [field]


@pytest.mark.parametrize("mtu", [1500, "1500", 1500.0])
def test_mtu_as_whole_number(mtu: object) -> None:
    assert decode(value(mtu=mtu)).mtu == 1500


@pytest.mark.parametrize(
    "mtu",
    [-1, 67, 65536, 2**40, 10**30, 1500.5, "1500.0", "jumbo", "", True, [1500], 1e300, "\uff11\uff15\uff10\uff10"],
)
def test_wrong_mtu(mtu: object) -> None:
    assert list(errors(value(mtu=mtu))) == ["mtu"]


@pytest.mark.parametrize("number", [98, 99, -1, "TEAM", "", 0.5, True, [], {}])
def test_unknown_type_names_the_known_ones(number: object) -> None:
    told = errors(value(type=number))
    assert list(told) == ["type"]
    assert "0 (VETH), 1 (AUTO_TAP), 2 (LOOPBACK), 3 (EXISTING), 4 (VRF_DEVICE), 5 (DUMMY)" in told["type"]


@pytest.mark.parametrize("addresses", ["10.0.0.1/24", 7, True, {"0": "10.0.0.1/24"}])
def test_addresses_must_be_a_list(addresses: object) -> None:
    assert "must be a list" in errors(value(ip_addresses=addresses))["ip_addresses"]


def test_one_wrong_address_is_named() -> None:
    assert list(errors(value(ip_addresses=["10.0.0.1/24", "10.0.0.300/24", 7]))) == [
        "ip_addresses[1]",
        "ip_addresses[2]",
    ]
    assert list(errors(value(ip_addresses=["10.0.0.1/24", None]))) == ["ip_addresses[1]"]


@pytest.mark.parametrize(
    "field", ["name", "description", "phys_address", "host_if_name", "veth.peer_if_name", "tap.temp_if_name"]
)
@pytest.mark.parametrize("wrong", [7, True, ["x"], {"x": 1}])
def test_strings_must_be_strings(field: str, wrong: object) -> None:
    outer, _, inner = field.partition(".")
    fields = {outer: {inner: wrong} if inner else wrong}
    if outer == "tap":
        fields["type"] = 1
    told = errors(value(**fields))
    assert list(told) == [field]
    assert "must be a string, not" in told[field]


@pytest.mark.parametrize("flag", ["true", "yes", 1, 0, []])
def test_enabled_must_be_a_boolean(flag: object) -> None:
    assert "must be true or false" in errors(value(enabled=flag))["enabled"]


def test_null_is_absent() -> None:
    nulls = dict.fromkeys(
        ["description", "type", "enabled", "ip_addresses", "phys_address", "mtu", "host_if_name", "namespace", "tap"]
    )
    assert decode(value(**nulls)) == decode(value())
    assert list(errors(value(veth=None))) == ["veth.peer_if_name"]
    assert list(errors(value(name=None))) == ["name"]


@pytest.mark.parametrize("veth", [None, {}, {"peer_if_name": ""}, {"peer_if_name": None}])
def test_veth_needs_a_peer(veth: object) -> None:
    told = errors(value(veth=veth))
    assert list(told) == ["veth.peer_if_name"]
    assert "is required" in told["veth.peer_if_name"]
    assert "type 1 (AUTO_TAP)" in errors(value(veth=veth, tap={"temp_if_name": "t"}))["veth.peer_if_name"]


def test_name_of_key_and_value_must_be_equal() -> None:
    assert errors(value(), name="other") == {"name": "'a' is not the name in the key, 'other'"}
    assert errors(b'{"veth":{"peer_if_name":"b"}}') == {"name": "is required, and must be 'a'"}


def test_all_errors_come_out_together() -> None:
    text = value(type=99, enabled="on", mtu=9, ip_addresses="x", phys_address="01:00:00:00:00:00", host_if_name="a b")
    assert set(errors(text, name="c")) == {
        "name",
        "type",
        "enabled",
        "mtu",
        "ip_addresses",
        "phys_address",
        "host_if_name",
    }


def test_unknown_and_unused_fields_are_warned_of() -> None:
    text = value(
        mtuu=1, tap={"temp_if_name": "t"}, namespace={"name": "ns1", "color": 1}, veth={"peer_if_name": "b", "x": 2}
    )
    decoded = ligato_v1.decode(text, name="a")
    assert decoded.interface == decode(value())
    assert sorted(decoded.warnings) == [
        "namespace.name is ignored, because namespace.type is 0 (PID_REF_NS)",
        "tap is ignored, because type is 0 (VETH)",
        "unknown field 'mtuu' is ignored",
        "unknown field namespace.'color' is ignored",
        "unknown field veth.'x' is ignored",
    ]


@pytest.mark.parametrize("text", [b'"mtu":1400,"mtu":1500', b'"MTU":1400,"mtu":1500', b'"mtu":1500,"mtu":null'])
def test_last_of_repeated_keys_counts(text: bytes) -> None:
    decoded = ligato_v1.decode(b'{"name":"a","veth":{"peer_if_name":"b"},' + text + b"}", name="a")
    assert decoded.interface.mtu == 1500
    assert decoded.warnings == (() if b"null" in text else ("duplicate field mtu, the last one is used",))


def test_repeated_objects_are_refused() -> None:
    text = b'{"name":"a","veth":{"peer_if_name":"b"},"namespace":{"type":2},"Namespace":{"name":"n"}}'
    assert errors(text) == {"namespace": "duplicate field"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the value is empty"),
        (b" \n\t ", "the value is empty"),
        (b"\n", "the value is empty"),
        (b"null", "an interface must be an object, not null"),
        (b"7", "an interface must be an object, not a number"),
        (rb'"{\"name\":\"a\"}"', "not a string with JSON in it: remove the quotes"),
        (b'// mine\n{"name":"a"}', "it is text that begins with '/', not '{'; JSON has no comments"),
        (b"# mine", "it is text that begins with '#', not '{'; JSON has no comments"),
        ("größe: 7\n".encode(), "it is text that begins with 'g', not '{'"),
        (b" null", "an interface must be an object, not null"),
        (b" 7", "not a number"),
        (b'\r"x"', "not a string"),
        (b" true", "not a boolean"),
        (b"[]", "not a list"),
        (b"hello", "neither a JSON object nor a protobuf message: it is text that begins with 'h', not '{'"),
        (b"\xef\xbb\xbfhello", "begins with 'h', not '{'"),
        (b"hel\x00lo", "neither a JSON object nor a protobuf message: "),
        (b'{"name":', "not valid JSON"),
        (b"{'name':'a'}", "not valid JSON"),
        (b'{"name":"a"} x', "not valid JSON: Extra data"),
        (b'\n{"name":"a"', "not valid JSON"),
        (b'{"name":"\xff"}', "not UTF-8"),
        (b'{"mtu":NaN}', "NaN is not allowed"),
        (b'{"mtu":-Infinity}', "Infinity is not allowed"),
        (b'{"mtu":' + b"9" * 5000 + b"}", "has a number that is too long"),
        (b'{"x":' + b"[" * 60000, "nested too deeply"),
        (b'{"x":' * 10000, "nested too deeply"),
        (b"{" + b" " * ligato_v1.MAX_VALUE_BYTES + b"}", "at most 65536"),
    ],
)
def test_whole_values_that_cannot_be_read(text: bytes, message: str) -> None:
    told = errors(text)
    assert list(told) == [""]
    assert message in told[""]


def test_a_byte_order_mark_is_skipped() -> None:
    text = b'{"name":"a","veth":{"peer_if_name":"b"}}'
    assert ligato_v1.decode(b"\xef\xbb\xbf" + text, name="a") == ligato_v1.decode(text, name="a")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, '"1' + "0" * 400 + '"'])
def test_a_huge_number_is_out_of_range(number: str) -> None:
    text = f'{{"name":"a","veth":{{"peer_if_name":"b"}},"mtu":{number}}}'
    message = "must be a number of bytes, such as 1500; a number of 401 digits is out of range"
    assert errors(text.encode()) == {"mtu": message}
    assert "digits is out of range" in errors(text.replace(number, "1e30").encode())["mtu"]


def test_empty_object_lacks_name_and_peer() -> None:
    assert list(errors(b"{}")) == ["name", "veth.peer_if_name"]


def test_half_characters_are_refused_where_they_are() -> None:
    told = errors(rb'{"name":"a","veth":{"peer_if_name":"\ud800"},"description":"\udfff"}')
    assert list(told) == ["veth.peer_if_name", "description"]
    assert all("unpaired surrogate" in message for message in told.values())


def test_errors_are_bounded() -> None:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v1.decode(value(ip_addresses=["x" * 200] * 256, mtu=1), name="a")
    told = caught.value.errors
    assert len(told) == MAX_REPORTED + 1
    assert told[-1].message == f"and up to {257 - MAX_REPORTED} more errors"
    assert "is not an address such as 192.168.22.1/24" in told[0].message
    assert sum(len(error.message) for error in told[:-1]) <= MAX_TEXT
    assert len(errors(value(phys_address="y" * 9000))["phys_address"]) == MAX_MESSAGE
    addresses = [f"10.{i}.{j}.1/8" for i in range(2) for j in range(129)]
    assert errors(value(ip_addresses=addresses)) == {"ip_addresses": "has 258 addresses, at most 256 are allowed"}


def test_warnings_are_bounded() -> None:
    decoded = ligato_v1.decode(value(**{"u" * 100 + str(i): i for i in range(300)}), name="a")
    assert len(decoded.warnings) == MAX_REPORTED + 1
    assert decoded.warnings[-1] == f"and {300 - MAX_REPORTED} more"
    assert max(map(len, decoded.warnings)) < 100


def test_declare_keeps_what_is_wrong() -> None:
    good = ligato_v1.declare(value(x=1), name="a", revision=7)
    assert (good.key.name, good.interface, good.errors, good.revision) == ("a", decode(value()), (), 7)
    assert good.warnings == ("unknown field 'x' is ignored",)
    bad = ligato_v1.declare(b"{", name="b", revision=8)
    assert (bad.key.name, bad.interface, bad.revision) == ("b", None, 8)
    assert "not valid JSON" in bad.errors[0].message


def test_encode_is_what_v141_reads() -> None:
    assert ligato_v1.encode(ligato_v1.decode(VETH1, name="veth1").interface) == (
        b'{"name":"veth1","enabled":true,"ip_addresses":["192.168.22.1/24","2001:db8::ff00:89e3:bb42/48"],'
        b'"phys_address":"d2:74:8c:12:67:d2","mtu":1500,"host_if_name":"veth1Name",'
        b'"namespace":{"type":2,"name":"ns1"},"veth":{"peer_if_name":"veth2"}}'
    )
    assert ligato_v1.encode(decode(value(namespace={"pid": 7}))) == (
        b'{"name":"a","namespace":{"pid":7},"veth":{"peer_if_name":"b"}}'
    )
    assert ligato_v1.encode(Interface(name="t", kind=AutoTap())) == b'{"name":"t","type":1}'
    assert ligato_v1.encode(decode(value(description="µ"))).decode() == (
        '{"name":"a","description":"µ","veth":{"peer_if_name":"b"}}'
    )


def test_fields_from_yaml_or_python() -> None:
    fields = {
        "name": "a",
        "type": InterfaceType.VETH,
        "ip_addresses": (ip_interface("10.0.0.1/24"), "10.0.0.2/24"),
        "namespace": {"type": NamespaceNumber.NAMED_NS, "name": "n"},
        "veth": {"peer_if_name": "b"},
    }
    for name in ("a", None):
        interface = ligato_v1.decode_fields(fields, name=name).interface
        assert interface.ip_addresses == (ip_interface("10.0.0.1/24"), ip_interface("10.0.0.2/24"))
        assert interface.namespace == NamespaceRef(NamespaceType.NAMED, "n")


@pytest.mark.parametrize(
    ("fields", "name", "field"),
    [
        (None, "", ""),
        ([MINIMAL], "", ""),
        ("text", "", ""),
        ({**MINIMAL, "name": ""}, "", "name"),
        ({**MINIMAL, "mtu": 10**5000}, "a", "mtu"),
        ({**MINIMAL, "namespace": {"pid": 10**5000}}, "a", "namespace.pid"),
        ({**MINIMAL, "description": object()}, "a", "description"),
        ({**MINIMAL, "mtu": float("nan")}, "a", "mtu"),
    ],
)
def test_wrong_fields_from_yaml_or_python(fields: object, name: str, field: str) -> None:
    with pytest.raises(InvalidInterface) as caught:
        ligato_v1.decode_fields(fields, name=None)
    assert caught.value.name == name
    assert [error.field for error in caught.value.errors] == [field]


def test_keys_that_are_no_strings_are_unknown() -> None:
    odd: dict[Any, int] = {7: 1, None: 2, 10**5000: 3}
    decoded = ligato_v1.decode_fields(MINIMAL | odd, name=None)
    assert decoded.warnings == (
        "unknown field 7 is ignored",
        "unknown field null is ignored",
        "unknown field a number is ignored",
    )
