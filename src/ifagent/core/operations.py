"""The operations: one kernel request each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

from ifagent.core.link import Checksums, LinkData, LinkId, NsId
from ifagent.core.names import HostName, IPInterface
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.operation import (
    LinkOperation,
    Lookup,
    NamespaceOperation,
    Operation,
    Place,
    Target,
    resolved_namespace,
)


@dataclass(frozen=True, slots=True)
class CreateNamespace(NamespaceOperation):
    """Make a named namespace, marked as made by this agent."""

    namespace: NamespaceRef
    mark: str

    @property
    def changes(self) -> tuple[LinkId | NsId | NamespaceRef, ...]:
        """The reference."""
        return (self.namespace,)

    def __str__(self) -> str:
        """Say what it does."""
        return f"create namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class RemoveNamespace(NamespaceOperation):
    """Take away a named namespace that the agent made and nobody uses."""

    namespace: NamespaceRef
    id: NsId

    @property
    def places(self) -> tuple[Place, ...]:
        """The namespace."""
        return (self.id,)

    @property
    def changes(self) -> tuple[LinkId | NsId | NamespaceRef, ...]:
        """The namespace."""
        return (self.id,)

    def __str__(self) -> str:
        """Say what it does."""
        return f"remove namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """A link at its creation, one end of a pair for kinds that come in pairs."""

    namespace: Place
    host_name: HostName
    mac: str
    mtu: int

    @property
    def target(self) -> Target:
        """The link that the creation makes of this."""
        return Target(self.namespace, self.host_name)

    def resolved(self, lookup: Lookup) -> LinkEnd | None:
        """Fill in the id of its namespace; ``None`` if that does not exist yet."""
        namespace = resolved_namespace(self.namespace, lookup)
        return None if namespace is None else LinkEnd(namespace, self.host_name, self.mac, self.mtu)


@dataclass(frozen=True, slots=True)
class CreateLink(Operation):
    """Make a link, or both ends of a pair, in one request: in place under their final names, down, in ``group``.

    ``kind`` is what the kernel calls it (``IFLA_INFO_KIND``), ``data`` are settings of that kind, ``lower`` is the link
    that it sits on. ``master`` is the ifindex of the link that it is a port of, in its own namespace, 0 for none.
    """

    slow: ClassVar[bool] = True

    kind: str
    ends: tuple[LinkEnd, ...]
    group: int
    data: LinkData = ()
    lower: LinkId | None = None
    master: int = 0

    @property
    def places(self) -> tuple[Place, ...]:
        """The namespaces of all ends, and of the lower link."""
        ends = tuple(end.namespace for end in self.ends)
        return ends if self.lower is None or self.lower.namespace in ends else (*ends, self.lower.namespace)

    @property
    def names(self) -> tuple[tuple[Place, HostName], ...]:
        """Those of all ends."""
        return tuple((end.namespace, end.host_name) for end in self.ends)

    def resolved(self, lookup: Lookup) -> CreateLink | None:
        """Fill in the ids of the namespaces."""
        ends = tuple(end for each in self.ends if (end := each.resolved(lookup)) is not None)
        return replace(self, ends=ends) if len(ends) == len(self.ends) else None

    def __str__(self) -> str:
        """Say what it does."""
        return f"create {self.kind} {' - '.join(str(end.target) for end in self.ends)}{_told(self.data)}"


@dataclass(frozen=True, slots=True)
class ChangeLink(LinkOperation):
    """Change settings of a link that only links of its ``kind`` have, from what they are ``before``.

    Of a tunnel ``data`` are all of them, as the kernel forgets what it is not told again. So are ``sends_by``, the
    ifindex of the link that its packets leave by, 0 for any, and ``mtu``, ``None`` for one that the kernel works out.
    """

    target: Target
    kind: str
    data: LinkData
    sends_by: int | None = None
    mtu: int | None = None
    before: LinkData = ()

    def __str__(self) -> str:
        """Say what it does."""
        sends_by = "" if self.sends_by is None else f" sends_by={self.sends_by}"
        return f"change {self.kind} {self.target}:{_told(self.data)}{sends_by}"


@dataclass(frozen=True, slots=True)
class SetPort(LinkOperation):
    """Change settings that a link has as a port of its master, which is of ``kind``."""

    target: Target
    kind: str
    data: LinkData

    def __str__(self) -> str:
        """Say what it does."""
        return f"set {self.kind} port {self.target}:{_told(self.data)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLink(LinkOperation):
    """Change attributes of a link in place; ``None`` leaves an attribute as it is.

    ``master`` is the ifindex of the link that it becomes a port of, 0 for none.
    """

    target: Target
    host_name: HostName | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    alias: str | None = None
    group: int | None = None
    master: int | None = None

    @property
    def names(self) -> tuple[tuple[Place, HostName], ...]:
        """The new host name, if there is one."""
        return () if self.host_name is None else ((self.target.namespace, self.host_name),)

    def __str__(self) -> str:
        """Say what it does."""
        fields = ("host_name", "mac", "mtu", "up", "alias", "group", "master")
        values = [f"{name}={getattr(self, name)}" for name in fields if getattr(self, name) is not None]
        return f"set {self.target}: {' '.join(values)}"


@dataclass(frozen=True, slots=True)
class RemoveAltname(LinkOperation):
    """Take an alternative name off a link, which nothing in its namespace can have as host name meanwhile."""

    target: Target
    altname: HostName

    def __str__(self) -> str:
        """Say what it does."""
        return f"remove the altname {self.altname} of {self.target}"


@dataclass(frozen=True, slots=True)
class SetChecksums(LinkOperation):
    """Switch checksum offloading of a link on or off."""

    target: Target
    checksums: Checksums

    def __str__(self) -> str:
        """Say what it does."""
        rx, tx = ("on" if on else "off" for on in self.checksums)
        return f"set checksum offloading of {self.target}: rx {rx}, tx {tx}"


@dataclass(frozen=True, slots=True)
class MoveLink(LinkOperation):
    """Move a link to another namespace under its wanted name; it arrives down and without addresses.

    Without ``altnames`` it also arrives without the other names that somebody has given it.
    """

    slow: ClassVar[bool] = True

    target: Target
    to: Place
    host_name: HostName
    altnames: bool = True

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it is and where it goes."""
        return self.target.namespace, self.to

    @property
    def names(self) -> tuple[tuple[Place, HostName], ...]:
        """The host name that it arrives under."""
        return ((self.to, self.host_name),)

    def resolved(self, lookup: Lookup) -> MoveLink | None:
        """Fill in the ifindex of the link and the id of where it goes."""
        target, to = self.target.resolved(lookup), resolved_namespace(self.to, lookup)
        return None if target is None or to is None else MoveLink(target, to, self.host_name, self.altnames)

    def __str__(self) -> str:
        """Say what it does."""
        return f"move {self.target} to {Target(self.to, self.host_name)}"


@dataclass(frozen=True, slots=True)
class AddAddress(LinkOperation):
    """Give a link one more address; where the kernel lists it, see :mod:`ifagent.core.addresses`.

    ``peer`` is the other end's of a point-to-point link.
    """

    target: Target
    address: IPInterface
    peer: IPv4Address | IPv6Address | None = None

    def _at(self, target: Target) -> AddAddress:
        return AddAddress(target, self.address, self.peer)  # there are many, and replace() is slow

    def __str__(self) -> str:
        """Say what it does."""
        return f"add {self.address}{f' peer {self.peer}' if self.peer else ''} to {self.target}"


@dataclass(frozen=True, slots=True)
class ReplaceAddress(LinkOperation):
    """Give an address that is there what :class:`AddAddress` gives one, as far as the kernel changes that in place.

    Of IPv4 that is the lifetimes and the metric, of IPv6 the lifetimes and the flags.
    """

    target: Target
    address: IPInterface

    def __str__(self) -> str:
        """Say what it does."""
        return f"replace {self.address} on {self.target}"


@dataclass(frozen=True, slots=True)
class DeleteAddress(LinkOperation):
    """Take one address off a link; ``peer`` is the other end's where the address has one."""

    target: Target
    address: IPInterface
    peer: IPv4Address | IPv6Address | None = None

    def __str__(self) -> str:
        """Say what it does."""
        return f"delete {self.address} from {self.target}"


@dataclass(frozen=True, slots=True)
class RenewAddress(LinkOperation):
    """Take an IPv6 address off a link and add it again at once, so that the kernel looks for duplicates anew.

    That the kernel accepts it means nothing: the result shows in the address's flags a second or two later.
    """

    target: Target
    address: IPInterface

    def __str__(self) -> str:
        """Say what it does."""
        return f"look for duplicates of {self.address} on {self.target} again"


@dataclass(frozen=True, slots=True)
class PromoteSecondaries(LinkOperation):
    """Have the first secondary IPv4 address of a subnet take the place of a primary one that is deleted from now on.

    This is ``promote_secondaries`` of the one link; without it the secondaries go with their primary.
    """

    target: Target

    def __str__(self) -> str:
        """Say what it does."""
        return f"keep secondary addresses of {self.target}"


@dataclass(frozen=True, slots=True)
class DeleteLink(LinkOperation):
    """Delete a link of ours; the other end of a veth goes with it.

    Several in one namespace may be put into ``group`` first and deleted by that, all at once; 0 forbids it. No link
    that is to stay may be in that group. ``other`` is the other end of a veth, where it is known: deleting that does as
    well.
    """

    target: Target
    group: int = 0
    other: Target | None = None

    def __str__(self) -> str:
        """Say what it does."""
        return f"delete {self.target}"


def _told(data: LinkData) -> str:
    return "".join(f" {name}={value}" for name, value in data)
