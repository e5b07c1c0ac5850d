"""The seam between the agent and a kernel.

Two kernels keep this contract, the real one and the simulated one, and one conformance suite checks both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Protocol

from anyio.abc import TaskStatus

from ifagent.core.counters import LinkCounters
from ifagent.core.events import Event
from ifagent.core.host_routes import HostRoutes, IPAddress
from ifagent.core.link import LinkId, NsId
from ifagent.core.operations import Operation, Outcome
from ifagent.errors import NamespaceUnavailable

Emit = Callable[[Event], None]
"""How an edge tells the loop something; never blocks, to be called on the event loop only."""


class Kernel(Protocol):
    """A kernel as the agent uses it. Every method is called on the agent's event loop."""

    @property
    def own(self) -> NsId:
        """The namespace that the agent itself lives in."""

    @property
    def ipv6_newest_first(self) -> bool:
        """How the kernel lists IPv6 addresses of one scope; known once :meth:`run` has started."""

    async def run(self, emit: Emit, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled; on the way out every socket and file is closed.

        Before ``task_status.started()`` it has emitted :class:`NamespacesListed`, and the
        :class:`NamespaceSeen` of the own namespace. Afterwards it emits a :class:`NamespacesListed` whenever
        named namespaces come or go, and a :class:`LinkSeen` for every change of a link or its addresses in
        the namespaces that are attached, as far as the kernel tells: Linux is silent about alias and group of
        a link that is down. A namespace in which too much happens, or of which something was lost, is not followed
        for a while: a :class:`NamespaceBehind` says so, and when it is over, and a :class:`LinksListed` now and
        then what there is.
        """

    async def attach(self, paths: Mapping[NsId, str]) -> dict[NsId, NamespaceUnavailable]:
        """Open namespaces, listen to them and emit a :class:`LinksListed` of each; once attached, look again.

        No change after the emitted listing is missed. One that is behind, or takes long to list, is listed later.
        Returns those that could not be opened or listed, because the path no longer leads there or may not be
        entered, and why.
        """

    async def relist(self) -> None:
        """Look anew which named namespaces there are, and emit :class:`NamespacesListed` if that has changed."""

    async def detach(self, namespace: NsId) -> None:
        """Stop listening and let go of the namespace; emits :class:`LinksListed` with ``None``. Idempotent."""

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations that do not depend on each other, in parallel where it can.

        Every operation names namespaces by id (but for :class:`CreateNamespace`) and links by ifindex; the
        namespaces are attached. The outcomes are in the order of the operations. No exception tells of a
        refusal. When this returns, :meth:`drain` hands on everything the operations have changed, except in
        namespaces that are behind, and except what the kernel does later by itself (operstate, duplicate address
        detection, the dying of a namespace). Operations on one link are carried out in the order given.
        """

    async def inspect(self, links: Collection[LinkId]) -> None:
        """Tell ``checksums`` of exactly these links from now on, in a :class:`LinkSeen` of each that is there."""

    async def host_routes(
        self, namespaces: Collection[NsId], hosts: Collection[IPAddress], ours: Container[LinkId]
    ) -> HostRoutes:
        """Return the routes of these namespaces, and which links lead to ``hosts``; what is not known is a problem.

        What the kernel itself has made for ``ours``, links of the agent's, may be left out.
        """

    async def counters(self, namespaces: Collection[NsId]) -> Mapping[LinkId, LinkCounters]:
        """Return what every link of these namespaces has counted, as far as they are attached and can be read."""

    def drain(self) -> None:
        """Emit everything that the kernel has said so far."""
