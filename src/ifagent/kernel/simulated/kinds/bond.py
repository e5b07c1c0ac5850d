"""Bonds: ``drivers/net/bonding``."""

from ifagent.core.link import OperState
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    with_carrier=OperState.UP,
    immutable=True,
    is_master=True,
    takes_ports_up=True,
    defaults=(
        ("mode", "balance_rr"),
        ("miimon", 0),
        ("updelay", 0),
        ("downdelay", 0),
        ("arp_interval", 0),
        ("arp_ip_targets", ()),
        ("arp_validate", "none"),
        ("primary", 0),
        ("primary_reselect", "always"),
        ("fail_over_mac", "none"),
        ("xmit_hash_policy", "layer2"),
        ("lacp_rate", "slow"),
        ("ad_select", "stable"),
        ("min_links", 0),
        ("num_peer_notif", 1),
        ("resend_igmp", 1),
        ("all_ports_active", False),
        ("lp_interval", 1),
        ("missed_max", 2),
    ),
    refused=frozenset({"mode"}),
    refused_while_up=frozenset({"lacp_rate", "ad_select"}),
)
