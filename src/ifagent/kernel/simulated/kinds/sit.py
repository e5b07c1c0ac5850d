"""IPv6 in IPv4: ``net/ipv6/sit.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits
from ifagent.kernel.simulated.tunnel_data import IN_IPV4

TRAITS = Traits(min_mtu=1280, max_mtu=65555, mtu=1480, defaults=IN_IPV4, changed_whole=True)
