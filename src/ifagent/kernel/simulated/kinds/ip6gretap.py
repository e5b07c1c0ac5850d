"""Ethernet frames in GRE in IPv6: ``net/ipv6/ip6_gre.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits
from ifagent.kernel.simulated.tunnel_data import GRE_IN_IPV6

TRAITS = Traits(max_mtu=0, mtu=1434, defaults=GRE_IN_IPV6, changed_whole=True)
