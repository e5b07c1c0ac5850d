"""VLANs: what of a lower link's traffic has one tag."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.bridge import VlanProtocol
from ifagent.core.kinds.contract import ANY_MTU, UpperKind
from ifagent.core.names import check_name

_MAPPING = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")
_PRIORITIES = range(1 << 32)
"""Priorities of packets inside the host, ``SO_PRIORITY``."""
_TAG_PRIORITIES = range(8)
"""Priorities in tags."""


def _check_map(value: tuple[str, ...], *, of: range, to: range) -> tuple[str, ...]:
    """Return mappings in the order of what is mapped, without those to 0, which is where everything else goes."""
    mappings: dict[int, int] = {}
    for text in value:
        found = _MAPPING.fullmatch(text)
        if found is None or int(found[1]) not in of or int(found[2]) not in to:
            raise ValueError(f"{text!r} is no mapping FROM:TO of 0 to {of[-1]} to 0 to {to[-1]}, such as 2:5")
        if int(found[1]) in mappings:
            raise ValueError(f"priority {int(found[1])} is mapped twice")
        mappings[int(found[1])] = int(found[2])
    return tuple(f"{priority}:{mapped}" for priority, mapped in sorted(mappings.items()) if mapped)


def check_egress_map(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check mappings of packets' priorities to those in tags; see :class:`Vlan`. Raises ``ValueError``."""
    return _check_map(value, of=_PRIORITIES, to=_TAG_PRIORITIES)


def check_ingress_map(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check mappings of priorities in tags to packets'. Raises ``ValueError``."""
    return _check_map(value, of=_TAG_PRIORITIES, to=_PRIORITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlan(UpperKind):
    """A VLAN on the link of ``lower_if_name``; ``id`` is 1 to 4094.

    It has its lower link's MAC unless it is given one, and its MTU, or a smaller one. ``reorder_hdr`` hides the tag
    from programs that capture packets; ``gvrp`` and ``mvrp`` announce the VLAN to switches; ``loose_binding`` leaves it
    up while its lower link is down; ``bridge_binding`` has its operstate follow the ports of a bridge below it that are
    in this VLAN.

    ``egress_qos_map`` says with which priority in the tag packets of a priority leave, as in ``["2:5", "6:7"]`` for
    those of priorities 2 and 6, and 0 for all others. ``ingress_qos_map`` is the other way round.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("vlan",)
    mtus: ClassVar[range] = ANY_MTU
    settings: ClassVar[tuple[str, ...]] = (
        "id",
        "protocol",
        "reorder_hdr",
        "gvrp",
        "loose_binding",
        "mvrp",
        "bridge_binding",
        "egress_qos_map",
        "ingress_qos_map",
    )
    fixed: ClassVar[frozenset[str]] = frozenset({"id", "protocol"})

    lower_if_name: Annotated[str, AfterValidator(check_name)]
    id: Annotated[int, Field(strict=True, ge=1, le=4094)]
    protocol: VlanProtocol = "802.1q"
    reorder_hdr: bool = True
    gvrp: bool = False
    mvrp: bool = False
    loose_binding: bool = False
    bridge_binding: bool = False
    egress_qos_map: Annotated[tuple[str, ...], Field(max_length=64), AfterValidator(check_egress_map)] = ()
    ingress_qos_map: Annotated[tuple[str, ...], Field(max_length=8), AfterValidator(check_ingress_map)] = ()
    type: Literal["vlan"] = "vlan"

    @property
    def needs_lower_up(self) -> bool:  # type: ignore[override]  # depends on a field
        """Whether the kernel sets it down with its lower link."""
        return not self.loose_binding
