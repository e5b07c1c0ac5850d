"""Intermediate functional blocks: ``drivers/net/ifb.c``, which limits no MTU."""

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(min_mtu=0, max_mtu=0)
