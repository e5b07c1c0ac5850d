"""Geneve tunnels: ``linux/if_link.h``, ``drivers/net/geneve.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Address, Choice, Number, Table

IFLA_GENEVE_ID: Final = 1
IFLA_GENEVE_REMOTE: Final = 2
IFLA_GENEVE_TTL: Final = 3
IFLA_GENEVE_TOS: Final = 4
IFLA_GENEVE_PORT: Final = 5
IFLA_GENEVE_REMOTE6: Final = 7
IFLA_GENEVE_DF: Final = 13


class GeneveDriver(LinkDriver):
    """A tunnel to one other end."""

    settings: ClassVar[Table] = Table(
        Number(IFLA_GENEVE_ID, "vni", "=I"),
        Address(IFLA_GENEVE_REMOTE, IFLA_GENEVE_REMOTE6, "remote"),
        Number(IFLA_GENEVE_PORT, "port", ">H"),
        Number(IFLA_GENEVE_TTL, "ttl", "=B"),
        Number(IFLA_GENEVE_TOS, "tos", "=B"),
        Choice(IFLA_GENEVE_DF, "df", "=B", {"unset": 0, "set": 1, "inherit": 2}),
    )


DRIVER = GeneveDriver()
