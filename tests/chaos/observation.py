"""What is there: links in namespaces, and the states that the agent publishes. Plain values, however they were got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.values import Space

SpaceId = int
"""The inode number of a network namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link as the kernel tells it; ``addresses`` without automatic ones of fe80::/10."""

    host_name: str
    space: SpaceId
    ifindex: int = 0
    kind: str = "veth"
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    alias: str = ""
    group: str = ""
    addresses: tuple[str, ...] = ()
    peer: int | str | None = None
    """The peer's ifindex, or its host name where it is in the same namespace."""

    @property
    def place(self) -> tuple[SpaceId, str]:
        """Where it is."""
        return self.space, self.host_name

    @property
    def tap(self) -> str:
        """What the creator of a TAP has called it, which the alias says of one that is adopted; empty for others."""
        if self.kind != "tun":
            return ""
        return self.alias.split("/")[2] if self.alias.startswith("ifagent-tap/") else self.host_name

    def is_end_with(self, other: Link) -> bool:
        """Tell whether the two may be the ends of one pair: across namespaces only the ifindexes tell."""

        def names(one: Link, far: Link) -> bool:
            if one.space == far.space:
                return one.peer == far.host_name
            return one.peer == far.ifindex

        return self.kind == other.kind == "veth" and names(self, other) and names(other, self)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything at one moment.

    ``spaces`` says where references lead, of those that lead anywhere; ``ordinary`` are the file references that lead
    to something else than a namespace. IPv6 is off in those ``without_ipv6``. ``named`` are the namespaces with a
    name, ``stale`` what else is in their directory. ``states`` are as published, by name.
    """

    own: SpaceId
    spaces: Mapping[Space, SpaceId]
    links: tuple[Link, ...]
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ordinary: frozenset[Space] = frozenset()
    without_ipv6: frozenset[SpaceId] = frozenset()
    named: Mapping[str, SpaceId] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
