"""What is to be planned, in an order in which nobody has to wait for somebody else's backlog. Pure.

Whatever has changed is *touched*: a resource, a link, or a namespace that may be removed. It then waits in the queue of
the place that it is about. Places that have just got something to do share each planning evenly with those that have
had to wait, which take turns: a single change goes before a backlog of thousands, and nothing waits for ever.

What is touched again and again is *paced*: after a burst it is planned at a bounded rate, each time with the newest
that is known of it. What cannot be decided before something else is known, such as what links a namespace has, is
*parked* until then.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from heapq import heappop, heappush

from ifagent.core.link import LinkId, NsId
from ifagent.core.resources import Key

BURST = 20
"""How often in a row something is planned at once, before it is paced."""

INTERVAL = 0.05
"""Seconds between two plannings of what is paced."""

_TIDY = 1024

Node = Key | LinkId | NsId
"""What can be touched: a resource, a link, a namespace that may be removed."""


class Agenda:
    """Whatever waits to be planned; time is an argument, in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self.again: dict[Key, None] = {}
        self._waiting: set[Node] = set()
        self._new: dict[Hashable, deque[Node]] = {}
        self._turns: OrderedDict[Hashable, deque[Node]] = OrderedDict()
        self._parked: dict[Hashable, dict[Node, None]] = {}
        self._parked_under: dict[Node, Hashable] = {}
        self._pace = _Pace()
        self._paced: list[tuple[float, int, Hashable, Node]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, node: Node) -> bool:
        return node in self._waiting

    def __iter__(self) -> Iterator[Node]:
        return iter(self._waiting)

    def will_be_published_later(self, key: Key) -> bool:
        """Tell whether what is known of a resource is about to change: it is planned next, or waits for something."""
        return key in self.again or key in self._parked_under

    # What comes in

    def touch(self, node: Node, place: Hashable, *, anew: bool = False) -> None:
        """Have something planned; ``place`` is where it is. ``anew`` also if it is parked."""
        if node not in self._waiting:
            self._waiting.add(node)
            self._enqueue(node, place)
        elif anew and (what := self._parked_under.pop(node, None)) is not None:
            del self._parked[what][node]
            self._enqueue(node, place)

    def put_off(self, key: Key) -> bool:
        """Have a resource not planned next; return whether it would have been."""
        if key not in self.again:
            return False
        del self.again[key]
        self._waiting.discard(key)
        return True

    def park(self, node: Node, what: Hashable) -> None:
        """Have something that was taken wait for ``what``, such as a namespace's listing."""
        self._waiting.add(node)
        if node not in self._parked_under:
            self._parked.setdefault(what, {})[node] = None
            self._parked_under[node] = what

    def release(self, what: Hashable, *, next: Iterable[Key] = ()) -> None:  # noqa: A002 as in English
        """Have planned what was parked until this is known, ``next`` before everything else."""
        parked = self._parked.pop(what, {})
        for node in parked:
            del self._parked_under[node]
        for key in next:
            if key in parked:
                del parked[key]
                self.again[key] = None
        for node in parked:
            self._enqueue(node, what)

    def awaits(self, what: Hashable) -> bool:
        """Tell whether anything is parked until this is known."""
        return what in self._parked

    def _enqueue(self, node: Node, place: Hashable) -> None:
        queue = self._turns.get(place)
        if queue is None:
            queue = self._new.setdefault(place, deque())
        queue.append(node)

    # What is taken out

    def take(self, now: float) -> Iterator[Node]:
        """Yield what to plan, the most urgent first, until the caller has enough; what is yielded waits no more."""
        while self._paced and self._paced[0][0] <= now:
            _, _, place, node = heappop(self._paced)
            self._enqueue(node, place)
        again, self.again = self.again, {}
        try:
            while again:
                key, _ = again.popitem()
                if key in self._waiting and key not in self._parked_under:
                    self._waiting.discard(key)
                    yield key
            yield from self._take_turns(now)
        finally:
            self.again |= again
            # They have had their turn as newcomers.
            self._turns.update(self._new)
            self._new = {}

    def _take_turns(self, now: float) -> Iterator[Node]:
        """Take by turns one of a place that has just got something to do, and one of those that have waited."""
        newest = True
        while self._new or self._turns:
            if self._new and (newest or not self._turns):
                place, queue = self._new.popitem()
            else:
                place, queue = self._turns.popitem(last=False)
            newest = not newest
            node = queue.popleft()
            if queue:
                self._turns[place] = queue
            if node not in self._waiting or node in self._parked_under:
                continue  # it was planned with others meanwhile
            time = self._pace.time(node, now)
            if time > now:
                self._count += 1
                heappush(self._paced, (time, self._count, place, node))
            else:
                self._waiting.discard(node)
                yield node

    def planned(self, nodes: Iterable[Node], now: float) -> None:
        """Note what was planned, whether it was taken or belongs to what was; what is parked stays so."""
        for node in nodes:
            if node not in self._parked_under:
                self._waiting.discard(node)
                if isinstance(node, Key):
                    self.again.pop(node, None)
        self._pace.tidy(now)

    def tidy(self, now: float) -> None:
        """Forget at once of what was planned what may be forgotten."""
        self._pace.tidy(now, least=0)

    def next_time(self, now: float) -> float | None:
        """Return when something may be taken: ``now`` for at once, ``None`` if nothing waits for a time."""
        if self.again or self._new or self._turns:
            return now
        return max(now, self._paced[0][0]) if self._paced else None


class _Pace:
    """When something may be planned next; what has been quiet for long enough is forgotten."""

    def __init__(self) -> None:
        self._due: dict[Node, float] = {}
        self._tidy_at = _TIDY

    def time(self, node: Node, now: float) -> float:
        """Return when something may be planned; if that is now, it counts as done."""
        due = max(self._due.get(node, now), now)
        time = due - (BURST - 1) * INTERVAL
        if time > now:
            return time
        self._due[node] = due + INTERVAL
        return now

    def tidy(self, now: float, *, least: int | None = None) -> None:
        """Forget what is as if it had never been planned, once there is so much that it is worth the work."""
        if len(self._due) >= (self._tidy_at if least is None else least):
            self._due = {node: due for node, due in self._due.items() if due > now}
            self._tidy_at = 2 * len(self._due) + _TIDY
