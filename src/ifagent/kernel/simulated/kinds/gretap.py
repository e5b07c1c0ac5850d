"""Ethernet frames in GRE in IPv4: ``net/ipv4/ip_gre.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits
from ifagent.kernel.simulated.tunnel_data import GRE_IN_IPV4

TRAITS = Traits(max_mtu=0, mtu=1462, defaults=GRE_IN_IPV4, changed_whole=True)
