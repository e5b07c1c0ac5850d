"""Packets in GRE in IPv6: ``net/ipv6/ip6_gre.c``."""

from __future__ import annotations

from typing import ClassVar

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Table
from ifagent.kernel.tunnel_data import GRE_IN_IPV6, IFLA_GRE_LINK


class Ip6GreDriver(LinkDriver):
    """A tunnel whose packets leave by one link, if it is told which."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_GRE_LINK,)
    settings: ClassVar[Table] = Table(*GRE_IN_IPV6)


DRIVER = Ip6GreDriver()
