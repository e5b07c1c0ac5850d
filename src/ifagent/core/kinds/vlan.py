"""VLANs: what of a lower link's traffic has one tag."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.bridge import VlanProtocol
from ifagent.core.kinds.contract import ANY_MTU, UpperKind
from ifagent.core.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlan(UpperKind):
    """A VLAN on the link of ``lower_if_name``; ``id`` is 1 to 4094.

    It has its lower link's MAC unless it is given one, and its MTU, or a smaller one. ``reorder_hdr`` hides the tag
    from programs that capture packets; ``gvrp`` and ``mvrp`` announce the VLAN to switches; ``loose_binding`` leaves it
    up while its lower link is down; ``bridge_binding`` has its operstate follow the ports of a bridge below it that are
    in this VLAN.
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
    type: Literal["vlan"] = "vlan"

    @property
    def needs_lower_up(self) -> bool:  # type: ignore[override]  # depends on a field
        """Whether the kernel sets it down with its lower link."""
        return not self.loose_binding
