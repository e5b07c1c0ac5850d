"""What one value in etcd asks for, and its spellings: v1.4.1 as JSON and as a binary message, v3 as JSON.

Written from the formats' descriptions, not with the agent's own code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Family(StrEnum):
    """Under which keys a value stands."""

    V1 = "v1"
    V3 = "v3"


class Form(StrEnum):
    """How a value is written."""

    V1_JSON = "v1"
    V1_BINARY = "v1-binary"
    V3_JSON = "v3"

    @property
    def family(self) -> Family:
        """The keys that go with it."""
        return Family.V3 if self is Form.V3_JSON else Family.V1


class Space(NamedTuple):
    """How a value refers to a network namespace: ``own``, ``named``, ``pid``, ``file`` or ``microservice``."""

    kind: str = "own"
    reference: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.reference}" if self.reference else self.kind


OWN = Space()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One valid value: a veth end with a ``peer``, a TAP that its creator calls ``temp``, or an ``existing`` link."""

    name: str
    peer: str = ""
    temp: str = ""
    existing: bool = False
    link_only: bool = False
    space: Space = OWN
    host_if_name: str = ""
    enabled: bool = True
    mtu: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()
    description: str = field(default="", compare=False)

    @property
    def is_tap(self) -> bool:
        """Whether it is an AUTO_TAP."""
        return bool(self.temp)

    @property
    def kind(self) -> str:
        """Which of the kinds it is: ``veth``, ``tap`` or ``existing``."""
        return "existing" if self.existing else "tap" if self.temp else "veth"

    @property
    def host_name(self) -> str:
        """The host name that the link is to have."""
        return self.host_if_name or self.name


_V1_KINDS = {"veth": 0, "tap": 1, "existing": 3}
_V3_KINDS = {"veth": "VETH", "tap": "TAP_TO_VPP", "existing": "EXISTING"}
_V1_SPACES = {
    "pid": (0, "pid"),
    "microservice": (1, "microservice"),
    "named": (2, "name"),
    "file": (3, "filepath"),
}
_V3_SPACES = {"named": "NSID", "pid": "PID", "file": "FD", "microservice": "MICROSERVICE"}


def encode(wish: Wish, form: Form) -> bytes:
    """Write a value; numbers that are zero and empty fields are left out."""
    match form:
        case Form.V1_JSON:
            return json.dumps(_without_zeros(_v1(wish))).encode()
        case Form.V1_BINARY:
            return _v1_binary(wish)
        case Form.V3_JSON:
            return json.dumps(_without_zeros(_v3(wish))).encode()


def _v1(wish: Wish) -> dict[str, Any]:
    space: dict[str, Any] = {}
    if wish.space != OWN:
        number, key = _V1_SPACES[wish.space.kind]
        reference: str | int = int(wish.space.reference) if key == "pid" else wish.space.reference
        space = {"type": number, key: reference}
    return {
        "name": wish.name,
        "description": wish.description,
        "type": _V1_KINDS[wish.kind],
        "enabled": wish.enabled,
        "ip_addresses": list(wish.addresses),
        "phys_address": wish.mac,
        "mtu": wish.mtu,
        "host_if_name": wish.host_if_name,
        "namespace": space,
        "veth": {"peer_if_name": wish.peer},
        "tap": {"temp_if_name": wish.temp},
        "link_only": wish.link_only,
    }


def _v3(wish: Wish) -> dict[str, Any]:
    space = {}
    if wish.space != OWN:
        space = {"type": _V3_SPACES[wish.space.kind], "reference": wish.space.reference}
    return {
        "name": wish.name,
        "type": _V3_KINDS[wish.kind],
        "link_only": wish.link_only,
        "namespace": space,
        "host_if_name": wish.host_if_name,
        "enabled": wish.enabled,
        "ip_addresses": list(wish.addresses),
        "phys_address": wish.mac,
        "mtu": wish.mtu,
        "veth": {"peer_if_name": wish.peer},
        "tap": {"vpp_tap_if_name": wish.temp},
    }


def _without_zeros(fields: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _without_zeros(value) if isinstance(value, dict) else value for key, value in fields.items()}
    return {key: value for key, value in inner.items() if value}


def _v1_binary(wish: Wish) -> bytes:
    fields = _v1(wish)
    space = b""
    if wish.space != OWN:
        number, key = _V1_SPACES[wish.space.kind]
        at = {"pid": 2, "microservice": 3, "name": 4, "filepath": 5}[key]
        space = _number(1, number) + (
            _number(2, int(wish.space.reference)) if key == "pid" else _text(at, wish.space.reference)
        )
    return b"".join(
        [
            _text(1, wish.name),
            _text(2, wish.description),
            _number(3, fields["type"]),
            _number(4, int(wish.enabled)),
            *(_text(5, address) for address in wish.addresses),
            _text(6, wish.mac),
            _number(7, wish.mtu),
            _text(8, wish.host_if_name),
            _bytes(9, space),
            _bytes(10, _text(1, wish.peer)),
            _bytes(11, _text(1, wish.temp)),
            _number(20, int(wish.link_only)),
        ]
    )


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value if value else b""


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


BAD = (
    '{"name": ',
    "",
    "null",
    "[]",
    "{}",
    "\x01\x02\x03",
    '{"name":"another"}',
    '{"name":"%s","type":7}',
    '{"name":"%s","veth":{"peer_if_name":"%s"}}',
    '{"name":"%s","mtu":60,"veth":{"peer_if_name":"x"}}',
    '{"name":"%s","mtu":-1,"veth":{"peer_if_name":"x"}}',
    '{"name":"%s","phys_address":"xx:yy","veth":{"peer_if_name":"x"}}',
    '{"name":"%s","host_if_name":"a name that is too long","veth":{"peer_if_name":"x"}}',
    '{"name":"%s","ip_addresses":["10.0.0.300/24"],"veth":{"peer_if_name":"x"}}',
    '{"name":"%s","namespace":{"type":2,"name":"../x"},"veth":{"peer_if_name":"x"}}',
)
"""Values that no interface can be made of, ``%s`` being its name."""


def bad_value(which: int, name: str) -> bytes:
    """Write one of :data:`BAD`."""
    return BAD[which].replace("%s", name).encode()
