"""VRF devices: ``linux/if_link.h``, ``drivers/net/vrf.c``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Number, Table

IFLA_VRF_TABLE: Final = 1


class VrfDriver(LinkDriver):
    """A routing table for its ports.

    As with ligato v3, services that listen in no VRF are reached from within all of them.
    """

    settings: ClassVar[Table] = Table(Number(IFLA_VRF_TABLE, "routing_table", "=I"))
    sysctls: ClassVar[Mapping[str, str]] = MappingProxyType({"net/ipv4/tcp_l3mdev_accept": "1"})


DRIVER = VrfDriver()
