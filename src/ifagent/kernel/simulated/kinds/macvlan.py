"""Macvlans: ``drivers/net/macvlan.c``."""

from ifagent.core.link import OperState
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    max_mtu=65535,
    with_carrier=OperState.UP,
    sits_on_lower=True,
    uses_lower_alone=True,
    defaults=(("mode", "vepa"), ("nopromisc", False), ("bc_queue_len", 1000)),
)
