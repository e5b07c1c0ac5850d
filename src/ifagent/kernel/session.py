"""The state of a :class:`~ifagent.kernel.linux.LinuxKernel` while it runs."""

from __future__ import annotations

from typing import Final

import anyio

from ifagent.core.link import NsId
from ifagent.kernel.contract import Emit
from ifagent.kernel.ethtool_queries import EthtoolQueries
from ifagent.kernel.features import KernelFeatures
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.named_namespaces import NamedNamespaces
from ifagent.kernel.workers import THREADS

GATHER: Final = 0.005
"""Seconds in which notifications accumulate: a loop that wakes for each alternates with the thread that causes them."""


class Session:
    """What exists while :meth:`LinuxKernel.run` does; ``home`` is an open file of the agent's namespace ``own``."""

    def __init__(
        self,
        emit: Emit,
        own: NsId,
        home: int,
        monitor: Monitor,
        queries: EthtoolQueries,
        netns_dir: str,
        features: KernelFeatures,
    ) -> None:
        self.emit: Emit = emit
        self.own: NsId = own
        self.home: int = home
        self.monitor: Monitor = monitor
        self.queries: EthtoolQueries = queries
        self.features: KernelFeatures = features
        self.ifindexes: Ifindexes = Ifindexes()
        self.threads: anyio.CapacityLimiter = anyio.CapacityLimiter(THREADS)
        self.names: NamedNamespaces = NamedNamespaces(netns_dir)
