"""IPv6 in IPv4: ``net/ipv6/sit.c``."""

from __future__ import annotations

from ifagent.kernel.kinds.ipip import IpipDriver

DRIVER = IpipDriver()
