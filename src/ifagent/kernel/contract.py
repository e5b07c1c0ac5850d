"""The interface between the agent and a kernel.

The Linux kernel and the simulated one implement it, and one conformance suite checks both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Protocol

from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import Event
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.link import LinkId, NsId
from ifagent.core.operation import Operation, Outcome
from ifagent.errors import NamespaceUnavailable

Emit = Callable[[Event], None]
"""Hands an event to the agent; never blocks, for the event loop only."""


class Kernel(Protocol):
    """A kernel as the agent uses it. Every method is called on the agent's event loop."""

    @property
    def own(self) -> NsId:
        """The namespace of the agent's process."""

    @property
    def ipv6_newest_first(self) -> bool:
        """The order in which the kernel lists IPv6 addresses of one scope; known once :meth:`run` has started."""

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled; at the end every socket and file is closed.

        Before ``task_status.started()`` it has emitted :class:`NamespacesListed`, and the
        :class:`NamespaceSeen` of the own namespace. Afterwards it emits a :class:`NamespacesListed` whenever
        named namespaces come or go, and a :class:`LinkSeen` for every change of a link or its addresses in
        the attached namespaces, as far as the kernel sends notifications: Linux sends none about alias and group of
        a link that is down. A namespace with too many changes, or with lost notifications, is not followed for a while:
        a :class:`NamespaceBehind` marks the beginning and the end, and a :class:`LinksListed` at intervals has the
        present links.
        """

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Open namespaces, follow them and emit a :class:`LinksListed` of each; list again those already attached.

        No change after the emitted listing is missed. One that is behind, or takes long to list, is listed later.
        Return those that cannot be opened or listed, because the path no longer leads there or may not be entered,
        and why.
        """

    async def relist(self) -> None:
        """List the named namespaces again, and emit :class:`NamespacesListed` if they have changed."""

    async def detach(self, namespace: NsId) -> None:
        """Stop following and close the namespace; emits :class:`LinksListed` with ``None``. Idempotent."""

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Execute operations that do not depend on each other, in parallel where possible.

        Every operation names namespaces by id (but for :class:`CreateNamespace`) and links by ifindex; the
        namespaces are attached. The outcomes are in the order of the operations; a refusal is an outcome and not an
        exception. When this returns, :meth:`drain` emits everything that the operations have changed, except in
        namespaces that are behind, and except what the kernel does later by itself (operstate, duplicate address
        detection, the end of a namespace). Operations on one link are executed in the order given.
        """

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Report ``checksums`` of exactly these links from now on, beginning with a :class:`LinkSeen` of each."""

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Return the routes of these namespaces, and which links lead to ``hosts``; what is not known is a problem.

        Routes that the kernel itself made for ``ours``, links of the agent, may be left out.
        """

    async def counters(self, namespaces: Collection[NsId]) -> Mapping[LinkId, LinkCounters]:
        """Return the counters of all links of these namespaces, as far as they are attached and can be read."""

    def drain(self) -> None:
        """Emit all changes notified so far."""
