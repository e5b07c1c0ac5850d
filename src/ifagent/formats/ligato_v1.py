"""Interfaces as ligato vpp-agent v1.4.1 stores them: bytes to interface, and back.

Source: message ``LinuxInterfaces.Interface`` in ``protos/ligato/v1/interfaces.proto``. v1.4.1 stores it as
Go's ``encoding/json`` does: snake_case keys, enums as numbers, zero values left out. What is read here is a
superset: keys in any case and in camelCase, enums by name, whole numbers written as ``"1500"`` or ``1500.0``,
and the binary form of the message. What is written is what v1.4.1 can read; kinds and fields that it does not
know have numbers that it ignores.

Whatever the bytes, the result is an interface or :class:`InvalidInterface`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.formats import codec
from ifagent.formats.codec import MAX_VALUE_BYTES, Message
from ifagent.formats.enums import (
    KIND_NUMBERS,
    KIND_WORDS,
    NAMESPACE_FIELDS,
    NAMESPACE_NUMBERS,
    InterfaceType,
    NamespaceNumber,
)
from ifagent.formats.fields import OWN, PLACEHOLDER_KIND, Decoded, ValueReader
from ifagent.formats.kinds import FORMS, form_of
from ifagent.formats.pb import interfaces as pb
from ifagent.formats.pb.ifagent.links import BridgePort
from ifagent.formats.settings import aliases

__all__ = ["FIELDS", "MAX_VALUE_BYTES", "Decoded", "declare", "decode", "decode_fields", "encode", "encode_binary"]

FIELDS = tuple(field.name for field in fields(pb.LinuxInterfacesInterface))
"""The fields of the message in the order of their numbers."""

_NESTED: dict[str, Message] = {
    "bridge_port": BridgePort,
    "namespace": pb.LinuxInterfacesInterfaceNamespace,
    **{form.v1_field: form.v1_message for form in FORMS.values() if form.v1_message},
}


def decode(value: bytes, *, name: str) -> Decoded:
    """Read the value under the key that ends in ``name``: JSON, or the binary message.

    Raises :class:`InvalidInterface` for ``name``, and nothing else, with all errors.
    """
    return codec.decode(value, name=name, reader=_V1Reader, message=pb.LinuxInterfacesInterface, nested=_NESTED)


def decode_fields(fields: object, *, name: str | None) -> Decoded:
    """Read an interface from an object as a JSON or YAML parser, or a Python program, makes it.

    With ``name`` ``None`` the name is taken from the fields, else both must be equal. Addresses may also be
    ``ipaddress`` objects, and enums members of :mod:`ifagent.formats.enums`. Raises
    :class:`InvalidInterface`, and nothing else.
    """
    return _V1Reader.read(fields, name=name)


def declare(value: bytes, *, name: str, revision: int) -> Declaration:
    """Read a value as :func:`decode` does, with errors in the declaration. Never raises."""
    return codec.declare(decode, value, name=name, revision=revision)


def encode(interface: Interface) -> bytes:
    """Write an interface as v1.4.1 does: JSON in the order of the field numbers, without zero values."""
    return codec.dump_json(_plain(interface))


def encode_binary(interface: Interface) -> bytes:
    """Write an interface as the binary message, in the order of the field numbers, without zero values."""
    return codec.dump_message(_plain(interface), message=pb.LinuxInterfacesInterface, nested=_NESTED)


class _V1Reader(ValueReader):
    """Reads the fields of the message ``LinuxInterfaces.Interface``."""

    known = aliases(*FIELDS)
    _NAMESPACE = aliases("type", "pid", "microservice", "name", "filepath")

    def kind(self, found: dict[str, Any]) -> dict[str, Any]:
        number = self.choice(found.get("type", 0), "type", InterfaceType)
        if number is None:
            return PLACEHOLDER_KIND
        kind = KIND_WORDS[number]
        for word, form in FORMS.items():
            if form.v1_field and word != kind:
                self.unused(found, form.v1_field, f"type is {number:d} ({number.name})")
        plain = form_of(kind).read_v1(self, found)
        return PLACEHOLDER_KIND if plain is None else {"type": kind, **plain}

    def namespace(self, found: dict[str, Any]) -> dict[str, Any]:
        fields = self.read_object(found.get("namespace"), "namespace", self._NAMESPACE)
        if not fields:
            return OWN
        number = self.choice(fields.get("type", 0), "namespace.type", NamespaceNumber)
        if number is None:
            return OWN
        meaning, field = NAMESPACE_FIELDS[number]
        for other in fields:
            if other not in {"type", field}:
                self.unused(fields, other, f"namespace.type is {number:d} ({number.name})", path="namespace")
        self.namespace_field = f"namespace.{field}"
        if number is NamespaceNumber.PID_REF_NS:
            pid = self.number(fields.get("pid", 0), "namespace.pid", "a process id")
            return {"type": meaning, "reference": str(pid)} if pid else OWN
        reference = self.text(fields, field, "namespace")
        if reference is None:
            return OWN
        # No container has an empty label, but a value without one must not mean the agent's own namespace.
        if not reference and number is not NamespaceNumber.MICROSERVICE_REF_NS:
            return OWN
        return {"type": meaning, "reference": reference}


def _plain_namespace(ref: NamespaceRef) -> dict[str, Any]:
    """Return the fields of the message ``Namespace``: none for the agent's own."""
    if ref.type is NamespaceType.OWN:
        return {}
    number, field = NAMESPACE_NUMBERS[ref.type]
    reference = int(ref.reference) if ref.type is NamespaceType.PID else ref.reference
    return {"type": number, field: reference}


def _plain(interface: Interface) -> dict[str, Any]:
    """Return the fields of the message ``Interface`` in the order of their numbers, without zero values."""
    form = form_of(interface.kind.type)
    common = {
        "name": interface.name,
        "description": interface.description,
        "type": KIND_NUMBERS[interface.kind.type],
        "enabled": interface.enabled,
        "ip_addresses": [str(address) for address in interface.ip_addresses],
        "phys_address": interface.phys_address,
        "mtu": interface.mtu,
        "host_if_name": interface.host_if_name,
        "namespace": _plain_namespace(interface.namespace),
        "link_only": interface.link_only,
        "vrf_master_interface": interface.vrf_master_interface,
        "master_if_name": interface.master_if_name,
    }
    own = form.write_v1(interface.kind)
    return codec.interface_fields(interface, common, own, field=form.v1_field, order=FIELDS)
