"""Finding out by which routes the host is connected, beside the rounds."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import anyio
import anyio.to_thread

from ifagent.core.events import HostRoutesSeen
from ifagent.core.host_routes import IPAddress
from ifagent.core.link import LinkId, NsId
from ifagent.inbox import Inbox
from ifagent.kernel.contract import Kernel
from ifagent.log import log

PATIENCE: Final = 2.0
"""Seconds that a look-up of names may take before the ways to addresses known by then have to do."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds after which routes that could not be listed are asked for again: at first, and at most."""

LASTS: Final = 60.0
"""Seconds after which names are looked up again."""


class HostRoutesWatch:
    """Says :class:`HostRoutesSeen` whenever it is asked to.

    ``hosts`` are names or addresses that have to stay reachable, ``host`` returns the namespaces of the host that are
    listened to, and the links there that are the agent's. Names are looked up at an interval, in a thread that nobody
    waits for longer than :data:`PATIENCE`. Routes that cannot be listed are asked for again, with growing pauses.
    """

    def __init__(
        self,
        kernel: Kernel,
        inbox: Inbox,
        hosts: Sequence[str],
        host: Callable[[], tuple[frozenset[NsId], AbstractSet[LinkId]]],
    ) -> None:
        self._kernel = kernel
        self._host = host
        self._inbox = inbox
        self._hosts = hosts
        self._addresses: frozenset[IPAddress] = frozenset()
        self._looked_up: float | None = None
        self._asked = anyio.Event()
        self._busy = False
        self._thread = anyio.CapacityLimiter(1)

    def ask(self) -> None:
        """Have the ways out looked at."""
        self._asked.set()

    @property
    def idle(self) -> bool:
        """True while nobody waits for an answer."""
        return not (self._busy or self._asked.is_set())

    async def run(self) -> None:
        """Look whenever asked, until cancelled."""
        pause = 0.0
        while True:
            with anyio.move_on_after(pause or None):
                await self._asked.wait()
            self._asked = anyio.Event()
            self._busy = True
            await self._look_up()
            namespaces, ours = self._host()
            routes = await self._kernel.host_routes(namespaces, self._addresses, ours)
            self._inbox.put(HostRoutesSeen(routes, namespaces))
            self._busy = False
            for problem in sorted(set(routes.problems.values())):
                log.warning("cannot read the routes of the host", problem=problem)
            pause = min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE) if routes.problems else 0.0

    async def _look_up(self) -> None:
        now = anyio.current_time()
        if not self._hosts or (self._looked_up is not None and now < self._looked_up + LASTS):
            return
        self._looked_up = now
        with anyio.move_on_after(PATIENCE) as scope:
            self._addresses = await anyio.to_thread.run_sync(
                addresses_of, self._hosts, abandon_on_cancel=True, limiter=self._thread
            )
        if scope.cancelled_caught:
            log.warning("host name lookup timed out", hosts=", ".join(self._hosts), seconds=PATIENCE)


def addresses_of(hosts: Iterable[str]) -> frozenset[IPAddress]:
    """Return the addresses of hosts, as far as they have any; may take as long as the resolver likes."""
    found: set[IPAddress] = set()
    for host in hosts:
        with suppress(OSError):
            for *_, (address, *_) in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                found.add(ip_address(str(address).partition("%")[0]))
    return frozenset(found)
