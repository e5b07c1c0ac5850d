"""TUNs that the agent makes: a program reads and writes the IP packets of such a link."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import CommonFields, wrong
from ifagent.core.kinds.tap_device import NOBODY, Id, TunDeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TunDevice(TunDeviceKind):
    """A TUN that the agent makes, by ``/dev/net/tun``, and that stays when no program has it open.

    The fields are those of a TAP. It carries packets, not Ethernet frames, and so has no MAC.
    """

    tun_type: ClassVar[str] = "tun"
    has_mac: ClassVar[bool] = False

    owner: Id = NOBODY
    group: Id = NOBODY
    multi_queue: bool = False
    vnet_hdr: bool = False
    packet_info: bool = False
    type: Literal["tun_device"] = "tun_device"

    @property
    def ethernet(self) -> bool:
        """Not Ethernet."""
        return False

    def check(self, interface: CommonFields) -> None:
        """Refuse a MAC."""
        if interface.phys_address:
            raise wrong("phys_address", "a TUN has no MAC address; leave it out")
