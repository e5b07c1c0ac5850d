"""Listing namespaces: those that somebody waits for at once, the others each when its time has come.

What is behind is listed now and then, the less often the longer that goes on and the longer it takes, and followed
again once little is said meanwhile. Nobody waits for that.
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
from ifagent.kernel.files import Files
from ifagent.kernel.lane import Lane, list_lanes
from ifagent.kernel.mirror import Listing
from ifagent.kernel.running import LOOK_TRIES, PAUSE, Running
from ifagent.kernel.threads import off_loop

FIRST_PAUSE: Final = 0.05
"""Seconds after which a namespace is listed that has fallen behind for the first time in a while."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between two listings of one that stays behind, unless listing it takes long. After as many in which
it was followed, it is as if it had never been behind."""

IDLE: Final = 10
"""How many times as long as a listing took a namespace is not listed again, so that it takes a tenth of a processor."""

ALL_IDLE: Final = 3
"""The same for all namespaces together that nobody waits for."""

CHEAP: Final = 0.05
"""Seconds of a processor's time that a listing may take for somebody to wait for it."""


class Pace:
    """How often one namespace may be listed. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.cost: float = 0.0
        self.due: float = math.inf
        self._pause = 0.0
        self._ended = -math.inf
        self._followed_since: float | None = -math.inf

    def fall_behind(self, now: float) -> None:
        """Have it listed after a pause: twice the last one, if that is not long ago."""
        since, self._followed_since = self._followed_since, None
        if since is not None and now - since > LONGEST_PAUSE:
            self._pause = 0.0
        self._put_off(now)

    def catch_up(self, now: float) -> None:
        """Take note that it is followed."""
        self._followed_since = now
        self.due = math.inf

    def ask(self, now: float) -> None:
        """Have it listed as soon as that may be."""
        self.due = min(self.due, max(now, self._ended + max(PAUSE, IDLE * self.cost)))

    def look(self, cost: float, now: float) -> None:
        """Take note that it was listed, and what that took."""
        self.cost, self._ended, self.due = cost, now, math.inf
        if self._followed_since is None:
            self._put_off(now)

    def _put_off(self, now: float) -> None:
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.due = max(now + self._pause, self._ended + IDLE * self.cost)


class Looks:
    """Lists the namespaces of ``lanes``, and emits each listing with all that changed while it was made."""

    def __init__(self, running: Running, lanes: Mapping[NsId, Lane], files: Files, drain: Callable[[], None]) -> None:
        self._running = running
        self._lanes = lanes
        self._files = files
        self._drain = drain
        self._paces: dict[NsId, Pace] = {}
        self._locks: dict[NsId, anyio.Lock] = {}
        self._due: set[NsId] = set()
        self._news = anyio.Event()

    def forget(self, namespace: NsId) -> None:
        """Forget a namespace that was let go."""
        self._paces.pop(namespace, None)
        self._locks.pop(namespace, None)
        self._due.discard(namespace)

    def ask(self, namespaces: Iterable[NsId]) -> None:
        """Have namespaces listed as soon as they may be; nobody waits for it."""
        self._schedule(namespaces, Pace.ask)

    def note(self, namespace: NsId, *, behind: bool) -> None:
        """Take note that a namespace is not followed any more, or is again."""
        self._schedule([namespace], Pace.fall_behind if behind else Pace.catch_up)

    async def look(self, lanes: Iterable[Lane]) -> dict[NsId, NamespaceUnavailable]:
        """List namespaces now, and return which cannot be.

        One that is behind, or takes long to list, is behind until it is listed later.
        """
        now: list[Lane] = []
        for lane in lanes:
            if self._may_wait(lane.namespace):
                self._running.monitor.leave(lane.namespace)
                self.ask([lane.namespace])
            else:
                now.append(lane)
        return await self._look(now)

    async def run(self) -> None:
        """List namespaces when their time has come, cheap ones first, until cancelled."""
        while True:
            self._news = anyio.Event()
            now = time.monotonic()
            due = sorted(
                (id_ for id_ in self._due if self._paces[id_].due <= now), key=lambda id_: self._paces[id_].cost
            )
            if not due:
                next_time = min((self._paces[id_].due for id_ in self._due), default=math.inf)
                with anyio.move_on_after(next_time - now):
                    await self._news.wait()
                continue
            some, cost = due[:1], self._paces[due[0]].cost
            for namespace in due[1:]:
                cost += self._paces[namespace].cost
                if cost > CHEAP:
                    break
                some.append(namespace)
            self._due.difference_update(some)
            await self._look([self._lanes[namespace] for namespace in some])
            took = sum(self._paces[namespace].cost for namespace in some if namespace in self._paces)
            await anyio.sleep(max(PAUSE, ALL_IDLE * took))

    def _may_wait(self, namespace: NsId) -> bool:
        """Tell whether a namespace is known, but not current, or not cheap to list, and is not the agent's own."""
        monitor = self._running.monitor
        if namespace == self._running.own or not monitor.knows(namespace):
            return False
        return monitor.is_behind(namespace) or self._pace(namespace).cost > CHEAP

    def _schedule(self, namespaces: Iterable[NsId], change: Callable[[Pace, float], None]) -> None:
        now = time.monotonic()
        for namespace in namespaces:
            if namespace in self._lanes:
                pace = self._pace(namespace)
                change(pace, now)
                (self._due.add if pace.due < math.inf else self._due.discard)(namespace)
        self._news.set()

    def _pace(self, namespace: NsId) -> Pace:
        return self._paces.setdefault(namespace, Pace())

    async def _look(self, lanes: Iterable[Lane]) -> dict[NsId, NamespaceUnavailable]:
        problems: dict[NsId, NamespaceUnavailable] = {}
        left = sorted(lanes, key=lambda lane: lane.namespace)
        locks = [self._locks.setdefault(lane.namespace, anyio.Lock()) for lane in left]
        for lock in locks:  # an older listing must not come after a newer one
            await lock.acquire()
        try:
            for last in range(LOOK_TRIES - 1, -1, -1):
                if left:
                    left = await self._list(left, problems, last=not last)
        finally:
            for lock in locks:
                lock.release()
        self._drain()  # take note of what is to be asked of the links listed
        return problems

    async def _list(
        self, lanes: Iterable[Lane], problems: dict[NsId, NamespaceUnavailable], *, last: bool
    ) -> list[Lane]:
        """List namespaces; return those to be listed again, unless it is the last time."""
        monitor = self._running.monitor
        self._drain()  # what was said before is in the listing
        open_ = [lane for lane in lanes if not self._is_closed(lane, problems)]
        if not open_:
            return []
        for lane in open_:
            monitor.record(lane.namespace)
        silent = {lane for lane in open_ if monitor.is_behind(lane.namespace)}
        began = time.monotonic()
        with self._files.using():
            looks = await off_loop(partial(list_lanes, open_, silent=silent, tells_maker=self._running.tells_maker))
        self._drain()
        again: list[Lane] = []
        for lane, look in looks.items():
            if self._is_closed(lane, problems):
                continue
            if lane in silent:
                self._catch_up(lane.namespace, time.monotonic() - began)
            told_at = time.thread_time()
            if isinstance(look.found, OSError):
                self._fail(lane, look.found, problems)
            elif not last and look.cost < CHEAP and monitor.heard(lane.namespace):
                # What was heard meanwhile may be in the listing or not. Put on top it ends up right, but for
                # the order of addresses; so a listing without doubt is better.
                again.append(lane)
                continue
            else:
                self._tell(lane, look.found)
            # Whoever takes in what is told has about as much to do.
            self._note(lane.namespace, look.cost + 2 * (time.thread_time() - told_at))
        return again

    def _catch_up(self, namespace: NsId, taken: float) -> None:
        self._running.monitor.catch_up(namespace, taken=taken)
        if not self._running.monitor.is_behind(namespace):
            self._pace(namespace).catch_up(time.monotonic())

    def _fail(self, lane: Lane, error: OSError, problems: dict[NsId, NamespaceUnavailable]) -> None:
        text = f"cannot list the network namespace {lane.namespace}: {error.strerror}"
        problems[lane.namespace] = NamespaceUnavailable(text)
        self._running.monitor.lose(lane.namespace, error)

    def _tell(self, lane: Lane, listing: Listing) -> None:
        running = self._running
        listed, seen = running.monitor.replace(lane.namespace, listing)
        for ifindex in listed.links or ():
            running.ifindexes.seen(lane.namespace, ifindex)
        running.emit(listed)
        for each in seen:
            running.emit(each)

    def _note(self, namespace: NsId, cost: float) -> None:
        pace = self._pace(namespace)
        pace.look(cost, time.monotonic())
        if pace.due < math.inf:
            self._due.add(namespace)
            self._news.set()

    def _is_closed(self, lane: Lane, problems: dict[NsId, NamespaceUnavailable]) -> bool:
        """Tell whether a lane was let go, and note it as a problem."""
        if self._lanes.get(lane.namespace) is lane:
            return False
        text = f"the network namespace {lane.namespace} was let go meanwhile"
        problems[lane.namespace] = NamespaceUnavailable(text)
        return True
