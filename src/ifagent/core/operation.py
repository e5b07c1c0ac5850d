"""What all operations have in common: what they name, and how that is found once it exists.

An operation is a frozen value: equal operations ask for the same thing, and printing one says what it
does. It names a link by its ifindex where the link exists, and by namespace and host name where an
operation before it makes the link; the same holds for namespaces (see :class:`Target`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import NamespaceRef

Place = NsId | NamespaceRef
"""A namespace: its id where it exists, its reference where an operation before this one makes it."""


@dataclass(frozen=True, slots=True)
class Target:
    """The link that an operation is about; ``ifindex`` is ``None`` while the link is yet to be made."""

    namespace: Place
    host_name: HostName
    ifindex: int | None = None

    def __str__(self) -> str:
        """Host name and namespace, as in ``eth0 in named:ns1``."""
        place = self.namespace
        return f"{self.host_name} in {place}" if isinstance(place, NamespaceRef) else f"{self.host_name} in [{place}]"

    @classmethod
    def of(cls, link: Link) -> Target:
        """Name a link that exists."""
        return cls(link.id.namespace, link.host_name, link.id.ifindex)

    @property
    def link(self) -> LinkId | None:
        """The link, if it exists."""
        if self.ifindex is None or isinstance(self.namespace, NamespaceRef):
            return None
        return LinkId(self.namespace, self.ifindex)

    def resolved(self, lookup: Lookup) -> Target | None:
        """Fill in the ifindex of the link; ``None`` if it does not exist yet."""
        if self.ifindex is not None:
            return self
        namespace = resolved_namespace(self.namespace, lookup)
        link = lookup.link_named(namespace, self.host_name) if namespace is not None else None
        return Target.of(link) if link else None


class Lookup(Protocol):
    """What there is by now of that which an operation names."""

    def namespace(self, ref: NamespaceRef, /) -> NsId | None:
        """Return the namespace that a reference leads to."""
        ...

    def link_named(self, namespace: NsId, host_name: HostName, /) -> Link | None:
        """Return the link with this host name."""
        ...


class Operation:
    """One request to the kernel, and what it names.

    ``slow`` ones make the kernel wait, mostly for every processor to have noticed.
    """

    __slots__ = ()
    slow: ClassVar[bool] = False

    @property
    def places(self) -> tuple[Place, ...]:
        """The namespaces that it names; it is sent in the first of them."""
        return ()

    @property
    def namespaces(self) -> tuple[NsId, ...]:
        """Those of ``places`` that exist."""
        return tuple(place for place in self.places if not isinstance(place, NamespaceRef))

    @property
    def targets(self) -> tuple[Target, ...]:
        """The links that it changes."""
        return ()

    @property
    def changes(self) -> tuple[LinkId | NsId | NamespaceRef, ...]:
        """The links and namespaces that it changes or makes, as far as they have an id or a reference."""
        return tuple(id for target in self.targets if (id := target.link) is not None)

    @property
    def names(self) -> tuple[tuple[Place, HostName], ...]:
        """The host names that it gives to links, and in which namespaces."""
        return ()

    def resolved(self, lookup: Lookup) -> Self | None:  # noqa: ARG002 for those that name something
        """Fill in the ids of what did not exist when it was planned; ``None`` if it still does not."""
        return self


class NamespaceOperation(Operation):
    """Makes or removes a named namespace."""

    __slots__ = ()
    slow: ClassVar[bool] = True
    namespace: NamespaceRef


class LinkOperation(Operation):
    """Changes one link."""

    __slots__ = ()
    target: Target

    @property
    def places(self) -> tuple[Place, ...]:
        """The namespace of the link."""
        return (self.target.namespace,)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The link."""
        return (self.target,)

    def resolved(self, lookup: Lookup) -> Self | None:
        """Fill in the ifindex of the link."""
        target = self.target.resolved(lookup)
        return None if target is None else self if target is self.target else self._at(target)

    def _at(self, target: Target) -> Self:
        """Return the same about another target."""
        return replace(self, target=target)  # type: ignore[type-var]  # each is a dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the kernel answered to one operation: ``errno`` 0 is success, ``text`` its extended acknowledgement.

    With success ``text`` says what could not be done beside it, if anything.
    """

    operation: Operation
    errno: int = 0
    text: str = ""


def resolved_namespace(place: Place, lookup: Lookup) -> NsId | None:
    """Return the id of a namespace, ``None`` if it does not exist yet."""
    return lookup.namespace(place) if isinstance(place, NamespaceRef) else place
