"""VXLAN tunnels: ``linux/if_link.h``, ``drivers/net/vxlan``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver

IFLA_VXLAN_LINK: Final = 3


class VxlanDriver(LinkDriver):
    """A tunnel whose packets leave by its lower link, if it has one."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_VXLAN_LINK,)


DRIVER = VxlanDriver()
