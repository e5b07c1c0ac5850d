"""IPv4 in IPv4: ``net/ipv4/ipip.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits
from ifagent.kernel.simulated.tunnel_data import IN_IPV4

TRAITS = Traits(max_mtu=0, mtu=1480, defaults=IN_IPV4, changed_whole=True)
