"""Ethernet frames in GRE in IPv4: ``net/ipv4/ip_gre.c``."""

from __future__ import annotations

from ifagent.kernel.kinds.gre import GreDriver

DRIVER = GreDriver()
