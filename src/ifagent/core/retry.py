"""What may be tried when. Time is an argument, in seconds of any monotonic clock.

Two things are remembered. An *operation* that the kernel refused waits by the fate of its errno: what was refused for
good is tried again once its link is different, as what stood in the way, such as IPv6 being off, may be gone. Whether
another host on the link still has an address is checked again after a time, or once the link or its peer is
different. An *interface* that is repeatedly changed externally has its repairs spaced out. A changed
declaration clears both.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from heapq import heappop, heappush
from typing import Final

from ifagent.core.agenda import Node
from ifagent.core.interface import Name, NamespaceRef
from ifagent.core.link import Link
from ifagent.core.operations import (
    DeleteAddress,
    DeleteLink,
    Operation,
    Outcome,
    PromoteSecondaries,
    RemoveNamespace,
    RenewAddress,
)

FIRST_DELAY = 0.1
"""Seconds until the second try; doubled with every further one."""

LAST_DELAY = 60.0
"""Longest time between two tries, in seconds."""

DETECTION = 3.0
"""Seconds from one look for duplicates of an address to the next, doubled with every further one; one takes 1 to 2."""

FREE_REPAIRS = 5
"""How many repairs of one interface in a row are made at once, before they are spaced out."""

FLAP_WINDOW = 60.0
"""Seconds without drift after which an interface's repairs are made at once again."""


class ErrorClass(Enum):
    """What a refusal means for the next try."""

    STALE = "stale"  # the world is not as it was observed: look again, then plan again
    TRANSIENT = "transient"  # try again later, without end
    PERMANENT = "permanent"  # wait until the plan, the declaration or the link changes, or for the next full resync


_CLASSES = {
    errno.EEXIST: ErrorClass.STALE,
    errno.ENODEV: ErrorClass.STALE,
    errno.ENOENT: ErrorClass.STALE,
    errno.EADDRNOTAVAIL: ErrorClass.STALE,
    errno.EBUSY: ErrorClass.TRANSIENT,
    errno.ENOBUFS: ErrorClass.TRANSIENT,
    errno.ENOMEM: ErrorClass.TRANSIENT,
    errno.EAGAIN: ErrorClass.TRANSIENT,
    errno.EINTR: ErrorClass.TRANSIENT,
    errno.EMFILE: ErrorClass.TRANSIENT,
    errno.ENFILE: ErrorClass.TRANSIENT,
    errno.ENOSPC: ErrorClass.TRANSIENT,
    errno.ENOTCONN: ErrorClass.TRANSIENT,
    errno.EINVAL: ErrorClass.PERMANENT,
    errno.EOPNOTSUPP: ErrorClass.PERMANENT,
    errno.EPERM: ErrorClass.PERMANENT,
    errno.EACCES: ErrorClass.PERMANENT,
    errno.ERANGE: ErrorClass.PERMANENT,
    errno.EROFS: ErrorClass.PERMANENT,
}

_GONE: Final = (
    (RemoveNamespace, errno.ENOENT),
    (DeleteLink, errno.ENODEV),
    (DeleteAddress, errno.ENODEV),
    (DeleteAddress, errno.EADDRNOTAVAIL),
)


def classify(code: int) -> ErrorClass:
    """Return what an errno means for the next try; one that is not in the table is transient."""
    return _CLASSES.get(code, ErrorClass.TRANSIENT)


def was_gone(outcome: Outcome) -> bool:
    """Tell whether an operation that takes something away came too late for that: that is not a refusal."""
    return any(isinstance(outcome.operation, kind) and outcome.errno == code for kind, code in _GONE)


def delay(attempts: int) -> float:
    """Return the seconds to wait after so many failed attempts."""
    return float(min(FIRST_DELAY * 2 ** min(attempts - 1, 16), LAST_DELAY))


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operation that did not succeed, and what was known of its link when it was tried.

    ``next_try`` is ``None`` when only a change can help. ``surroundings`` are what it depends on whether an address has
    duplicates, as known when they were looked for, at ``tried``.
    """

    operation: Operation
    names: frozenset[Name]
    text: str
    attempts: int
    next_try: float | None
    link: Link | None = None
    tried: float = 0.0
    surroundings: object = None


@dataclass(frozen=True, slots=True)
class DriftHistory:
    """How often an interface was changed by somebody else, and until when it is left alone."""

    repairs: int = 0
    streak: int = 0
    last: float = 0.0
    until: float = 0.0

    @property
    def suspended(self) -> bool:
        """True while drift is left as it is, whatever the time."""
        return self.until == math.inf


_CALM = DriftHistory()


class RetryBook:
    """Remembers refusals and repairs; forgets them when they no longer matter."""

    def __init__(self) -> None:
        self._refusals: dict[Operation, Refusal] = {}
        self._accepted: dict[Operation, frozenset[Name]] = {}
        self._tried: dict[Node, dict[Operation, None]] = {}
        self._drift: dict[Name, DriftHistory] = {}
        self._times: list[tuple[float, int, Operation | Name]] = []
        self._count = 0

    def may_try(self, operation: Operation, names: Iterable[Name], now: float) -> bool:
        """Tell whether an operation for these interfaces may be carried out now."""
        refusal = self._refusals.get(operation) if self._refusals else None
        if refusal is not None and (refusal.next_try is None or now < refusal.next_try):
            return False
        return not any(now < self._drift[name].until for name in names if name in self._drift)

    def refused(
        self, outcome: Outcome, names: frozenset[Name], text: str, now: float, link: Link | None = None
    ) -> None:
        """Note that the kernel refused an operation on a link; ``text`` is what to tell the user."""
        operation = outcome.operation
        before = self._refusals.get(operation)
        attempts = before.attempts + 1 if before else 1
        next_try: float | None
        match classify(outcome.errno):
            case ErrorClass.STALE:
                next_try = now if attempts == 1 else now + delay(attempts - 1)
            case ErrorClass.TRANSIENT:
                next_try = now + delay(attempts)
            case ErrorClass.PERMANENT:
                next_try = None
        self._forget(operation)
        self._refusals[operation] = Refusal(operation, names, text, attempts, next_try, link)
        self._remember(operation, names)
        if next_try is not None:
            self._remind(next_try, now, operation)

    def accepted(self, operation: Operation, names: frozenset[Name]) -> None:
        """Note that the kernel has carried out an operation.

        What was refused of it before stays known until it is not planned any more: it may have had no effect.
        """
        if isinstance(operation, RemoveNamespace):
            self._forget(operation)
        elif not isinstance(operation, PromoteSecondaries):  # nothing that is observed tells of it
            self._accepted[operation] = names
            self._remember(operation, names)

    def renewed(self, operation: RenewAddress, names: frozenset[Name], now: float, surroundings: object) -> None:
        """Note that duplicates of an address are looked for again: whether there still are any is not known yet."""
        before = self._refusals.get(operation)
        attempts = before.attempts + 1 if before else 1
        next_try = now + min(DETECTION * 2 ** min(attempts - 1, 16), LAST_DELAY)
        self._forget(operation)
        self._refusals[operation] = Refusal(
            operation, names, str(operation), attempts, next_try, tried=now, surroundings=surroundings
        )
        self._remember(operation, names)
        self._remind(next_try, now, operation)

    def take_ineffective(self, operations: Iterable[Operation]) -> list[Operation]:
        """Return, once, those of some operations that were carried out and are to be again: they had no effect."""
        if not self._accepted:
            return []
        return [operation for operation in operations if self._accepted.pop(operation, None) is not None]

    def drifted(self, name: Name, now: float, *, repair: bool = True) -> None:
        """Note that an applied interface was changed by somebody else; without ``repair`` it is left so."""
        before = self._drift.get(name, DriftHistory())
        if not repair:
            self._drift[name] = replace(before, streak=before.streak + 1, last=now, until=math.inf)
            return
        streak = 1 if now - max(before.last, before.until) > FLAP_WINDOW else before.streak + 1
        until = now if streak <= FREE_REPAIRS else now + delay(streak - FREE_REPAIRS)
        self._drift[name] = DriftHistory(before.repairs + 1, streak, now, until)
        self._remind(until, now, name)

    def drift_resolved(self, name: Name) -> None:
        """Note that drift that was left as it is is no more, or is to be repaired."""
        if name in self._drift and self._drift[name].suspended:
            self._drift[name] = replace(self._drift[name], until=0.0)

    def resume_repairs(self) -> None:
        """Have drift repaired that was left as it is."""
        for name in self._drift:
            self.drift_resolved(name)

    def retry_permanent(self) -> None:
        """Have tried again what was refused for good: what stood in the way may be gone without anybody's saying so."""
        for refusal in [r for r in self._refusals.values() if r.next_try is None]:
            self._forget(refusal.operation)

    def retry_if_link_changed(
        self,
        names: Iterable[Name],
        link: Callable[[Operation], Link | None],
        surroundings: Callable[[Operation], object] = lambda _: None,
    ) -> None:
        """Have tried again what was refused for good on a link that is another by now; ``link`` tells what it is.

        Duplicates of an address are looked for again where that may end otherwise by now, as ``surroundings`` tells,
        but no sooner after the last time than :data:`DETECTION`. ``names`` are the interfaces that may be concerned.
        """
        if not self._refusals:
            return
        for refusal in [refusal for name in names for refusal in self.refusals_of(name)]:
            operation, next_try = refusal.operation, refusal.next_try
            if next_try is None:
                if link(operation) != refusal.link:
                    self._forget(operation)
            elif isinstance(operation, RenewAddress) and (now := surroundings(operation)) != refusal.surroundings:
                soon = min(next_try, refusal.tried + DETECTION)
                self._refusals[operation] = replace(refusal, next_try=soon, surroundings=now)
                self._remind(soon, -math.inf, operation)

    def changed(self, name: Name) -> None:
        """Forget what stood in the way of an interface: its declaration changed."""
        for operation in list(self._tried.get(name, ())):
            self._forget(operation)
        if name in self._drift:
            self._drift[name] = replace(self._drift[name], streak=0, until=0.0)

    def forget(self, name: Name) -> None:
        """Forget an interface altogether."""
        self.changed(name)
        self._drift.pop(name, None)

    def keep_only(self, operations: Collection[Operation], about: Iterable[Node]) -> None:
        """Forget what was tried for interfaces, links and namespaces that were planned and is not planned any more."""
        if not self._tried:
            return
        for node in about:
            for operation in [each for each in self._tried.get(node, ()) if each not in operations]:
                self._forget(operation)

    def due(self, now: float) -> set[Node]:
        """Return, once, for what something may be tried again by now."""
        nodes = set[Node]()
        while self._times and self._times[0][0] <= now:
            what, valid = self._times[0][2], self._is_valid(self._times[0])
            heappop(self._times)
            if not valid:
                continue
            if isinstance(what, str):
                nodes.add(what)
            else:
                nodes.update(_about(what, self._refusals[what].names))
        return nodes

    def refusals_of(self, name: Name) -> Sequence[Refusal]:
        """Return what was refused for one interface."""
        if not self._refusals:
            return ()
        return [self._refusals[operation] for operation in self._tried.get(name, ()) if operation in self._refusals]

    def drift_of(self, name: Name) -> DriftHistory:
        """Return how often one interface was changed by somebody else."""
        return self._drift.get(name, _CALM)

    def next_time(self, now: float) -> float | None:
        """Return when something that waits may be tried next, ``None`` if nothing waits for a time."""
        while self._times and not self._is_valid(self._times[0]):
            heappop(self._times)
        return max(self._times[0][0], now) if self._times else None

    def _is_valid(self, reminder: tuple[float, int, Operation | Name]) -> bool:
        time, _, what = reminder
        if isinstance(what, str):
            return (drift := self._drift.get(what)) is not None and drift.until == time
        return (refusal := self._refusals.get(what)) is not None and refusal.next_try == time

    def _remind(self, time: float, now: float, what: Operation | Name) -> None:
        if time > now:  # what may be tried now is planned anyway
            self._count += 1
            heappush(self._times, (time, self._count, what))

    def _remember(self, operation: Operation, names: frozenset[Name]) -> None:
        for node in _about(operation, names):
            self._tried.setdefault(node, {})[operation] = None

    def _forget(self, operation: Operation) -> None:
        refusal, names = self._refusals.pop(operation, None), self._accepted.pop(operation, frozenset())
        for node in _about(operation, names | refusal.names if refusal else names):
            operations = self._tried.get(node, {})
            operations.pop(operation, None)
            if not operations:
                self._tried.pop(node, None)


def _about(operation: Operation, names: frozenset[Name]) -> Iterable[Node]:
    """Return what an operation is for: interfaces, or the link or namespace that goes and belongs to none."""
    return names or [changed for changed in operation.changes if not isinstance(changed, NamespaceRef)]
