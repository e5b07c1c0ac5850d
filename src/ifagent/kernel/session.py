"""The state of a :class:`~ifagent.kernel.linux.LinuxKernel` while it runs."""

from __future__ import annotations

from typing import Final

import anyio

from ifagent.core.link import LinkId, NsId
from ifagent.kernel.contract import Emit
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.named_namespaces import NamedNamespaces
from ifagent.kernel.workers import THREADS

PAUSE: Final = 0.02
"""Seconds between two unrequested listings or queries, so that a storm of notifications costs little."""

GATHER: Final = 0.005
"""Seconds in which notifications accumulate: a loop that wakes for each alternates with the thread that causes them."""


class Session:
    """From the start of :meth:`LinuxKernel.run` to its end.

    ``home`` is an open file of the agent's namespace ``own``. ``offloads_to_read`` and ``speeds_to_read`` are the links
    whose checksum offloading and speed have to be queried, and ``requery`` is set when there are any.
    """

    def __init__(
        self, emit: Emit, own: NsId, home: int, monitor: Monitor, *, netns_dir: str, has_ifa_proto: bool
    ) -> None:
        self.emit: Emit = emit
        self.own: NsId = own
        self.home: int = home
        self.monitor: Monitor = monitor
        self.has_ifa_proto: bool = has_ifa_proto
        self.ifindexes: Ifindexes = Ifindexes()
        self.threads: anyio.CapacityLimiter = anyio.CapacityLimiter(THREADS)
        self.names: NamedNamespaces = NamedNamespaces(netns_dir)
        self.offloads_to_read: set[LinkId] = set()
        self.speeds_to_read: set[LinkId] = set()
        self.requery: anyio.Event = anyio.Event()
