"""Lists namespaces: on request at once, others when they are due.

A namespace that is behind is listed at intervals, which grow the longer it stays behind and the longer a listing takes.
It is followed again once few notifications arrive while it is listed. Nobody waits for such a listing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import anyio

from ifagent.core.link import NsId
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.deferred_close import DeferredClose
from ifagent.kernel.lane import Lane, list_lanes
from ifagent.kernel.link_cache import NamespaceDump
from ifagent.kernel.session import Session
from ifagent.kernel.threads import run_in_thread

PAUSE: Final = 0.02
"""Seconds between two unrequested listings, so that a storm of notifications costs little."""

FIRST_PAUSE: Final = 0.05
"""Seconds after which a namespace is listed that has fallen behind for the first time in a while."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between two listings of one that stays behind, unless listing it takes long. After as many in which
it was followed, it is as if it had never been behind."""

IDLE: Final = 10
"""How many times as long as a listing took a namespace is not listed again, so that it takes a tenth of a processor."""

ALL_IDLE: Final = 3
"""The same for all namespaces together that nobody waits for."""

LIST_TRIES: Final = 3
"""How often a namespace is listed again because it changed meanwhile, before the changes are applied on top."""

CHEAP: Final = 0.05
"""Seconds of CPU time that a listing may take for a caller to wait for it."""


class Pace:
    """How often one namespace may be listed. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.cost: float = 0.0
        self.due: float = math.inf
        self._pause = 0.0
        self._ended = -math.inf
        self._followed_since: float | None = -math.inf

    def fall_behind(self, now: float) -> None:
        """Schedule a listing after a pause: twice the last one, unless that was long ago."""
        since, self._followed_since = self._followed_since, None
        if since is not None and now - since > LONGEST_PAUSE:
            self._pause = 0.0
        self._put_off(now)

    def catch_up(self, now: float) -> None:
        """Record that it is followed again."""
        self._followed_since = now
        self.due = math.inf

    def request(self, now: float) -> None:
        """Schedule a listing as soon as the pace allows."""
        self.due = min(self.due, max(now, self._ended + max(PAUSE, IDLE * self.cost)))

    def listed(self, cost: float, now: float) -> None:
        """Record that it was listed, and how many seconds that took."""
        self.cost, self._ended, self.due = cost, now, math.inf
        if self._followed_since is None:
            self._put_off(now)

    def _put_off(self, now: float) -> None:
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.due = max(now + self._pause, self._ended + IDLE * self.cost)


class Relister:
    """Lists the namespaces of ``lanes``, and emits each listing with all that changed while it was made."""

    def __init__(
        self, session: Session, lanes: Mapping[NsId, Lane], closing: DeferredClose, drain: Callable[[], None]
    ) -> None:
        self._session = session
        self._lanes = lanes
        self._closing = closing
        self._drain = drain
        self._paces: dict[NsId, Pace] = {}
        self._locks: dict[NsId, anyio.Lock] = {}
        self._due: set[NsId] = set()
        self._scheduled = anyio.Event()

    def forget(self, namespace: NsId) -> None:
        """Forget a namespace that was detached."""
        self._paces.pop(namespace, None)
        self._locks.pop(namespace, None)
        self._due.discard(namespace)

    def request(self, namespaces: Iterable[NsId]) -> None:
        """Schedule listings as soon as each namespace's pace allows; does not wait for them."""
        self._schedule(namespaces, Pace.request)

    def set_behind(self, namespace: NsId, *, behind: bool) -> None:
        """Record that a namespace is no longer followed, or is followed again."""
        self._schedule([namespace], Pace.fall_behind if behind else Pace.catch_up)

    async def list_now(self, lanes: Iterable[Lane]) -> dict[NsId, NamespaceUnavailable]:
        """List namespaces now, and return which cannot be listed.

        One that is already behind or expensive to list is left behind and listed later instead.
        """
        now: list[Lane] = []
        for lane in lanes:
            if self._can_wait(lane.namespace):
                self._session.monitor.leave(lane.namespace)
                self.request([lane.namespace])
            else:
                now.append(lane)
        return await self._list_consistently(now)

    async def run(self) -> None:
        """List namespaces when they are due, cheap ones first, until cancelled."""
        while True:
            self._scheduled = anyio.Event()
            now = time.monotonic()
            due = sorted(
                (id_ for id_ in self._due if self._paces[id_].due <= now), key=lambda id_: self._paces[id_].cost
            )
            if not due:
                next_time = min((self._paces[id_].due for id_ in self._due), default=math.inf)
                with anyio.move_on_after(next_time - now):
                    await self._scheduled.wait()
                continue
            some, cost = due[:1], self._paces[due[0]].cost
            for namespace in due[1:]:
                cost += self._paces[namespace].cost
                if cost > CHEAP:
                    break
                some.append(namespace)
            self._due.difference_update(some)
            await self._list_consistently([self._lanes[namespace] for namespace in some])
            took = sum(self._paces[namespace].cost for namespace in some if namespace in self._paces)
            await anyio.sleep(max(PAUSE, ALL_IDLE * took))

    def _can_wait(self, namespace: NsId) -> bool:
        """Tell whether a namespace was listed before, is not the agent's own, and is behind or not cheap."""
        monitor = self._session.monitor
        if namespace == self._session.own or namespace not in monitor.links:
            return False
        return monitor.is_behind(namespace) or self._pace(namespace).cost > CHEAP

    def _schedule(self, namespaces: Iterable[NsId], change: Callable[[Pace, float], None]) -> None:
        now = time.monotonic()
        for namespace in namespaces:
            if namespace in self._lanes:
                pace = self._pace(namespace)
                change(pace, now)
                (self._due.add if pace.due < math.inf else self._due.discard)(namespace)
        self._scheduled.set()

    def _pace(self, namespace: NsId) -> Pace:
        return self._paces.setdefault(namespace, Pace())

    async def _list_consistently(self, lanes: Iterable[Lane]) -> dict[NsId, NamespaceUnavailable]:
        problems: dict[NsId, NamespaceUnavailable] = {}
        left = sorted(lanes, key=lambda lane: lane.namespace)
        locks = [self._locks.setdefault(lane.namespace, anyio.Lock()) for lane in left]
        for lock in locks:  # an older listing must not come after a newer one
            await lock.acquire()
        try:
            for last in range(LIST_TRIES - 1, -1, -1):
                if left:
                    left = await self._list(left, problems, last=not last)
        finally:
            for lock in locks:
                lock.release()
        self._drain()  # schedules the queries that the listed links need
        return problems

    async def _list(
        self, lanes: Iterable[Lane], problems: dict[NsId, NamespaceUnavailable], *, last: bool
    ) -> list[Lane]:
        """List namespaces; return those that changed meanwhile, to list them again, unless this is the ``last`` try."""
        monitor = self._session.monitor
        self._drain()  # notifications up to here are covered by the listing
        open_ = [lane for lane in lanes if not self._is_closed(lane, problems)]
        if not open_:
            return []
        for lane in open_:
            monitor.record(lane.namespace)
        unsubscribed = {lane for lane in open_ if monitor.is_behind(lane.namespace)}
        began = time.monotonic()
        with self._closing.using():
            has_ifa_proto = self._session.features.has_ifa_proto
            results = await run_in_thread(
                partial(list_lanes, open_, unsubscribed=unsubscribed, has_ifa_proto=has_ifa_proto)
            )
        self._drain()
        again: list[Lane] = []
        for lane, result in results.items():
            if self._is_closed(lane, problems):
                continue
            if lane in unsubscribed:
                self._catch_up(lane.namespace, time.monotonic() - began)
            emitted_at = time.thread_time()
            if isinstance(result.found, OSError):
                self._fail(lane, result.found, problems)
            elif not last and result.cost < CHEAP and monitor.has_recorded(lane.namespace):
                # The listing may or may not include what changed meanwhile. Applied on top it ends up right, except for
                # the order of addresses; so a clean listing is better.
                again.append(lane)
                continue
            else:
                self._emit(lane, result.found)
            # Whoever handles the emitted listing has about as much to do.
            self._record_cost(lane.namespace, result.cost + 2 * (time.thread_time() - emitted_at))
        return again

    def _catch_up(self, namespace: NsId, taken: float) -> None:
        self._session.monitor.catch_up(namespace, taken=taken)
        if not self._session.monitor.is_behind(namespace):
            self._pace(namespace).catch_up(time.monotonic())

    def _fail(self, lane: Lane, error: OSError, problems: dict[NsId, NamespaceUnavailable]) -> None:
        text = f"cannot list the network namespace {lane.namespace}: {error.strerror}"
        problems[lane.namespace] = NamespaceUnavailable(text)
        self._session.monitor.lose(lane.namespace, error)

    def _emit(self, lane: Lane, listing: NamespaceDump) -> None:
        session = self._session
        listed, seen = session.monitor.replace(lane.namespace, listing)
        for ifindex in listed.links or ():
            session.ifindexes.seen(lane.namespace, ifindex)
        session.emit(listed)
        for each in seen:
            session.emit(each)

    def _record_cost(self, namespace: NsId, cost: float) -> None:
        pace = self._pace(namespace)
        pace.listed(cost, time.monotonic())
        if pace.due < math.inf:
            self._due.add(namespace)
            self._scheduled.set()

    def _is_closed(self, lane: Lane, problems: dict[NsId, NamespaceUnavailable]) -> bool:
        """Tell whether a lane was closed, and record that as a problem."""
        if self._lanes.get(lane.namespace) is lane:
            return False
        text = f"the network namespace {lane.namespace} was detached while it was being listed"
        problems[lane.namespace] = NamespaceUnavailable(text)
        return True
