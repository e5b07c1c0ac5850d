"""Macvlans: ``linux/if_link.h``, ``drivers/net/macvlan.c``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.link_data import Bits, Choice, Number, Table

IFLA_MACVLAN_MODE: Final = 1
IFLA_MACVLAN_FLAGS: Final = 2
IFLA_MACVLAN_BC_QUEUE_LEN: Final = 7

MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}


class MacvlanDriver(LinkDriver):
    """A link with a MAC of its own on a lower link."""

    settings: ClassVar[Table] = Table(
        Choice(IFLA_MACVLAN_MODE, "mode", "=I", MODES),
        Bits(IFLA_MACVLAN_FLAGS, {"nopromisc": 1}, format_="=H"),
        Number(IFLA_MACVLAN_BC_QUEUE_LEN, "bc_queue_len", "=I"),
    )


DRIVER = MacvlanDriver()
