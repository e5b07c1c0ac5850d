"""Queries what notifications do not contain, such as checksum offloading and speed of links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, TypeVar

import anyio

from ifagent.core.link import LinkId, NsId
from ifagent.kernel.deferred_close import DeferredClose
from ifagent.kernel.lane import Lane, by_lane, query_lanes
from ifagent.kernel.link_cache import LinkCache
from ifagent.kernel.messages import LinkMessage
from ifagent.kernel.threads import run_in_thread

T = TypeVar("T")

TRIES: Final = 5
"""How often a link is read that changes all the time; then the last notification has to do."""

PAUSE: Final = 0.02
"""Seconds between two rounds of queries, so that a storm of notifications costs little."""


class EthtoolQueries:
    """Queries links through ``lanes``, stores the answers in the cache ``links``, and calls ``drain`` to emit them."""

    def __init__(
        self, links: LinkCache, lanes: Mapping[NsId, Lane], closing: DeferredClose, drain: Callable[[], None]
    ) -> None:
        self._links = links
        self._lanes = lanes
        self._closing = closing
        self._drain = drain
        self._offloads_to_read: set[LinkId] = set()
        self._speeds_to_read: set[LinkId] = set()
        self._requery = anyio.Event()

    def schedule(self) -> None:
        """Take from the cache which links have to be queried; does not wait for that."""
        self._offloads_to_read |= self._links.take_offloads_to_read()
        self._speeds_to_read |= self._links.take_speeds_to_read()
        if self._offloads_to_read or self._speeds_to_read:
            self._requery.set()

    async def run(self) -> None:
        """Query the scheduled links, until cancelled."""
        while True:
            await self._requery.wait()
            self._requery = anyio.Event()
            offloads_to_read, self._offloads_to_read = self._offloads_to_read, set()
            speeds_to_read, self._speeds_to_read = self._speeds_to_read, set()
            self._links.set_speeds(await self._query(speeds_to_read, Lane.speeds))
            await self.query_checksums(offloads_to_read)
            await anyio.sleep(PAUSE)

    async def read_links(self, links: Iterable[LinkId], apply: Callable[[Mapping[LinkId, LinkMessage]], None]) -> None:
        """Read links as they are now and ``apply`` what was read, unless a notification is newer.

        One of which there was a notification meanwhile is read again, up to :data:`TRIES` times.
        """
        left = set(links)
        for _ in range(TRIES):
            if not left:
                return
            before = {id_: self._links.link(id_) for id_ in left}
            found = await self._query(left, Lane.links)
            self._drain()
            left = {id_ for id_ in left if self._links.link(id_) is not before[id_]}
            apply({id_: link for id_, link in found.items() if id_ not in left})
            self._drain()

    async def query_checksums(self, links: Iterable[LinkId]) -> None:
        """Query the checksum offloading of links now."""
        self._links.set_checksums(await self._query(links, Lane.checksums))
        self._drain()

    async def _query(
        self, links: Iterable[LinkId], query: Callable[[Lane, list[int]], dict[LinkId, T]]
    ) -> dict[LinkId, T]:
        """Run a query on the lanes of links, as far as they are open."""
        if not (ifindexes := by_lane(links, self._lanes)):
            return {}
        with self._closing.using():
            return await run_in_thread(partial(query_lanes, query, ifindexes))
