"""Interfaces as ligato vpp-agent v3 stores them: bytes to interface, and back.

Source: message ``ligato.linux.interfaces.Interface`` in ``protos/ligato/v3/interface.proto``. v3 stores it as
protobuf's own JSON (https://protobuf.dev/programming-guides/json/): keys in snake_case or camelCase, enums by name or
number, zero values left out, ``null`` for absent. What is read here is a superset: keys and enums in any case, whole
numbers also as ``"1500"`` or ``1500.0``, a warning where protobuf refuses an unknown field, and the binary form of the
message. What v3 refuses is refused: no type, a member of ``link`` that does not go with the type, a namespace
without type or reference.

A ``TAP_TO_VPP`` becomes an :class:`~ifagent.core.kinds.AutoTap`, whose creator is VPP.

Whatever the bytes, the result is an interface or :class:`InvalidInterface`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.formats import codec, wire
from ifagent.formats.codec import Message
from ifagent.formats.enums import (
    LINK_NUMBERS,
    LINK_WORDS,
    REFERENCE_NUMBERS,
    REFERENCES,
    LinkType,
    ReferenceNumber,
)
from ifagent.formats.fields import OWN, PLACEHOLDER_KIND, Decoded, ValueReader
from ifagent.formats.kinds import FORMS, form_of
from ifagent.formats.pb.ifagent.links import BridgePort
from ifagent.formats.pb.ligato.linux import interfaces as pb
from ifagent.formats.pb.ligato.linux.namespace import NetNamespace
from ifagent.formats.settings import aliases

__all__ = ["Decoded", "declare", "decode", "encode", "encode_binary"]

_FIELDS = tuple(wire.field_names(pb.Interface()))
"""The fields of the message in the order of their numbers."""

_NESTED: dict[str, Message] = {
    "bridge_port": BridgePort,
    "namespace": NetNamespace,
    **{form.v3_field: form.v3_message for form in FORMS.values() if form.v3_message},
}


def decode(value: bytes, *, name: str) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary message.

    Raises :class:`InvalidInterface` for ``name``, and nothing else, with all errors.
    """
    return codec.decode(value, name=name, reader=_V3Reader, message=pb.Interface, nested=_NESTED)


def declare(value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value as :func:`decode` does, with errors in the declaration. Never raises."""
    return codec.declare(decode, value, name=name, revision=revision)


def encode(interface: Interface) -> bytes:
    """Write an interface as v3 does: JSON in the order of the field numbers, enums by name, without zero values.

    The description is left out, v3 has no field for it.
    """
    return codec.dump_json(_by_name(_plain(interface)))


def encode_binary(interface: Interface) -> bytes:
    """Write an interface as the binary message, without zero values and without its description."""
    return codec.dump_message(_plain(interface), message=pb.Interface, nested=_NESTED)


class _V3Reader(ValueReader):
    """Reads the fields of the message ``ligato.linux.interfaces.Interface``."""

    known = aliases(*_FIELDS)
    _NAMESPACE = aliases("type", "reference")

    def kind(self, found: dict[str, Any]) -> dict[str, Any]:
        number = self.choice(found.get("type", 0), "type", LinkType)
        if number is None:
            return PLACEHOLDER_KIND
        kind = LINK_WORDS[number]
        for word, form in FORMS.items():
            if form.v3_field in found and word != kind:
                self.error(form.v3_field, f"does not go with type {number:d} ({number.name})")
        plain = form_of(kind).read_v3(self, found)
        return PLACEHOLDER_KIND if plain is None else {"type": kind, **plain}

    def namespace(self, found: dict[str, Any]) -> dict[str, Any]:
        if "namespace" not in found:
            return OWN
        fields = self.read_object(found["namespace"], "namespace", self._NAMESPACE)
        if fields is None:
            return OWN
        number = self.choice(fields.get("type", 0), "namespace.type", ReferenceNumber)
        reference = self.text(fields, "reference", "namespace")
        if reference == "":
            self.error("namespace.reference", "is required; leave out the namespace to mean the agent's own")
        if number is None or not reference:
            return OWN
        self.namespace_field = "namespace.reference"
        if number is ReferenceNumber.PID and reference.isascii() and reference.isdecimal():
            # "007" and "7" are the same process and must be the same reference.
            reference = reference.lstrip("0") or "0"
        return {"type": REFERENCES[number], "reference": reference}


def _by_name(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace enum numbers by names."""
    return {
        key: value.name if isinstance(value, IntEnum) else _by_name(value) if isinstance(value, dict) else value
        for key, value in fields.items()
    }


def _plain_namespace(ref: NamespaceRef) -> dict[str, Any]:
    """Return the fields of the message ``NetNamespace``: none for the agent's own."""
    if ref.type is NamespaceType.OWN:
        return {}
    return {"type": REFERENCE_NUMBERS[ref.type], "reference": ref.reference}


def _plain(interface: Interface) -> dict[str, Any]:
    """Return the fields of the message ``Interface`` in the order of their numbers, without zero values."""
    form = form_of(interface.kind.type)
    common = {
        "name": interface.name,
        "type": LINK_NUMBERS[interface.kind.type],
        "namespace": _plain_namespace(interface.namespace),
        "host_if_name": interface.host_if_name,
        "enabled": interface.enabled,
        "ip_addresses": [str(address) for address in interface.ip_addresses],
        "phys_address": interface.phys_address,
        "mtu": interface.mtu,
        "link_only": interface.link_only,
        "vrf_master_interface": interface.vrf_master_interface,
        "master_if_name": interface.master_if_name,
    }
    own = form.write_v3(interface.kind)
    return codec.interface_fields(interface, common, own, field=form.v3_field, order=_FIELDS)
