"""Ipvlans: ``drivers/net/ipvlan``."""

from ifagent.core.link import OperState
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(
    with_carrier=OperState.UP,
    sits_on_lower=True,
    mac_of_lower=True,
    only_mac_of_lower=True,
    uses_lower_alone=True,
    defaults=(("mode", "l3"), ("flag", "bridge")),
)
