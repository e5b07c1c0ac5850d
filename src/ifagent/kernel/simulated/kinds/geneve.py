"""Geneve tunnels: ``drivers/net/geneve.c``."""

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    max_mtu=65465,
    mtu=1450,
    defaults=(("vni", 0), ("remote", ""), ("port", 6081), ("ttl", 0), ("tos", 0), ("df", "unset")),
    refused=frozenset({"vni", "port"}),
)
