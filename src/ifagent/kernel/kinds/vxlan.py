"""VXLAN tunnels: ``linux/if_link.h``, ``drivers/net/vxlan``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Address, Flag, Number, Present, Table

IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_GROUP: Final = 2
IFLA_VXLAN_LINK: Final = 3
IFLA_VXLAN_LOCAL: Final = 4
IFLA_VXLAN_TTL: Final = 5
IFLA_VXLAN_TOS: Final = 6
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_AGEING: Final = 8
IFLA_VXLAN_PROXY: Final = 11
IFLA_VXLAN_RSC: Final = 12
IFLA_VXLAN_L2MISS: Final = 13
IFLA_VXLAN_L3MISS: Final = 14
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_GROUP6: Final = 16
IFLA_VXLAN_LOCAL6: Final = 17
IFLA_VXLAN_GBP: Final = 23


class VxlanDriver(LinkDriver):
    """A tunnel whose packets leave by its lower link, if it has one."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_VXLAN_LINK,)
    settings: ClassVar[Table] = Table(
        Number(IFLA_VXLAN_ID, "vni", "=I"),
        Address(IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6, "remote"),
        Address(IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6, "local"),
        Number(IFLA_VXLAN_PORT, "port", ">H"),
        Number(IFLA_VXLAN_TTL, "ttl", "=B"),
        Number(IFLA_VXLAN_TOS, "tos", "=B"),
        Flag(IFLA_VXLAN_LEARNING, "learning"),
        Number(IFLA_VXLAN_AGEING, "ageing", "=I"),
        Flag(IFLA_VXLAN_PROXY, "proxy"),
        Flag(IFLA_VXLAN_RSC, "rsc"),
        Flag(IFLA_VXLAN_L2MISS, "l2miss"),
        Flag(IFLA_VXLAN_L3MISS, "l3miss"),
        Present(IFLA_VXLAN_GBP, "gbp"),
    )


DRIVER = VxlanDriver()
