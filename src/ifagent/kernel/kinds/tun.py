"""TAPs and TUNs: ``linux/if_link.h``, ``drivers/net/tun.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Choice, Flag, Number, Table

IFLA_TUN_OWNER: Final = 1
IFLA_TUN_GROUP: Final = 2
IFLA_TUN_TYPE: Final = 3
IFLA_TUN_PI: Final = 4
IFLA_TUN_VNET_HDR: Final = 5
IFLA_TUN_PERSIST: Final = 6
IFLA_TUN_MULTI_QUEUE: Final = 7


class TunDriver(LinkDriver):
    """What rtnetlink only tells of; :mod:`ifagent.kernel.tun` makes and changes it."""

    by_file: ClassVar[bool] = True
    settings: ClassVar[Table] = Table(
        Choice(IFLA_TUN_TYPE, "tun_type", "=B", {"tun": 1, "tap": 2}),
        Flag(IFLA_TUN_PERSIST, "persist"),
        Number(IFLA_TUN_OWNER, "owner", "=I", absent=-1),
        Number(IFLA_TUN_GROUP, "group", "=I", absent=-1),
        Flag(IFLA_TUN_MULTI_QUEUE, "multi_queue"),
        Flag(IFLA_TUN_VNET_HDR, "vnet_hdr"),
        Flag(IFLA_TUN_PI, "packet_info"),
    )


DRIVER = TunDriver()
