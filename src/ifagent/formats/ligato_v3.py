"""Interfaces as ligato vpp-agent v3 stores them: bytes to interface, and back.

Source: message ``ligato.linux.interfaces.Interface`` in ``protos/ligato/v3/interface.proto``. v3 stores it as
protobuf's own JSON (https://protobuf.dev/programming-guides/json/): keys in snake_case or camelCase, enums by name or
number, zero values left out, ``null`` for absent. What is read here is a superset: keys and enums in any case, whole
numbers also as ``"1500"`` or ``1500.0``, a warning where protobuf refuses an unknown field, and the binary form of the
message. What v3 refuses is refused: no type, a member of ``link`` that does not go with the type, a namespace
without type or reference.

A ``TAP_TO_VPP`` becomes an :class:`AutoTap`, whose creator is VPP. v3 names the TAP as VPP's configuration knows it
(``vpp_tap_if_name``), not as the kernel does; see :func:`_tap_host_name` for what is made of that.

Whatever the bytes, nothing comes out but an interface or :class:`InvalidInterface`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, assert_never

from ifagent.core.events import Declaration
from ifagent.core.interface import (
    LOOPBACK_NAME,
    AutoTap,
    Existing,
    Interface,
    Loopback,
    NamespaceRef,
    NamespaceType,
    Unsupported,
    Veth,
    check_host_name,
)
from ifagent.formats import codec
from ifagent.formats.codec import Message
from ifagent.formats.fields import HARMLESS, OWN, Decoded, Reader, spellings
from ifagent.formats.numbers import (
    OFFLOADING_NUMBERS,
    REFERENCE_NUMBERS,
    REFERENCES,
    LinkType,
    ReferenceNumber,
)
from ifagent.formats.pb.ligato.linux import interfaces as pb
from ifagent.formats.pb.ligato.linux.namespace import NetNamespace

__all__ = ["Decoded", "declare", "decode", "encode", "encode_binary"]

_NESTED: dict[str, Message] = {
    "namespace": NetNamespace,
    "veth": pb.VethLink,
    "tap": pb.TapLink,
    "vrf_dev": pb.VrfDevLink,
}


def decode(value: bytes, *, name: str) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary message.

    Raises :class:`InvalidInterface` for ``name``, and nothing else, with every error that could be found.
    """
    return codec.decode(value, name=name, reader=_Reader, message=pb.Interface, nested=_NESTED)


def declare(value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value as :func:`decode` does; what is wrong with it goes into the declaration. Never raises."""
    return codec.declare(decode, value, name=name, revision=revision)


def encode(interface: Interface) -> bytes:
    """Write an interface as v3 does: JSON in the order of the field numbers, enums by name, without zero values.

    The description has no place there.
    """
    return codec.dump_json(_by_name(_plain(interface)))


def encode_binary(interface: Interface) -> bytes:
    """Write an interface as the binary message, without zero values and without its description."""
    return codec.dump_message(_plain(interface), message=pb.Interface, nested=_NESTED)


class _Reader(Reader):
    """The shape of the message ``ligato.linux.interfaces.Interface``."""

    known = spellings(
        "name",
        "type",
        "namespace",
        "host_if_name",
        "enabled",
        "ip_addresses",
        "phys_address",
        "mtu",
        "link_only",
        "vrf_master_interface",
        "veth",
        "tap",
        "vrf_dev",
    )
    _NAMESPACE = spellings("type", "reference")
    _TAP = spellings("vpp_tap_if_name")
    _VRF = spellings("routing_table")
    _LINKS = (("veth", LinkType.VETH), ("tap", LinkType.TAP_TO_VPP), ("vrf_dev", LinkType.VRF_DEVICE))

    def kind(self, found: dict[str, Any]) -> dict[str, Any]:
        number = self.choice(found.get("type", 0), "type", LinkType)
        if number is None:
            return HARMLESS
        for key, meant in self._LINKS:
            if key in found and number is not meant:
                self.wrong(key, f"does not go with type {number:d} ({number.name})")
        match number:
            case LinkType.VETH:
                return self.veth(found)
            case LinkType.TAP_TO_VPP:
                tap = self.members(found.get("tap"), "tap", self._TAP)
                given = self.text(tap or {}, "vpp_tap_if_name", "tap")
                return {"type": "tap", "temp_if_name": _tap_host_name(given) if given else ""}
            case LinkType.LOOPBACK:
                self._name_of_loopback(found)
            case LinkType.VRF_DEVICE:
                vrf = self.members(found.get("vrf_dev"), "vrf_dev", self._VRF)
                self.number((vrf or {}).get("routing_table", 0), "vrf_dev.routing_table", "the number of a table")
            case LinkType.EXISTING | LinkType.DUMMY:
                pass
            case _:
                assert_never(number)
        return {"type": number.name.lower()}

    def _name_of_loopback(self, found: dict[str, Any]) -> None:
        """Take out a host name, which v3 does not look at here, unless it is right or no name at all."""
        given = found.get("host_if_name")
        if isinstance(given, str) and given != LOOPBACK_NAME:
            self.unused(found, "host_if_name", f"the loopback link is called {LOOPBACK_NAME}")
            del found["host_if_name"]

    def namespace(self, found: dict[str, Any]) -> dict[str, Any]:
        if "namespace" not in found:
            return OWN
        fields = self.members(found["namespace"], "namespace", self._NAMESPACE)
        if fields is None:
            return OWN
        number = self.choice(fields.get("type", 0), "namespace.type", ReferenceNumber)
        reference = self.text(fields, "reference", "namespace")
        if reference == "":
            self.wrong("namespace.reference", "is required; leave out the namespace to mean the agent's own")
        if number is None or not reference:
            return OWN
        self.namespace_field = "namespace.reference"
        if number is ReferenceNumber.PID and reference.isascii() and reference.isdecimal():
            # One process is one reference, however it is written.
            reference = reference.lstrip("0") or "0"
        return {"type": REFERENCES[number], "reference": reference}


def _tap_host_name(name: str) -> str:
    """Return the host name that VPP's TAP called ``name`` has before it is adopted, as far as that can be told.

    v3 looks the TAP up in VPP's configuration, which is not ours to read. There it has a host name of its own, or
    ``tap-`` and the 32-bit FNV-1a hash of its name. Here it is taken to have its name as host name, or that one where
    its name cannot be a host name.
    """
    try:
        return check_host_name(name)
    except ValueError:
        digest = 0x811C9DC5
        for byte in name.encode():
            digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
        return f"tap-{digest}"


def _by_name(fields: dict[str, Any]) -> dict[str, Any]:
    """Put names in place of enum numbers."""
    return {
        key: value.name if isinstance(value, IntEnum) else _by_name(value) if isinstance(value, dict) else value
        for key, value in fields.items()
    }


def _plain_namespace(ref: NamespaceRef) -> dict[str, Any]:
    """Make the fields of the message ``NetNamespace``: none for the agent's own."""
    if ref.type is NamespaceType.OWN:
        return {}
    return {"type": REFERENCE_NUMBERS[ref.type], "reference": ref.reference}


def _plain(interface: Interface) -> dict[str, Any]:
    """Make the fields of the message ``Interface`` in the order of their numbers, without zero values."""
    link: dict[str, Any] = {}
    match interface.kind:
        case Veth(peer_if_name=peer, rx_checksum_offloading=rx, tx_checksum_offloading=tx):
            number = LinkType.VETH
            link = {
                "veth": {
                    "peer_if_name": peer,
                    "rx_checksum_offloading": OFFLOADING_NUMBERS[rx],
                    "tx_checksum_offloading": OFFLOADING_NUMBERS[tx],
                }
            }
        case AutoTap(temp_if_name=temporary):
            number = LinkType.TAP_TO_VPP
            link = {"tap": {"vpp_tap_if_name": temporary}}
        case Loopback():
            number = LinkType.LOOPBACK
        case Existing():
            number = LinkType.EXISTING
        case Unsupported(type=which):
            number = LinkType[which.upper()]
        case _:
            assert_never(interface.kind)
    return codec.without_zeros(
        {
            "name": interface.name,
            "type": number,
            "namespace": _plain_namespace(interface.namespace),
            "host_if_name": interface.host_if_name,
            "enabled": interface.enabled,
            "ip_addresses": [str(address) for address in interface.ip_addresses],
            "phys_address": interface.phys_address,
            "mtu": interface.mtu,
            "link_only": interface.link_only,
            "vrf_master_interface": interface.vrf_master_interface,
            **link,
        }
    )
