"""VLANs: ``net/8021q``."""

from ifagent.core.link import OperState
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    min_mtu=0,
    max_mtu=65535,
    with_carrier=OperState.UP,
    sits_on_lower=True,
    mac_of_lower=True,
    follows_lower=True,
    defaults=(
        ("id", 0),
        ("protocol", "802.1q"),
        ("reorder_hdr", True),
        ("gvrp", False),
        ("loose_binding", False),
        ("mvrp", False),
        ("bridge_binding", False),
        ("egress_qos_map", ()),
        ("ingress_qos_map", ()),
    ),
    ignored=frozenset({"id", "protocol"}),
    unique=("id", "protocol"),
)
