"""Packets in GRE in IPv4: ``net/ipv4/ip_gre.c``."""

from __future__ import annotations

from typing import ClassVar

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Table
from ifagent.kernel.tunnel_data import GRE_IN_IPV4, IFLA_GRE_LINK


class GreDriver(LinkDriver):
    """A tunnel whose packets leave by one link, if it is told which."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_GRE_LINK,)
    settings: ClassVar[Table] = Table(*GRE_IN_IPV4)


DRIVER = GreDriver()
