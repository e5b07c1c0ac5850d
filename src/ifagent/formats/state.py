"""States and their stream, as the store, the command line and subscribers get them.

The shape is that of ligato v1's ``InterfacesState.Interface`` (snake_case, enums as numbers) with fields of
ifagent's own beside it, among them ``config_state`` as a word. Fields that are always there: see
:func:`encode_state`; the others are left out when they are empty. Readers ignore fields they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ifagent.core.address_values import MAX_ADDRESSES
from ifagent.core.counters import Counters
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.state import InterfaceState, StateEvent
from ifagent.errors import InvalidState
from ifagent.formats.enums import (
    KIND_NUMBERS,
    KIND_WORDS,
    NAMESPACE_FIELDS,
    NAMESPACE_NUMBERS,
    InterfaceType,
    NamespaceNumber,
)
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.visible import json_bytes

MAX_STATE_BYTES = 768 * 1024
"""Longest state that is written, its name apart, or read: a store takes 1.5 MiB at a time."""

MAX_LISTED = 64
"""Most entries of each list of a state; of addresses four times as many as an interface may have."""

MAX_TEXT = 8192
"""Longest reason, in characters; texts in lists are shorter."""

_MAX_LISTED_TEXT = 500
_MAX_LISTED_ADDRESSES = 4 * MAX_ADDRESSES

T = TypeVar("T")
_STATE = TypeAdapter(InterfaceState)
_EVENT = TypeAdapter(StateEvent)


def encode_state(state: InterfaceState) -> dict[str, object]:
    """Make the object that is published: plain values only, keys in a fixed order.

    ``last_change`` is in whole Unix seconds. ``namespace`` has the reference as configured, with the numbers
    of :class:`~ifagent.formats.enums.NamespaceNumber` (no ``type`` for the agent's own), and the ``inode``
    of the namespace that it led to. ``statistics`` has every count, and ``rates`` a second once there are any.
    What is longer than :data:`MAX_TEXT` and :data:`MAX_LISTED` allow is cut.
    """
    warnings = list(state.warnings)
    if len(state.ip_addresses) > _MAX_LISTED_ADDRESSES:
        warnings.insert(0, f"it has {len(state.ip_addresses)} addresses, of which {_MAX_LISTED_ADDRESSES} are listed")
    always: dict[str, object] = {
        "name": state.name,
        "internal_name": state.internal_name,
        "type": int(KIND_NUMBERS[state.type]),
        "if_index": state.if_index,
        "admin_status": int(state.admin_status),
        "oper_status": int(state.oper_status),
        "last_change": int(state.last_change),
        "phys_address": state.phys_address,
        "mtu": state.mtu,
        "config_state": str(state.config_state),
        "ip_addresses": [str(address) for address in state.ip_addresses[:_MAX_LISTED_ADDRESSES]],
        "namespace": _encode_namespace(state.namespace, state.namespace_id),
        "observed_revision": state.observed_revision,
        "applied_revision": state.applied_revision,
        "repairs": state.repairs,
    }
    sometimes: dict[str, object] = {
        "reason": _cut(state.reason, MAX_TEXT),
        "missing": _listed(state.missing),
        "errors": [
            {"field": error.field, "message": _cut(error.message, _MAX_LISTED_TEXT)}
            for error in state.errors[:MAX_LISTED]
        ],
        "warnings": _listed(warnings),
        "attempts": state.attempts,
        "next_retry": state.next_retry,
        "speed": state.speed,
        "duplex": int(state.duplex),
        "peer_if_index": state.peer_if_index,
        "lower": state.lower,
        "master": state.master,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in state.settings},
        "last_drift": _cut(state.last_drift, MAX_TEXT),
        "statistics": _encode_counters(state.statistics) if state.statistics else None,
    }
    return always | {key: value for key, value in sometimes.items() if value}


def encode_state_json(state: InterfaceState) -> bytes:
    """Write :func:`encode_state` as one line of JSON without its end; equal states give equal bytes."""
    return json_bytes(encode_state(state))


def decode_state(value: bytes) -> InterfaceState:
    """Read what :func:`encode_state_json` wrote; the same state but for fractions of ``last_change``.

    Raises :class:`InvalidState`, and nothing else.
    """
    return decode_state_fields(_load(value))


def decode_state_fields(fields: object) -> InterfaceState:
    """Read what :func:`encode_state` made. Raises :class:`InvalidState`, and nothing else."""
    return _validate(_STATE, _state_fields(fields))


def encode_event(event: StateEvent) -> dict[str, object]:
    """Make the object of one event: ``seq``, ``event``, ``name``, and ``state`` or, for a gap, ``missed``."""
    fields: dict[str, object] = {"seq": event.seq, "event": str(event.event), "name": event.name}
    if event.state is not None:
        fields["state"] = encode_state(event.state)
    if event.missed:
        fields["missed"] = event.missed
    return fields


def encode_event_json(event: StateEvent) -> bytes:
    """Write :func:`encode_event` as one line of JSON without its end."""
    return json_bytes(encode_event(event))


def decode_event(value: bytes) -> StateEvent:
    """Read what :func:`encode_event_json` wrote. Raises :class:`InvalidState`, and nothing else."""
    fields = _load(value)
    if isinstance(fields, dict) and fields.get("state") is not None:
        fields = {**fields, "state": decode_state_fields(fields["state"])}
    return _validate(_EVENT, fields)


def _encode_namespace(ref: NamespaceRef, inode: NsId | None) -> dict[str, object]:
    fields: dict[str, object] = {}
    if ref.type is not NamespaceType.OWN:
        number, field = NAMESPACE_NUMBERS[ref.type]
        fields = {"type": int(number), field: int(ref.reference) if field == "pid" else ref.reference}
    if inode is not None:
        fields["inode"] = int(inode)
    return fields


def _encode_counters(counters: Counters) -> dict[str, object]:
    fields: dict[str, object] = {
        "in_packets": counters.in_packets,
        "in_bytes": counters.in_bytes,
        "out_packets": counters.out_packets,
        "out_bytes": counters.out_bytes,
        "drop_packets": counters.drop_packets,
        "in_error_packets": counters.in_error_packets,
        "out_error_packets": counters.out_error_packets,
    }
    if counters.rates is not None:
        fields["rates"] = {
            "in_packets": counters.rates.in_packets,
            "in_bytes": counters.rates.in_bytes,
            "out_packets": counters.rates.out_packets,
            "out_bytes": counters.rates.out_bytes,
        }
    return fields


def _state_fields(fields: object) -> dict[str, Any]:
    """Turn the published shape into that of the model."""
    if not isinstance(fields, Mapping):
        raise InvalidState("a state is an object")
    plain = dict(fields)
    try:
        plain["type"] = KIND_WORDS[InterfaceType(plain.get("type", InterfaceType.VETH))]
    except ValueError:
        raise InvalidState(f"unknown type of interface: {plain['type']!r}") from None
    addresses = plain.get("ip_addresses", [])
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise InvalidState("the addresses of a state are a list of strings")
    if len(addresses) > _MAX_LISTED_ADDRESSES:
        raise InvalidState(f"has {len(addresses)} addresses, at most {_MAX_LISTED_ADDRESSES} are allowed")
    settings = plain.get("settings", {})
    if not isinstance(settings, Mapping) or len(settings) > MAX_LISTED:
        raise InvalidState(f"the settings of a state are an object of at most {MAX_LISTED} fields")
    plain["settings"] = tuple(settings.items())
    namespace = plain.pop("namespace", None) or {}
    if not isinstance(namespace, Mapping):
        raise InvalidState("the namespace of a state is an object")
    plain["namespace_id"] = namespace.get("inode")
    if "type" in namespace:
        try:
            meaning, field = NAMESPACE_FIELDS[NamespaceNumber(namespace["type"])]
        except ValueError:
            raise InvalidState(f"unknown type of namespace: {namespace['type']!r}") from None
        plain["namespace"] = {"type": meaning, "reference": str(namespace.get(field, ""))}
    return plain


def _listed(texts: Sequence[str]) -> list[str]:
    return [_cut(text, _MAX_LISTED_TEXT) for text in texts[:MAX_LISTED]]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _load(value: bytes) -> object:
    if len(value) > MAX_STATE_BYTES:
        raise InvalidState(f"has {len(value)} bytes, at most {MAX_STATE_BYTES} are allowed")
    try:
        return read_json(value)
    except BrokenJson as error:
        raise InvalidState(str(error)) from None


def _validate(adapter: TypeAdapter[T], fields: object) -> T:
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise InvalidState(f"{path}: {first['msg']}") from None
