"""VRF devices: their ports use a routing table of their own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, LinkKind, View, wrong
from ifagent.core.link import Link

RESERVED_TABLES: Final = range(253, 256)
"""The tables default, main and local, which are no VRF's."""

DEFAULT_MTUS: Final = (65575, 65536)
"""What kernels give a new VRF device: the first one since Linux 5.14."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VrfDevice(LinkKind):
    """A VRF device; ``routing_table`` is the number of its table, 1 to 4294967295 without 253 to 255.

    It has no MAC of its own choice, and is no port of another link.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("vrf",)
    mtus: ClassVar[range] = range(1280, 65576)
    usual_mtu: ClassVar[int] = DEFAULT_MTUS[0]
    settings: ClassVar[tuple[str, ...]] = ("routing_table",)
    fixed: ClassVar[frozenset[str]] = frozenset(settings)
    movable: ClassVar[bool] = False
    has_mac: ClassVar[bool] = False
    is_master: ClassVar[bool] = True

    routing_table: Annotated[int, Field(strict=True)]
    type: Literal["vrf_device"] = "vrf_device"

    def check(self, interface: CommonFields) -> None:
        """Refuse what a VRF device cannot have."""
        if not 0 < self.routing_table < 1 << 32 or self.routing_table in RESERVED_TABLES:
            rule = "use 1 to 4294967295 without 253, 254 and 255, which are the tables default, main and local"
            raise wrong("vrf_dev.routing_table", f"{self.routing_table} cannot be the table of a VRF, {rule}")
        if interface.phys_address:
            raise wrong("phys_address", "a VRF device has no MAC address that could be set; leave it out")
        if interface.master:
            raise wrong(interface.master_field, "a VRF device cannot be a port of another link; leave it out")

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have; any kernel's default MTU is right unless one is declared."""
        usual = LinkKind.attributes(self, interface, link, view)
        default = None if link is None or link.mtu in DEFAULT_MTUS else self.usual_mtu
        return usual._replace(mtu=interface.mtu or default)
