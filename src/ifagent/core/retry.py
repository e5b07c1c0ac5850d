"""What may be tried when. Time is an argument, in seconds of any monotonic clock.

An operation that the kernel refused waits by the class of its errno: what was refused for good is tried again once its
link is different, as what stood in the way, such as IPv6 being off, may be gone. Whether another host on the link still
has an address is checked again after a time, or once the link or its peer is different. A changed declaration clears
what stood in the way of a resource.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from ifagent.core.agenda import Node
from ifagent.core.backoff import LAST_DELAY, delay
from ifagent.core.link import Link
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import DeleteAddress, DeleteLink, PromoteSecondaries, RemoveNamespace, RenewAddress
from ifagent.core.reminders import Reminders
from ifagent.core.resources import Key

DETECTION = 3.0
"""Seconds from one look for duplicates of an address to the next, doubled with every further one; one takes 1 to 2."""


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
    errno.ELOOP: ErrorClass.PERMANENT,
    errno.ENOTEMPTY: ErrorClass.PERMANENT,
    errno.EAFNOSUPPORT: ErrorClass.PERMANENT,
    errno.EPROTONOSUPPORT: ErrorClass.PERMANENT,
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


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operation that did not succeed, and what was known of its link when it was tried.

    ``next_try`` is ``None`` when only a change can help. ``surroundings`` are what it depends on whether an address has
    duplicates, as known when they were looked for, at ``tried``.
    """

    operation: Operation
    keys: frozenset[Key]
    text: str
    attempts: int
    next_try: float | None
    link: Link | None = None
    tried: float = 0.0
    surroundings: object = None


class RetryBook:
    """Remembers what was refused; forgets it when it no longer matters."""

    def __init__(self) -> None:
        self._refusals: dict[Operation, Refusal] = {}
        self._accepted: dict[Operation, frozenset[Key]] = {}
        self._tried: dict[Node, dict[Operation, None]] = {}
        self._reminders: Reminders[Operation] = Reminders(self._next_try)

    def may_try(self, operation: Operation, now: float) -> bool:
        """Tell whether an operation may be carried out now."""
        refusal = self._refusals.get(operation) if self._refusals else None
        return refusal is None or (refusal.next_try is not None and now >= refusal.next_try)

    def refused(self, outcome: Outcome, keys: frozenset[Key], text: str, now: float, link: Link | None = None) -> None:
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
        self._refusals[operation] = Refusal(operation, keys, text, attempts, next_try, link)
        self._remember(operation, keys)
        # A resource for which something may be tried now is planned anyway.
        if next_try is not None and (next_try > now or not keys):
            self._reminders.add(next_try, operation)

    def accepted(self, operation: Operation, keys: frozenset[Key]) -> None:
        """Note that the kernel has carried out an operation.

        What was refused of it before stays known until it is not planned any more: it may have had no effect.
        """
        if isinstance(operation, RemoveNamespace):
            self._forget(operation)
        elif not isinstance(operation, PromoteSecondaries):  # nothing that is observed tells of it
            self._accepted[operation] = keys
            self._remember(operation, keys)

    def renewed(self, operation: RenewAddress, keys: frozenset[Key], now: float, surroundings: object) -> None:
        """Note that duplicates of an address are looked for again: whether there still are any is not known yet."""
        before = self._refusals.get(operation)
        attempts = before.attempts + 1 if before else 1
        next_try = now + min(DETECTION * 2 ** min(attempts - 1, 16), LAST_DELAY)
        self._forget(operation)
        self._refusals[operation] = Refusal(
            operation, keys, str(operation), attempts, next_try, tried=now, surroundings=surroundings
        )
        self._remember(operation, keys)
        self._reminders.add(next_try, operation)

    def take_ineffective(self, operations: Iterable[Operation]) -> list[Operation]:
        """Return, once, those of some operations that were carried out and are to be again: they had no effect."""
        if not self._accepted:
            return []
        return [operation for operation in operations if self._accepted.pop(operation, None) is not None]

    def retry_permanent(self) -> None:
        """Have tried again what was refused for good: what stood in the way may be gone without anybody's saying so."""
        for refusal in [r for r in self._refusals.values() if r.next_try is None]:
            self._forget(refusal.operation)

    def retry_if_link_changed(
        self,
        keys: Iterable[Key],
        link: Callable[[Operation], Link | None],
        surroundings: Callable[[Operation], object] = lambda _: None,
    ) -> None:
        """Have tried again what was refused for good on a link that is another by now; ``link`` tells what it is.

        Duplicates of an address are looked for again where that may end otherwise by now, as ``surroundings`` tells,
        but no sooner after the last time than :data:`DETECTION`. ``keys`` are the resources that may be concerned.
        """
        if not self._refusals:
            return
        for refusal in [refusal for key in keys for refusal in self.refusals_of(key)]:
            operation, next_try = refusal.operation, refusal.next_try
            if next_try is None:
                if link(operation) != refusal.link:
                    self._forget(operation)
            elif isinstance(operation, RenewAddress) and (now := surroundings(operation)) != refusal.surroundings:
                soon = min(next_try, refusal.tried + DETECTION)
                self._refusals[operation] = replace(refusal, next_try=soon, surroundings=now)
                self._reminders.add(soon, operation)

    def forget(self, key: Key) -> None:
        """Forget what stood in the way of a resource: its declaration changed, or is no more."""
        for operation in list(self._tried.get(key, ())):
            self._forget(operation)

    def keep_only(self, operations: Collection[Operation], about: Iterable[Node]) -> None:
        """Forget what was tried for resources, links and namespaces that were planned and is not planned any more."""
        if not self._tried:
            return
        for node in about:
            for operation in [each for each in self._tried.get(node, ()) if each not in operations]:
                self._forget(operation)

    def due(self, now: float) -> set[Node]:
        """Return, once, for what something may be tried again by now."""
        return {
            node for operation in self._reminders.due(now) for node in _about(operation, self._refusals[operation].keys)
        }

    def refusals_of(self, key: Key) -> Sequence[Refusal]:
        """Return what was refused for one resource."""
        if not self._refusals:
            return ()
        return [self._refusals[operation] for operation in self._tried.get(key, ()) if operation in self._refusals]

    def next_time(self) -> float | None:
        """Return when something that waits may be tried next, ``None`` if nothing waits for a time."""
        return self._reminders.next_time()

    def _next_try(self, operation: Operation) -> float | None:
        refusal = self._refusals.get(operation)
        return None if refusal is None else refusal.next_try

    def _remember(self, operation: Operation, keys: frozenset[Key]) -> None:
        for node in _about(operation, keys):
            self._tried.setdefault(node, {})[operation] = None

    def _forget(self, operation: Operation) -> None:
        refusal, keys = self._refusals.pop(operation, None), self._accepted.pop(operation, frozenset())
        for node in _about(operation, keys | refusal.keys if refusal else keys):
            operations = self._tried.get(node, {})
            operations.pop(operation, None)
            if not operations:
                self._tried.pop(node, None)


def _about(operation: Operation, keys: frozenset[Key]) -> Iterable[Node]:
    """Return what an operation is for: resources, or the link or namespace that goes and belongs to none."""
    return keys or [changed for changed in operation.changes if not isinstance(changed, NamespaceRef)]
