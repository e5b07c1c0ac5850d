"""Veth: ``drivers/net/veth.c``."""

from ifagent.core.link import Duplex, OperState, Speed
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(with_carrier=OperState.UP, speed=Speed(10_000_000_000, Duplex.FULL))
