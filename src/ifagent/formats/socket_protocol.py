"""The protocol of an agent's local socket: JSON in UTF-8, one object per line.

The client sends one request::

    {"do": "states"}                        all states
    {"do": "watch", "name": "veth1"}        the state stream, of one interface or, without a name, of all
    {"do": "declarations"}                  all declarations

``"foreign": true`` in one of the first two includes foreign links.

The answer is lines of the formats of :mod:`ifagent.formats.state`: states, or events. Declarations are
``{"name", "revision", "interface" | "errors", "warnings"}`` with the interface as ligato v1.4.1 has it. A watch has
``{"listed": N}`` after the events of its snapshot. Every answer ends with ``{"done": true}``, or with
``{"error": "one sentence"}``; an answer that ends otherwise is incomplete.
"""

from __future__ import annotations

import json
from typing import Any

from ifagent.core.events import Declaration
from ifagent.core.resources import interface_key
from ifagent.errors import FieldError, IfagentError, InvalidState
from ifagent.formats import ligato_v1
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.visible import json_bytes

MAX_REQUEST_BYTES = 4096
"""Longest request, its line feed included."""

MAX_ANSWER_BYTES = 1024 * 1024
"""Longest line of an answer that a client takes."""

DONE = {"done": True}


def encode_line(fields: dict[str, Any]) -> bytes:
    """Write an object as one line."""
    return json_bytes(fields) + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """Read one line. Raises :class:`InvalidState` if it is not an object, and nothing else."""
    try:
        fields = read_json(line)
    except BrokenJson:
        raise InvalidState("is not valid JSON") from None
    if not isinstance(fields, dict):
        raise InvalidState("is not a JSON object")
    return fields


def encode_declaration(declaration: Declaration) -> dict[str, Any]:
    """Make the object of a declaration."""
    fields: dict[str, Any] = {"name": declaration.key.name, "revision": declaration.revision}
    if declaration.interface is not None:
        fields["interface"] = json.loads(ligato_v1.encode(declaration.interface))
    if declaration.errors:
        fields["errors"] = [{"field": error.field, "message": error.message} for error in declaration.errors]
    if declaration.warnings:
        fields["warnings"] = list(declaration.warnings)
    return fields


def decode_declaration(fields: dict[str, Any]) -> Declaration:
    """Read what :func:`encode_declaration` made. Raises :class:`InvalidState`, and nothing else."""
    try:
        plain = fields.get("interface")
        return Declaration(
            key=interface_key(str(fields["name"])),
            revision=int(fields["revision"]),
            interface=None if plain is None else ligato_v1.decode_fields(plain, name=None).interface,
            errors=tuple(FieldError(str(e["field"]), str(e["message"])) for e in fields.get("errors", ())),
            warnings=tuple(map(str, fields.get("warnings", ()))),
        )
    except (KeyError, TypeError, ValueError, OverflowError, IfagentError) as error:
        raise InvalidState(f"is not a declaration: {error}") from None
