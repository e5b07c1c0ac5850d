"""Ipvlans: ``linux/if_link.h``, ``drivers/net/ipvlan/ipvlan_main.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Choice, Table

IFLA_IPVLAN_MODE: Final = 1
IFLA_IPVLAN_FLAGS: Final = 2


class IpvlanDriver(LinkDriver):
    """A link with addresses of its own on a lower link."""

    settings: ClassVar[Table] = Table(
        Choice(IFLA_IPVLAN_MODE, "mode", "=H", {"l2": 0, "l3": 1, "l3s": 2}),
        Choice(IFLA_IPVLAN_FLAGS, "flag", "=H", {"bridge": 0, "private": 1, "vepa": 2}),
    )


DRIVER = IpvlanDriver()
