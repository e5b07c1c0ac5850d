"""Macvtaps: ``drivers/net/macvtap.c``, macvlans with a file beside them."""

from __future__ import annotations

from ifagent.kernel.kinds.macvlan import MacvlanDriver

DRIVER = MacvlanDriver()
