"""Veth: ``linux/veth.h``, ``drivers/net/veth.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from ifagent.core.link import Duplex, Speed
from ifagent.kernel.attributes import attribute
from ifagent.kernel.kinds.contract import LinkDriver

VETH_INFO_PEER: Final = 1


class VethDriver(LinkDriver):
    """Two links that are each other's peer."""

    paired: ClassVar[bool] = True
    speed: ClassVar[Speed] = Speed(10_000_000_000, Duplex.FULL)

    def creation_data(self, far: Sequence[bytes]) -> bytes:
        """Return the other end, which is a whole link."""
        [peer] = far
        return attribute(VETH_INFO_PEER, peer)


DRIVER = VethDriver()
