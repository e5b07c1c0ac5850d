"""What a watcher is to the agent: something that finds namespaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ifagent.core.events import Event
from ifagent.core.interface import NamespaceRef, NamespaceType


class NamespaceWatcher(Protocol):
    """Something that knows where references of some types lead.

    Named namespaces are not its business: the kernel's own listening tells of them.
    """

    @property
    def types(self) -> frozenset[NamespaceType]:
        """The types of reference that it follows."""

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Follow exactly these from now on; called on the event loop, before and while it runs. Never blocks.

        References are of its types. What is no longer wanted is let go of: no file stays open for it.
        """

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled; on the way out every file is closed.

        Emits a :class:`NamespaceSeen` for every wanted reference soon after it is wanted, and whenever what is
        said of it changes. Trouble with what is behind it, such as a container engine that is away, is the
        ``problem`` of its references, not an exception.
        """
