"""VXLAN tunnels: ``drivers/net/vxlan``."""

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    max_mtu=65535,
    defaults=(
        ("vni", 0),
        ("remote", ""),
        ("local", ""),
        ("port", 8472),
        ("ttl", 0),
        ("tos", 0),
        ("learning", True),
        ("ageing", 300),
        ("proxy", False),
        ("rsc", False),
        ("l2miss", False),
        ("l3miss", False),
        ("gbp", False),
    ),
    refused=frozenset({"vni", "port", "proxy", "rsc", "l2miss", "l3miss", "gbp"}),
)
