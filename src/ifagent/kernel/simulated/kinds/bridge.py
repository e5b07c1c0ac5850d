"""Bridges: ``net/bridge``."""

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    immutable=True,
    is_master=True,
    has_mtu_of_ports=True,
    port=(
        ("path_cost", 2),
        ("priority", 32),
        ("hairpin", False),
        ("guard", False),
        ("root_block", False),
        ("fast_leave", False),
        ("isolated", False),
        ("neigh_suppress", False),
        ("proxy_arp", False),
        ("learning", True),
        ("unicast_flood", True),
        ("mcast_flood", True),
        ("bcast_flood", True),
        ("vlans", ("1 pvid untagged",)),
    ),
    defaults=(
        ("forward_delay", 15),
        ("hello_time", 2),
        ("max_age", 20),
        ("ageing_time", 300),
        ("stp", False),
        ("priority", 32768),
        ("vlan_filtering", False),
        ("vlan_protocol", "802.1q"),
        ("vlan_default_pvid", 1),
        ("group_fwd_mask", 0),
        ("multicast_snooping", True),
        ("multicast_querier", False),
        ("igmp_version", 2),
        ("mld_version", 1),
    ),
)
