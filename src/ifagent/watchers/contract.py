"""The contract of a watcher, which finds namespaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ifagent.core.events import Event
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType


class NamespaceWatcher(Protocol):
    """Resolves references of some types to namespaces, and watches them for changes.

    Named namespaces need no watcher: the kernel part of the agent watches them itself.
    """

    @property
    def types(self) -> frozenset[NamespaceType]:
        """The types of reference that it resolves."""

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Watch exactly these references from now on; called on the event loop, before and while it runs. Never blocks.

        References are of its types. For those no longer wanted no file stays open.
        """

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled, then close every file.

        Emits a :class:`NamespaceSeen` for every wanted reference soon after it is wanted, and whenever its result
        changes. Trouble, such as a container engine that cannot be reached, is the ``problem`` of its references, not
        an exception.
        """
