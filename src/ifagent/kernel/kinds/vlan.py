"""VLANs: ``linux/if_link.h``, ``linux/if_vlan.h``, ``net/8021q/vlan_netlink.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Bits, Choice, Number, QosMap, Table

IFLA_VLAN_ID: Final = 1
IFLA_VLAN_FLAGS: Final = 2
IFLA_VLAN_EGRESS_QOS: Final = 3
IFLA_VLAN_INGRESS_QOS: Final = 4
IFLA_VLAN_PROTOCOL: Final = 5

PROTOCOLS: Final = {"802.1q": 0x8100, "802.1ad": 0x88A8}
"""The Ethernet protocols of tags."""


class VlanDriver(LinkDriver):
    """What of its lower link has one tag."""

    settings: ClassVar[Table] = Table(
        Number(IFLA_VLAN_ID, "id", "=H"),
        Choice(IFLA_VLAN_PROTOCOL, "protocol", ">H", PROTOCOLS),
        Bits(
            IFLA_VLAN_FLAGS,
            {"reorder_hdr": 1, "gvrp": 2, "loose_binding": 4, "mvrp": 8, "bridge_binding": 16},
            format_="=II",
            mask=True,
        ),
        QosMap(IFLA_VLAN_EGRESS_QOS, "egress_qos_map"),
        QosMap(IFLA_VLAN_INGRESS_QOS, "ingress_qos_map"),
    )


DRIVER = VlanDriver()
