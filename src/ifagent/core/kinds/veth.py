"""Veth pairs: two links that are each other's ends, made and deleted as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, LinkKind, Need, Reference, View, wrong
from ifagent.core.link import Checksums, Link
from ifagent.core.names import check_name

Offloading = Literal["default", "enabled", "disabled"]
"""Whether the kernel computes checksums later, or never, for one direction; the default is as ``enabled``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Veth(LinkKind):
    """One end of a virtual Ethernet pair; the pair exists while both ends name each other."""

    kernel_kinds: ClassVar[tuple[str, ...]] = ("veth",)

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
        yield Reference(self.peer_if_name, "veth.peer_if_name", Need.PEER)

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what one end is to have: what every link is, and its checksum offloading."""
        checksums, owner = self._checksums, view.owner
        default = checksums == Checksums()
        known = default and not (link and owner.without_checksums(link))
        common = LinkKind.attributes(self, interface, link, view)
        return common._replace(
            alias=owner.alias(interface.name, checksums=default),
            checksums=None if known else checksums,
            alias_last=default,
        )

    @property
    def _checksums(self) -> Checksums:
        return Checksums(rx=self.rx_checksum_offloading != "disabled", tx=self.tx_checksum_offloading != "disabled")
