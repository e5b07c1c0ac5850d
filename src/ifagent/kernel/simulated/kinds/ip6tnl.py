"""Packets in IPv6: ``net/ipv6/ip6_tunnel.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits
from ifagent.kernel.simulated.tunnel_data import IN_IPV6

TRAITS = Traits(max_mtu=65407, mtu=1452, defaults=IN_IPV6, changed_whole=True)
