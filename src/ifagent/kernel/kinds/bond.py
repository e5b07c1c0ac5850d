"""Bonds: ``linux/if_link.h``, ``linux/if_bonding.h``, ``drivers/net/bonding``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Addresses, Choice, Flag, Number, Table

IFLA_BOND_MODE: Final = 1
IFLA_BOND_MIIMON: Final = 3
IFLA_BOND_UPDELAY: Final = 4
IFLA_BOND_DOWNDELAY: Final = 5
IFLA_BOND_ARP_INTERVAL: Final = 7
IFLA_BOND_ARP_IP_TARGET: Final = 8
IFLA_BOND_ARP_VALIDATE: Final = 9
IFLA_BOND_PRIMARY: Final = 11
IFLA_BOND_PRIMARY_RESELECT: Final = 12
IFLA_BOND_FAIL_OVER_MAC: Final = 13
IFLA_BOND_XMIT_HASH_POLICY: Final = 14
IFLA_BOND_RESEND_IGMP: Final = 15
IFLA_BOND_NUM_PEER_NOTIF: Final = 16
IFLA_BOND_ALL_SLAVES_ACTIVE: Final = 17
IFLA_BOND_MIN_LINKS: Final = 18
IFLA_BOND_LP_INTERVAL: Final = 19
IFLA_BOND_AD_LACP_RATE: Final = 21
IFLA_BOND_AD_SELECT: Final = 22
IFLA_BOND_MISSED_MAX: Final = 30


def _numbered(*words: str) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}


class BondDriver(LinkDriver):
    """Several links that are used as one."""

    settings: ClassVar[Table] = Table(
        Choice(
            IFLA_BOND_MODE,
            "mode",
            "=B",
            _numbered(
                "balance_rr", "active_backup", "balance_xor", "broadcast", "802_3ad", "balance_tlb", "balance_alb"
            ),
        ),
        Number(IFLA_BOND_MIIMON, "miimon", "=I"),
        Number(IFLA_BOND_UPDELAY, "updelay", "=I"),
        Number(IFLA_BOND_DOWNDELAY, "downdelay", "=I"),
        Number(IFLA_BOND_ARP_INTERVAL, "arp_interval", "=I"),
        Addresses(IFLA_BOND_ARP_IP_TARGET, "arp_ip_targets"),
        Choice(
            IFLA_BOND_ARP_VALIDATE,
            "arp_validate",
            "=I",
            _numbered("none", "active", "backup", "all", "filter", "filter_active", "filter_backup"),
        ),
        Number(IFLA_BOND_PRIMARY, "primary", "=I", absent=0),
        Choice(IFLA_BOND_PRIMARY_RESELECT, "primary_reselect", "=B", _numbered("always", "better", "failure")),
        Choice(IFLA_BOND_FAIL_OVER_MAC, "fail_over_mac", "=B", _numbered("none", "active", "follow")),
        Choice(
            IFLA_BOND_XMIT_HASH_POLICY,
            "xmit_hash_policy",
            "=B",
            _numbered("layer2", "layer3_4", "layer2_3", "encap2_3", "encap3_4", "vlan_srcmac"),
        ),
        Choice(IFLA_BOND_AD_LACP_RATE, "lacp_rate", "=B", _numbered("slow", "fast")),
        Choice(IFLA_BOND_AD_SELECT, "ad_select", "=B", _numbered("stable", "bandwidth", "count")),
        Number(IFLA_BOND_MIN_LINKS, "min_links", "=I"),
        Number(IFLA_BOND_NUM_PEER_NOTIF, "num_peer_notif", "=B"),
        Number(IFLA_BOND_RESEND_IGMP, "resend_igmp", "=I"),
        Flag(IFLA_BOND_ALL_SLAVES_ACTIVE, "all_ports_active"),
        Number(IFLA_BOND_LP_INTERVAL, "lp_interval", "=I"),
        Number(IFLA_BOND_MISSED_MAX, "missed_max", "=B"),
    )


DRIVER = BondDriver()
