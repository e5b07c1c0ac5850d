"""What differs from kind to kind in what Linux does with a link."""

from __future__ import annotations

from typing import NamedTuple

from ifagent.core.kinds.contract import ETHERNET_MTU
from ifagent.core.link import OperState, Speed


class Traits(NamedTuple):
    """Of one kind, as its driver has them.

    ``min_mtu`` and ``max_mtu`` are what the kernel tells (``IFLA_MIN_MTU``, ``IFLA_MAX_MTU``), 0 for no limit.
    ``with_carrier`` is the operstate of a link that is up and has carrier: unknown where the driver does not watch it.
    """

    min_mtu: int = ETHERNET_MTU.start
    max_mtu: int = ETHERNET_MTU.stop - 1
    with_carrier: OperState = OperState.UNKNOWN
    speed: Speed = Speed()
