"""Veth pairs: two links that are each other's ends, made and deleted as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import CommonFields, LinkKind, Reference, wrong
from ifagent.core.link import Checksums
from ifagent.core.names import check_name

Offloading = Literal["default", "enabled", "disabled"]
"""Whether the kernel computes checksums later, or never, for one direction; the default is as ``enabled``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Veth(LinkKind):
    """One end of a virtual Ethernet pair; the pair exists while both ends name each other."""

    kernel_kind: ClassVar[str] = "veth"

    peer_if_name: Annotated[str, AfterValidator(check_name)]
    rx_checksum_offloading: Offloading = "default"
    tx_checksum_offloading: Offloading = "default"
    type: Literal["veth"] = "veth"

    def check(self, interface: CommonFields) -> None:
        """Refuse an end that is its own peer."""
        if self.peer_if_name == interface.name:
            raise wrong("veth.peer_if_name", "an interface cannot be its own peer")

    def references(self) -> Iterator[Reference]:
        """Yield the other end."""
        yield Reference(self.peer_if_name, "veth.peer_if_name", mutual=True)

    @property
    def checksums(self) -> Checksums:
        """The checksum offloading that the end is to have."""
        return Checksums(rx=self.rx_checksum_offloading != "disabled", tx=self.tx_checksum_offloading != "disabled")
