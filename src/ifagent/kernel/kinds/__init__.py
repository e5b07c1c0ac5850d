"""The kinds that are special in rtnetlink, one module each by the name that the kernel has for it."""

from __future__ import annotations

from collections.abc import Mapping

from ifagent.core.kind_modules import find_by_kind
from ifagent.kernel.kinds.contract import LinkDriver

DRIVERS: Mapping[str, LinkDriver] = find_by_kind(__name__, "DRIVER", LinkDriver)
"""By the kernel's name of the kind."""

_USUAL = LinkDriver()


def driver_of(kind: str) -> LinkDriver:
    """Return what is special about links of a kind, as the kernel calls it; empty for links of no kind."""
    return DRIVERS.get(kind, _USUAL)
