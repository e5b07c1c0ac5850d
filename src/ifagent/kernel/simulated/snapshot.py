"""What a simulated kernel contains at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ifagent.core.link import Link, LinkId, NsId
from ifagent.kernel.simulated.world import Where


@dataclass(frozen=True, slots=True)
class KernelSnapshot:
    """The whole world at one moment; equal snapshots mean equal worlds.

    ``namespaces`` are the named ones; ``links`` are the links of every namespace, named or not, attached or not,
    with their peers.
    """

    own: NsId
    namespaces: Mapping[str, NsId]
    links: Mapping[LinkId, Link]

    def links_in(self, where: Where) -> dict[str, Link]:
        """Return the links of one namespace by host name; none if there is no such namespace."""
        namespace = self.namespaces.get(where) if isinstance(where, str) and where else where or self.own
        return {str(link.host_name): link for link in self.links.values() if link.id.namespace == namespace}

    def link(self, where: Where, host_name: str) -> Link:
        """Return one link; raises ``KeyError`` if it is not there."""
        return self.links_in(where)[host_name]
