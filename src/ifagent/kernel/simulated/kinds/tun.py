"""TAP: ``drivers/net/tun.c``."""

from ifagent.core.link import Duplex, Speed
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS = Traits(speed=Speed(10_000_000_000, Duplex.FULL))
