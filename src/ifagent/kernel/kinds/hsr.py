"""HSR and PRP: ``linux/if_link.h``, ``net/hsr``."""

from __future__ import annotations

from typing import ClassVar, Final

from ifagent.kernel.kinds.contract import LinkDriver

IFLA_HSR_SLAVE1: Final = 1
IFLA_HSR_SLAVE2: Final = 2


class HsrDriver(LinkDriver):
    """A link on top of two, deleted with the last of them: it stays while the first one is kept."""

    lower_attributes: ClassVar[tuple[int, ...]] = (IFLA_HSR_SLAVE1, IFLA_HSR_SLAVE2)


DRIVER = HsrDriver()
