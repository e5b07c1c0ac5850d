"""Bridges: ``linux/if_link.h``, ``net/bridge/br_netlink.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.kinds.vlan import PROTOCOLS
from ifagent.kernel.link_data import Choice, Flag, Number, Table

IFLA_BR_FORWARD_DELAY: Final = 1
IFLA_BR_HELLO_TIME: Final = 2
IFLA_BR_MAX_AGE: Final = 3
IFLA_BR_AGEING_TIME: Final = 4
IFLA_BR_STP_STATE: Final = 5
IFLA_BR_PRIORITY: Final = 6
IFLA_BR_VLAN_FILTERING: Final = 7
IFLA_BR_VLAN_PROTOCOL: Final = 8
IFLA_BR_GROUP_FWD_MASK: Final = 9
IFLA_BR_MCAST_SNOOPING: Final = 23
IFLA_BR_MCAST_QUERIER: Final = 25
IFLA_BR_VLAN_DEFAULT_PVID: Final = 39
IFLA_BR_MCAST_IGMP_VERSION: Final = 43
IFLA_BR_MCAST_MLD_VERSION: Final = 44

IFLA_BRPORT_PRIORITY: Final = 2
IFLA_BRPORT_COST: Final = 3
IFLA_BRPORT_MODE: Final = 4
IFLA_BRPORT_GUARD: Final = 5
IFLA_BRPORT_PROTECT: Final = 6
IFLA_BRPORT_FAST_LEAVE: Final = 7
IFLA_BRPORT_LEARNING: Final = 8
IFLA_BRPORT_UNICAST_FLOOD: Final = 9
IFLA_BRPORT_PROXYARP: Final = 10
IFLA_BRPORT_MCAST_FLOOD: Final = 27
IFLA_BRPORT_BCAST_FLOOD: Final = 30
IFLA_BRPORT_NEIGH_SUPPRESS: Final = 32
IFLA_BRPORT_ISOLATED: Final = 33

USER_HZ: Final = 100
"""The kernel's units of time for bridges in a second."""


class BridgeDriver(LinkDriver):
    """A switch between its ports."""

    settings: ClassVar[Table] = Table(
        Number(IFLA_BR_FORWARD_DELAY, "forward_delay", "=I", unit=USER_HZ),
        Number(IFLA_BR_HELLO_TIME, "hello_time", "=I", unit=USER_HZ),
        Number(IFLA_BR_MAX_AGE, "max_age", "=I", unit=USER_HZ),
        Number(IFLA_BR_AGEING_TIME, "ageing_time", "=I", unit=USER_HZ),
        Flag(IFLA_BR_STP_STATE, "stp", format_="=I"),
        Number(IFLA_BR_PRIORITY, "priority", "=H"),
        Flag(IFLA_BR_VLAN_FILTERING, "vlan_filtering"),
        Choice(IFLA_BR_VLAN_PROTOCOL, "vlan_protocol", ">H", PROTOCOLS),
        Number(IFLA_BR_VLAN_DEFAULT_PVID, "vlan_default_pvid", "=H"),
        Number(IFLA_BR_GROUP_FWD_MASK, "group_fwd_mask", "=H"),
        Flag(IFLA_BR_MCAST_SNOOPING, "multicast_snooping"),
        Flag(IFLA_BR_MCAST_QUERIER, "multicast_querier"),
        Number(IFLA_BR_MCAST_IGMP_VERSION, "igmp_version", "=B"),
        Number(IFLA_BR_MCAST_MLD_VERSION, "mld_version", "=B"),
    )
    port_settings: ClassVar[Table] = Table(
        Number(IFLA_BRPORT_COST, "path_cost", "=I"),
        Number(IFLA_BRPORT_PRIORITY, "priority", "=H"),
        Flag(IFLA_BRPORT_MODE, "hairpin"),
        Flag(IFLA_BRPORT_GUARD, "guard"),
        Flag(IFLA_BRPORT_PROTECT, "root_block"),
        Flag(IFLA_BRPORT_FAST_LEAVE, "fast_leave"),
        Flag(IFLA_BRPORT_ISOLATED, "isolated"),
        Flag(IFLA_BRPORT_NEIGH_SUPPRESS, "neigh_suppress"),
        Flag(IFLA_BRPORT_PROXYARP, "proxy_arp"),
        Flag(IFLA_BRPORT_LEARNING, "learning"),
        Flag(IFLA_BRPORT_UNICAST_FLOOD, "unicast_flood"),
        Flag(IFLA_BRPORT_MCAST_FLOOD, "mcast_flood"),
        Flag(IFLA_BRPORT_BCAST_FLOOD, "bcast_flood"),
    )


DRIVER = BridgeDriver()
