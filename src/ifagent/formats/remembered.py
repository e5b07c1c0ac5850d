"""What an agent remembers, as plain values for its runtime file. The format is the agent's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.remembered import Adoption, Remembered
from ifagent.errors import BrokenFile

_ADOPTION = TypeAdapter(Adoption)
_PEER: Final = " peer "
"""What is between an address and that of the other end, as in ``ip address``."""
_NAMESPACES = TypeAdapter(dict[str, int | None])


def remembered_to_json(remembered: Remembered) -> dict[str, Any]:
    """Return values that JSON can write."""
    return {
        "adoptions": [_adoption_to_json(adoption) for adoption in remembered.adoptions.values()],
        "namespaces": dict(remembered.namespaces),
    }


def parse_remembered(value: object, path: object) -> Remembered:
    """Return what :func:`remembered_to_json` has written. Raises :class:`BrokenFile` for anything else."""
    if not isinstance(value, Mapping) or not isinstance(value.get("adoptions"), list):
        raise BrokenFile(path, "not a valid runtime file")
    try:
        adoptions = [_ADOPTION.validate_python(_with_addresses(each)) for each in value["adoptions"]]
        namespaces = _NAMESPACES.validate_python(value.get("namespaces"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BrokenFile(path, f"not a valid runtime file: {place}: {first['msg']}") from None
    return Remembered(
        {a.name: a for a in adoptions}, {n: None if id is None else NsId(id) for n, id in namespaces.items()}
    )


def _adoption_to_json(adoption: Adoption) -> dict[str, Any]:
    values = asdict(adoption)
    values["addresses"] = [
        f"{interface}{_PEER}{peer}" if peer else str(interface) for interface, peer in adoption.addresses
    ]
    if isinstance(adoption.moving_to, NamespaceRef):
        values["moving_to"] = {"type": adoption.moving_to.type, "reference": adoption.moving_to.reference}
    return values


def _with_addresses(adoption: object) -> object:
    """Return what was read of an adoption with addresses and those of other ends apart; what is wrong stays so."""
    if not isinstance(adoption, Mapping) or not isinstance(addresses := adoption.get("addresses", []), list):
        return adoption
    apart = [tuple(text.split(_PEER)) if isinstance(text, str) else text for text in addresses]
    return {**adoption, "addresses": apart}
