"""How many log lines one cause may have: some in a row, then one a minute that says how many were left out.

A cause is an event, such as ``drift``: a thousand interfaces that are wrong in the same way are one. What it is about
(an interface, a source) is one within it, with half as many lines: whoever makes one interface flap does not have the
lines about others left out. Time is an argument, in seconds; memory is bounded whatever the causes are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Final, Generic, TypeVar

IN_A_ROW: Final = 10
"""Most lines of one event in a period; one that has more gets one a period, until it has fewer again."""

ABOUT_ONE: Final = 5
"""Most of them about the same thing."""

PERIOD: Final = 60.0
"""Seconds."""

MAX_CAUSES: Final = 1000
"""Most causes of each of the two sorts that are told apart."""

T = TypeVar("T")


@dataclass(slots=True)
class _Cause(Generic[T]):
    """What there was of one cause since ``began``; ``flooded`` if it had too many lines in the period before."""

    most: int
    began: float
    last: T
    seen: int = 0
    left_out: int = 0
    flooded: bool = False

    def begin(self, now: float) -> int:
        """Begin a period; return how many lines of the one before are untold."""
        untold, self.left_out = self.left_out, 0
        self.flooded = self.seen > self.most and now - self.began < 2 * PERIOD
        self.began, self.seen = now, 0
        return untold

    def admit(self, now: float) -> int | None:
        """Count a line; return how many before it are untold, or ``None`` if it is one too many itself."""
        untold = self.begin(now) if now - self.began >= PERIOD else 0
        self.seen += 1
        return untold if untold or not (self.flooded or self.seen > self.most) else None

    def leave_out(self, line: T, count: int) -> None:
        """Keep a line that is left out, and how many those are."""
        self.left_out += count
        self.last = line


class Limiter(Generic[T]):
    """Decides which lines are written; may be used by several threads."""

    def __init__(self) -> None:
        self._events: dict[Hashable, _Cause[T]] = {}
        self._things: dict[tuple[Hashable, Hashable], _Cause[T]] = {}
        self._lock = Lock()

    def admit(self, line: T, *, event: Hashable, about: Hashable = None, now: float) -> int | None:
        """Return how many lines before this one were left out and are untold; ``None``: leave this one out too.

        ``about`` is what the event is about, ``None`` if nothing in particular.
        """
        with self._lock:
            thing = self._things.get((event, about))
            untold = thing.admit(now) if thing else 0
            if thing and untold is None:
                thing.leave_out(line, 1)
                return None
            whole = self._event(event, line, now)
            before = whole.admit(now)
            if before is None:
                whole.leave_out(line, 1 + (untold or 0))
                return None
            if thing is None and about is not None and len(self._things) < MAX_CAUSES:
                self._things[event, about] = _Cause(ABOUT_ONE, now, line, seen=1)
            return before + (untold or 0)

    def due(self, now: float) -> list[tuple[T, int]]:
        """Return, for each cause whose time it is, the last line that was left out, and how many besides."""
        with self._lock:
            return [*self._due_things(now), *_due(self._events, now)]

    @property
    def idle(self) -> bool:
        """Whether :meth:`due` has nothing to say however long one waits."""
        return not (self._events or self._things)

    def forget(self) -> None:
        """Begin as if there had been no line yet."""
        with self._lock:
            self._events.clear()
            self._things.clear()

    def _due_things(self, now: float) -> Iterator[tuple[T, int]]:
        for (event, _), line, count in _due_by_key(self._things, now):
            whole = self._event(event, line, now)
            before = whole.admit(now)
            if before is None:
                whole.leave_out(line, 1 + count)
            else:
                yield line, count + before

    def _event(self, event: Hashable, line: T, now: float) -> _Cause[T]:
        """Return an event's cause; those beyond the limit share one."""
        key = event if event in self._events or len(self._events) < MAX_CAUSES else None
        return self._events.setdefault(key, _Cause(IN_A_ROW, now, line))


K = TypeVar("K", bound=Hashable)


def _due_by_key(causes: dict[K, _Cause[T]], now: float) -> Iterator[tuple[K, T, int]]:
    """Begin the causes' next period, forget those that are calm, and tell those that left lines out."""
    for key, cause in list(causes.items()):
        if now - cause.began < PERIOD:
            continue
        if untold := cause.begin(now):
            yield key, cause.last, untold - 1
        elif not cause.flooded:
            del causes[key]


def _due(causes: dict[K, _Cause[T]], now: float) -> Iterator[tuple[T, int]]:
    return ((line, count) for _, line, count in _due_by_key(causes, now))
