"""Ethernet frames in GRE in IPv6: ``net/ipv6/ip6_gre.c``."""

from __future__ import annotations

from ifagent.kernel.kinds.ip6gre import Ip6GreDriver

DRIVER = Ip6GreDriver()
