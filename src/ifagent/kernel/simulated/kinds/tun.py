"""TAP: ``drivers/net/tun.c``."""

from ifagent.core.link import Duplex, Speed
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    speed=Speed(10_000_000_000, Duplex.FULL),
    max_mtu=65521,
    defaults=(
        ("tun_type", "tap"),
        ("persist", True),
        ("owner", -1),
        ("group", -1),
        ("multi_queue", False),
        ("vnet_hdr", False),
        ("packet_info", False),
    ),
    refused=frozenset({"tun_type", "multi_queue", "vnet_hdr", "packet_info"}),
)
