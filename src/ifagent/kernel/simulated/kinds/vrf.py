"""VRF devices: ``drivers/net/vrf.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    min_mtu=1280,
    max_mtu=65575,
    mtu=65575,
    immutable=True,
    is_master=True,
    refused=frozenset({"routing_table"}),
)
