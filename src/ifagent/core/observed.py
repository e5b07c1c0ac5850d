"""What is, as the planner takes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ifagent.core.host_routes import HostRoutes
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.remembered import Remembered


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a reference leads to no namespace; ``invalid`` if it never can as it is."""

    problem: str
    invalid: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What is, as the planner takes it.

    ``namespaces`` tells which namespace a reference leads to; ``links`` has every link of every namespace
    that is listened to, by ifindex. ``unreachable`` says why a namespace that exists cannot be entered, ``absent``
    why a reference leads to none.
    ``ipv6_newest_first`` says how this kernel lists IPv6 addresses of one scope. ``host`` are the namespaces that are
    the host's: the agent's own and that of the first process; ``host_routes`` is how the host is connected.
    ``remembered`` is what the agent knows of its own, whatever the marks say.
    """

    own: NsId
    namespaces: Mapping[NamespaceRef, NsId]
    links: Mapping[NsId, Mapping[int, Link]]
    unreachable: Mapping[NsId, str] = field(default_factory=dict)
    absent: Mapping[NamespaceRef, Absence] = field(default_factory=dict)
    ipv6_newest_first: bool = True
    host: frozenset[NsId] = frozenset()
    host_routes: HostRoutes = field(default_factory=HostRoutes)
    remembered: Remembered = field(default_factory=Remembered)

    def link(self, id: LinkId | None) -> Link | None:
        """Return the link, ``None`` if there is none or its namespace is not listened to."""
        return self.links.get(id.namespace, {}).get(id.ifindex) if id else None

    def peer(self, link: Link) -> Link | None:
        """Return the other end of a veth as far as it can be seen."""
        return self.link(link.peer)
