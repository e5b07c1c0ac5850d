"""Waiting until what was said has been acted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio

from ifagent.core.agenda import Agenda, Node
from ifagent.core.resources import Key
from ifagent.inbox import Inbox


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody who waits for ``left``, or, while that is ``None``, for everything that is on the agenda then.

    ``sequence`` is what has to be taken in first.
    """

    sequence: int
    left: set[Node] | None
    done: anyio.Event = field(default_factory=anyio.Event)


class Settling:
    """Lets callers wait; after every round, :meth:`look` tells those whose wait is over."""

    def __init__(self, inbox: Inbox, agenda: Agenda) -> None:
        self._inbox = inbox
        self._agenda = agenda
        self._waiters: list[_Waiter] = []
        self._closed = False

    async def wait(self, key: Key | None = None) -> None:
        """Wait until a resource, or everything, is planned and published with all that was said until now.

        Returns at once after :meth:`close`.
        """
        if self._closed:
            return
        waiter = _Waiter(self._inbox.put_marker(), None if key is None else {key})
        self._waiters.append(waiter)
        try:
            await waiter.done.wait()
        finally:
            self._waiters.remove(waiter)

    def look(self, folded: int, planned: Mapping[Key, int]) -> None:
        """Take note of a round: up to where all is taken in, and as of when resources are planned and published."""
        for waiter in self._waiters:
            if folded < waiter.sequence:
                continue
            if waiter.left is None:
                waiter.left = set(self._agenda)
            waiter.left.difference_update(key for key, sequence in planned.items() if sequence >= waiter.sequence)
            if not self._has_any(waiter.left):
                waiter.done.set()

    def _has_any(self, left: set[Node]) -> bool:
        """Tell whether any is still on the agenda; those that are not are taken out until one is found.

        There may be very many, and a round is not to look at all of them each time.
        """
        while left:
            node = left.pop()
            if node in self._agenda:
                left.add(node)
                return True
        return False

    def close(self) -> None:
        """End every wait."""
        self._closed = True
        for waiter in self._waiters:
            waiter.done.set()
