"""Macvlans: links with MACs of their own on one lower link."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, CommonFields, UpperKind, View, wrong
from ifagent.core.link import Link
from ifagent.core.names import check_name

MacvlanMode = Literal["private", "vepa", "bridge", "passthru", "source"]
"""Who of one lower link reaches whom: nobody; by the switch outside; each other; it is alone; only listed senders."""


class MacvlanKind(UpperKind):
    """What macvlan and macvtap have in common."""

    __slots__ = ()
    shares_lower_with: ClassVar[frozenset[str]] = frozenset({"macvlan", "macvtap"})
    mtus: ClassVar[range] = ANY_MTU
    unlike_kernel: ClassVar[frozenset[str]] = frozenset({"mode"})
    settings: ClassVar[tuple[str, ...]] = ("mode", "nopromisc", "bc_queue_len")
    mode: MacvlanMode

    @property
    def has_mac(self) -> bool:  # type: ignore[override]  # depends on a field
        """Whether it has a MAC of its own: all but passthru, which has its lower link's."""
        return self.mode != "passthru"

    def why_not_beside(self, other: UpperKind) -> str:
        """Say so of passthru, which goes alone."""
        if isinstance(other, MacvlanKind) and "passthru" in {self.mode, other.mode}:
            return "a lower link of one with mode passthru has no others"
        return UpperKind.why_not_beside(self, other)

    def check(self, interface: CommonFields) -> None:
        """Refuse a MAC for what has that of its lower link."""
        UpperKind.check(self, interface)
        if self.mode == "passthru" and interface.phys_address:
            raise wrong("phys_address", "with mode passthru it has the MAC of its lower link; leave it out")

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of a link that is to change to passthru, or from it, which the kernel refuses."""
        mode = dict(link.data).get("mode")
        if mode != self.mode and "passthru" in {mode, self.mode}:
            return f"mode is {mode!r}, wanted {self.mode!r}"
        return UpperKind.why_recreated(self, interface, link, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvlan(MacvlanKind):
    """A macvlan on the link of ``lower_if_name``.

    ``nopromisc`` keeps the lower link from being set promiscuous with mode passthru. ``bc_queue_len`` is how many
    broadcast packets may wait, 0 to 4294967295; the longest one of a lower link counts.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("macvlan",)

    lower_if_name: Annotated[str, AfterValidator(check_name)]
    mode: MacvlanMode = "bridge"
    nopromisc: bool = False
    bc_queue_len: Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] = 1000
    type: Literal["macvlan"] = "macvlan"
