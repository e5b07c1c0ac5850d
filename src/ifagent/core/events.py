"""The only things an edge may say to the loop.

Every event is a full statement about its ``topic``: the newest one makes older ones about the same topic
pointless, so the inbox keeps one per topic. Events say what is so, never what to do.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from ifagent.core.host_routes import HostRoutes
from ifagent.core.interface import Interface
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.resources import Key, interface_key
from ifagent.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What one source says of one resource: a valid interface, or what is wrong with the value.

    Exactly one of ``interface`` and ``errors`` is there. ``revision`` is the store's own count
    (etcd: ``mod_revision``), 0 where a source has none.
    """

    key: Key
    interface: Interface | None = None
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()
    revision: int = 0

    @classmethod
    def of(cls, interface: Interface, *, warnings: tuple[str, ...] = (), revision: int = 0) -> Declaration:
        """Return what says that a valid interface is declared."""
        key = interface_key(interface.name)
        return cls(key=key, interface=interface, warnings=warnings, revision=revision)


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """Everything that a source declares: replaces its whole contribution, and makes it synced.

    ``complete`` false says that the source knows of declarations it cannot read (a broken file): nothing is
    removed as unwanted while that lasts, and a source that was never complete has not been heard yet. ``recalled``
    says that it is what the source said in an earlier life, which has to do for being heard.
    """

    source: str
    declarations: Mapping[Key, Declaration]
    complete: bool = True
    recalled: bool = False

    @property
    def topic(self) -> Hashable:
        """One statement per source."""
        return ("source", self.source)


@dataclass(frozen=True, slots=True)
class Declared:
    """One resource of one source is declared, or changed; ``None`` takes it back.

    Statements made without an ``await`` between them are seen by the planner as one change.
    """

    source: str
    key: Key
    declaration: Declaration | None

    @property
    def topic(self) -> Hashable:
        """One statement per source and resource."""
        return ("declared", self.source, self.key)


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Whether a source can be heard right now; ``problem`` is empty when it can."""

    source: str
    problem: str = ""

    @property
    def topic(self) -> Hashable:
        """One statement per source."""
        return ("health", self.source)


@dataclass(frozen=True, slots=True)
class SourceRevision:
    """A source has said everything up to this revision of its store, deletions among it.

    Said after what the revision did, without an ``await`` between.
    """

    source: str
    revision: int

    @property
    def topic(self) -> Hashable:
        """One statement per source."""
        return ("revision", self.source)


@dataclass(frozen=True, slots=True)
class NamespaceSeen:
    """A reference leads to a namespace, which can be opened at ``path``; ``id`` ``None``: to none.

    ``problem`` then says why, in a sentence that starts after the reference, such as ``has ended``.
    ``invalid`` says that it can never lead to one as it is, because it names something else.
    """

    ref: NamespaceRef
    id: NsId | None
    path: str = ""
    problem: str = ""
    invalid: bool = False

    @property
    def topic(self) -> Hashable:
        """One statement per reference."""
        return ("namespace", self.ref)


@dataclass(frozen=True, slots=True)
class NamespacesListed:
    """All named namespaces there are, by name: replaces everything said of named ones before."""

    paths: Mapping[NamespaceRef, tuple[NsId, str]]

    @property
    def topic(self) -> Hashable:
        """One statement for all."""
        return ("namespaces",)


@dataclass(frozen=True, slots=True)
class LinksListed:
    """Every link of one namespace, from a dump; ``None``: the namespace is no longer followed.

    ``cookie`` tells the namespace from all others of this boot (``SO_NETNS_COOKIE``), 0 where that is not known.
    """

    namespace: NsId
    links: Mapping[int, Link] | None
    cookie: int = 0

    @property
    def topic(self) -> Hashable:
        """One statement per namespace."""
        return ("links", self.namespace)


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """One link as it is now with its addresses; ``link`` ``None``: it is gone."""

    id: LinkId
    link: Link | None

    @property
    def topic(self) -> Hashable:
        """One statement per link."""
        return ("link", self.id)


@dataclass(frozen=True, slots=True)
class NamespaceBehind:
    """Whether what is known of a namespace is older than what it has said.

    Somebody there makes more changes than it is fair to follow one by one, so they are not read. Each
    :class:`LinksListed` of it is current when it is said, and old again soon after for as long as it is ``behind``.
    """

    namespace: NsId
    behind: bool

    @property
    def topic(self) -> Hashable:
        """One statement per namespace."""
        return ("behind", self.namespace)


@dataclass(frozen=True, slots=True)
class NamespaceUnreachable:
    """A namespace that exists could not be entered or listed; ``problem`` says why."""

    namespace: NsId
    problem: str

    @property
    def topic(self) -> Hashable:
        """One statement per namespace."""
        return ("unreachable", self.namespace)


@dataclass(frozen=True, slots=True)
class HostRoutesSeen:
    """By which routes the host is connected, as far as ``namespaces`` of the host tell."""

    routes: HostRoutes
    namespaces: frozenset[NsId]

    @property
    def topic(self) -> Hashable:
        """One statement for all."""
        return ("host routes",)


Event = (
    SourceSnapshot
    | Declared
    | SourceHealth
    | SourceRevision
    | NamespaceSeen
    | NamespacesListed
    | LinksListed
    | LinkSeen
    | NamespaceBehind
    | NamespaceUnreachable
    | HostRoutesSeen
)
