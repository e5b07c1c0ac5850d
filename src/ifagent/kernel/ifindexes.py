"""Chooses the ifindexes of the two ends of a new veth.

The kernel counts in every namespace separately, so the ends of a pair between two young namespaces often have the
same ifindex. It then takes an end for its own lower link, and reports its operstate up to a second late. Chosen here,
they always differ. Like the kernel's own choice they only increase while a namespace is attached, so that an ifindex is
not soon reused.

Anybody in a namespace may take the largest possible ifindex. Where no larger one is left, the kernel chooses.
"""

from __future__ import annotations

from typing import Final

from ifagent.core.link import LOOPBACK_IFINDEX, NsId

MAX_IFINDEX: Final = (1 << 31) - 1
"""The largest possible: the kernel stores it as a signed 32-bit number."""


class Ifindexes:
    """Remembers the highest ifindex seen in every attached namespace."""

    def __init__(self) -> None:
        self._highest: dict[NsId, int] = {}

    def seen(self, namespace: NsId, ifindex: int) -> None:
        """Record that a link has, or had, this ifindex."""
        self._highest[namespace] = max(ifindex, self._highest.get(namespace, LOOPBACK_IFINDEX))

    def forget(self, namespace: NsId) -> None:
        """Forget a namespace."""
        self._highest.pop(namespace, None)

    def choose(self, near: NsId, far: NsId) -> tuple[int, int]:
        """Return ifindexes for both ends of a pair; zero leaves the choice to the kernel.

        Another program may take one of them first: the kernel then refuses with ``EBUSY`` or ``EEXIST``.
        """
        if near == far:
            return 0, 0
        first = self._next(near)
        second = self._next(far)
        if first == second:
            second = self._next(far)
        return first, second

    def _next(self, namespace: NsId) -> int:
        """Return the ifindex above the highest one, 0 if there is none."""
        highest = self._highest.get(namespace, LOOPBACK_IFINDEX)
        if highest >= MAX_IFINDEX:
            return 0
        self._highest[namespace] = highest + 1
        return highest + 1
