"""What may be tried when. Time is an argument, in seconds of any monotonic clock.

Two things are remembered. An *operation* that the kernel refused waits by the fate of its errno: what was refused for
good is tried again once its link is different, as what stood in the way, such as IPv6 being off, may be gone. An
*interface* whose applied state somebody else keeps changing has its repairs spaced out. A changed
declaration clears both.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum

from ifagent.core.interface import Name
from ifagent.core.link import Link, NsId
from ifagent.core.operations import Operation, Outcome, RemoveNamespace

FIRST_DELAY = 0.1
"""Seconds until the second try; doubled with every further one."""

LAST_DELAY = 60.0
"""Longest time between two tries, in seconds."""

FREE_REPAIRS = 5
"""How many repairs of one interface in a row are made at once, before they are spaced out."""

QUIET = 60.0
"""Seconds without drift after which an interface's repairs are made at once again."""


class Fate(Enum):
    """What a refusal means for the next try."""

    STALE = "stale"  # the world is not as it was observed: look again, then plan again
    TRANSIENT = "transient"  # try again later, without end
    PERMANENT = "permanent"  # wait until the plan, the declaration or the link changes, or for the next full look


_FATES = {
    errno.EEXIST: Fate.STALE,
    errno.ENODEV: Fate.STALE,
    errno.ENOENT: Fate.STALE,
    errno.EADDRNOTAVAIL: Fate.STALE,
    errno.EBUSY: Fate.TRANSIENT,
    errno.ENOBUFS: Fate.TRANSIENT,
    errno.ENOMEM: Fate.TRANSIENT,
    errno.EAGAIN: Fate.TRANSIENT,
    errno.EINTR: Fate.TRANSIENT,
    errno.EMFILE: Fate.TRANSIENT,
    errno.ENFILE: Fate.TRANSIENT,
    errno.ENOSPC: Fate.TRANSIENT,
    errno.ENOTCONN: Fate.TRANSIENT,
    errno.EINVAL: Fate.PERMANENT,
    errno.EOPNOTSUPP: Fate.PERMANENT,
    errno.EPERM: Fate.PERMANENT,
    errno.EACCES: Fate.PERMANENT,
    errno.ERANGE: Fate.PERMANENT,
    errno.EROFS: Fate.PERMANENT,
}


def fate(code: int) -> Fate:
    """Return what an errno means for the next try; one that is not in the table is transient."""
    return _FATES.get(code, Fate.TRANSIENT)


def delay(attempts: int) -> float:
    """Return the seconds to wait after so many failed attempts."""
    return float(min(FIRST_DELAY * 2 ** min(attempts - 1, 16), LAST_DELAY))


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operation that did not succeed, and what was known of its link when it was tried.

    ``next_try`` is ``None`` when only a change can help.
    """

    operation: Operation
    names: frozenset[Name]
    text: str
    attempts: int
    next_try: float | None
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Unrest:
    """How often an interface was changed by somebody else, and until when it is left alone."""

    repairs: int = 0
    streak: int = 0
    last: float = 0.0
    until: float = 0.0

    @property
    def left(self) -> bool:
        """True while drift is left as it is, whatever the time."""
        return self.until == math.inf


class RetryBook:
    """Remembers refusals and repairs; forgets them when they no longer matter."""

    def __init__(self) -> None:
        self._refusals: dict[Operation, Refusal] = {}
        self._unrest: dict[Name, Unrest] = {}
        self._asked = -math.inf

    def may_try(self, operation: Operation, names: Iterable[Name], now: float) -> bool:
        """Tell whether an operation for these interfaces may be carried out now."""
        refusal = self._refusals.get(operation) if self._refusals else None
        if refusal is not None and (refusal.next_try is None or now < refusal.next_try):
            return False
        return not any(now < self._unrest[name].until for name in names if name in self._unrest)

    def refused(
        self, outcome: Outcome, names: frozenset[Name], text: str, now: float, link: Link | None = None
    ) -> None:
        """Note that the kernel refused an operation on a link; ``text`` is what to tell the user."""
        before = self._refusals.get(outcome.operation)
        attempts = before.attempts + 1 if before else 1
        next_try: float | None
        match fate(outcome.errno):
            case Fate.STALE:
                next_try = now if attempts == 1 else now + delay(attempts - 1)
            case Fate.TRANSIENT:
                next_try = now + delay(attempts)
            case Fate.PERMANENT:
                next_try = None
        self._refusals[outcome.operation] = Refusal(outcome.operation, names, text, attempts, next_try, link)

    def succeeded(self, operation: Operation) -> None:
        """Note that an operation was carried out."""
        if self._refusals:
            self._refusals.pop(operation, None)

    def drifted(self, name: Name, now: float, *, repair: bool = True) -> None:
        """Note that an applied interface was changed by somebody else; without ``repair`` it is left so."""
        before = self._unrest.get(name, Unrest())
        if not repair:
            self._unrest[name] = replace(before, streak=before.streak + 1, last=now, until=math.inf)
            return
        streak = 1 if now - max(before.last, before.until) > QUIET else before.streak + 1
        until = now if streak <= FREE_REPAIRS else now + delay(streak - FREE_REPAIRS)
        self._unrest[name] = Unrest(before.repairs + 1, streak, now, until)

    def undone(self, name: Name) -> None:
        """Note that an interface is as declared: drift that was left as it is is no more."""
        if name in self._unrest and self._unrest[name].left:
            self._unrest[name] = replace(self._unrest[name], until=0.0)

    def forgive(self) -> None:
        """Have drift repaired that was left as it is."""
        for name in self._unrest:
            self.undone(name)

    def encourage(self) -> None:
        """Have tried again what was refused for good: what stood in the way may be gone without anybody's saying so."""
        for refusal in [r for r in self._refusals.values() if r.next_try is None]:
            del self._refusals[refusal.operation]

    def reconsider(self, link: Callable[[Operation], Link | None]) -> None:
        """Have tried again what was refused for good on a link that is another by now; ``link`` tells what it is."""
        for refusal in [r for r in self._refusals.values() if r.next_try is None]:
            if link(refusal.operation) != refusal.link:
                del self._refusals[refusal.operation]

    def changed(self, name: Name) -> None:
        """Forget what stood in the way of an interface: its declaration changed."""
        for refusal in [r for r in self._refusals.values() if name in r.names]:
            del self._refusals[refusal.operation]
        if name in self._unrest:
            self._unrest[name] = replace(self._unrest[name], streak=0, until=0.0)

    def gone(self, name: Name) -> None:
        """Forget an interface altogether."""
        self.changed(name)
        self._unrest.pop(name, None)

    def keep_only(
        self, operations: Collection[Operation], *, names: AbstractSet[Name], namespaces: AbstractSet[NsId]
    ) -> None:
        """Forget refusals about these interfaces, and about removing these namespaces, that are no longer planned."""
        for refusal in [r for r in self._refusals.values() if r.operation not in operations]:
            operation = refusal.operation
            removal = isinstance(operation, RemoveNamespace) and operation.id in namespaces
            if removal or not refusal.names.isdisjoint(names):
                del self._refusals[operation]

    def due(self, now: float) -> tuple[set[Name], set[NsId]]:
        """Return the interfaces, and the namespaces to be removed, for which something may be tried again by now."""
        refusals = [r for r in self._refusals.values() if r.next_try is not None and r.next_try <= now]
        names = {name for refusal in refusals for name in refusal.names}
        names |= {name for name, unrest in self._unrest.items() if self._asked < unrest.until <= now}
        self._asked = now
        return names, {r.operation.id for r in refusals if isinstance(r.operation, RemoveNamespace)}

    def refusals_of(self, name: Name) -> list[Refusal]:
        """Return what was refused for one interface."""
        if not self._refusals:
            return []
        return [refusal for refusal in self._refusals.values() if name in refusal.names]

    def unrest_of(self, name: Name) -> Unrest:
        """Return how often one interface was changed by somebody else."""
        return self._unrest.get(name, Unrest())

    def next_time(self, now: float) -> float | None:
        """Return when something that waits may be tried next, ``None`` if nothing waits for a time.

        Times that have passed are not told again: what they allowed has been planned since.
        """
        times = [r.next_try for r in self._refusals.values() if r.next_try is not None]
        times += [u.until for u in self._unrest.values() if not u.left]
        return min((time for time in times if time > now), default=None)
