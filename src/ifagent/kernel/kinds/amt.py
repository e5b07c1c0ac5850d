"""Automatic multicast tunnels: ``linux/amt.h``, ``drivers/net/amt.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver

IFLA_AMT_LINK: Final = 4


class AmtDriver(LinkDriver):
    """A tunnel whose packets leave by its lower link."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_AMT_LINK,)


DRIVER = AmtDriver()
