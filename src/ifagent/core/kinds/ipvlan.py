"""Ipvlans: links with IP addresses of their own, and the MAC of their lower link."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, CommonFields, UpperKind, wrong
from ifagent.core.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipvlan(UpperKind):
    """An ipvlan on the link of ``lower_if_name``.

    With ``mode`` l2 it is switched, with l3 and l3s routed in its lower link's namespace, with l3s by way of netfilter.
    ``flag`` says who of one lower link reaches whom: bridge (each other), private (nobody), vepa (by the switch
    outside). The kernel has one mode and one flag for all ipvlans of a lower link.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("ipvlan",)
    shares_lower_with: ClassVar[frozenset[str]] = frozenset({"ipvlan"})
    mtus: ClassVar[range] = ANY_MTU
    unlike_kernel: ClassVar[frozenset[str]] = frozenset({"mode"})
    settings: ClassVar[tuple[str, ...]] = ("mode", "flag")

    lower_if_name: Annotated[str, AfterValidator(check_name)]
    mode: Literal["l2", "l3", "l3s"] = "l2"
    flag: Literal["bridge", "private", "vepa"] = "bridge"
    type: Literal["ipvlan"] = "ipvlan"

    def why_not_beside(self, other: UpperKind) -> str:
        """Say so of one with another mode or flag."""
        if isinstance(other, Ipvlan) and (self.mode, self.flag) != (other.mode, other.flag):
            return f"all ipvlans of a lower link have one mode and one flag, {other.mode} and {other.flag}"
        return UpperKind.why_not_beside(self, other)

    def check(self, interface: CommonFields) -> None:
        """Refuse a MAC, which it has from its lower link."""
        UpperKind.check(self, interface)
        if interface.phys_address:
            raise wrong("phys_address", "an ipvlan has the MAC of its lower link; leave it out")
