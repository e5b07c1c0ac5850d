"""What has to be looked at again at a certain time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Reminders(Generic[T]):
    """Times at which something is due.

    ``time_of`` tells when something is due now, ``None`` if it is not at any time. So no reminder has to be taken back:
    one counts only as long as its time is the one that ``time_of`` returns.
    """

    def __init__(self, time_of: Callable[[T], float | None]) -> None:
        self._time_of = time_of
        self._times: list[tuple[float, int, T]] = []
        self._count = 0

    def add(self, time: float, what: T) -> None:
        """Remind of something at a time."""
        self._count += 1
        heappush(self._times, (time, self._count, what))

    def due(self, now: float) -> Iterator[T]:
        """Yield, once, what is due by now."""
        while self._times and self._times[0][0] <= now:
            time, _, what = heappop(self._times)
            if self._time_of(what) == time:
                yield what

    def next_time(self) -> float | None:
        """Return when something is due next, ``None`` if nothing is."""
        while self._times and self._time_of(self._times[0][2]) != self._times[0][0]:
            heappop(self._times)
        return self._times[0][0] if self._times else None
