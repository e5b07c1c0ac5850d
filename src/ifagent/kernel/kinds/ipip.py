"""IPv4 in IPv4: ``net/ipv4/ipip.c``."""

from __future__ import annotations

from typing import ClassVar

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Table
from ifagent.kernel.tunnel_data import IFLA_IPTUN_LINK, IN_IPV4


class IpipDriver(LinkDriver):
    """A tunnel whose packets leave by one link, if it is told which."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_IPTUN_LINK,)
    settings: ClassVar[Table] = Table(*IN_IPV4)


DRIVER = IpipDriver()
