"""Operations: one kernel request each.

An operation is a frozen value: equal operations ask for the same thing, and printing one says what it
does. It names a link by its ifindex where the link exists, and by namespace and host name where an
operation before it makes the link; the same holds for namespaces (see :class:`Target`).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ifagent.core.interface import HostName, IPInterface, NamespaceRef
from ifagent.core.link import Checksums, NsId

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


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Make a named namespace, marked as made by this agent."""

    namespace: NamespaceRef
    mark: str

    def __str__(self) -> str:
        """Say what it does."""
        return f"create namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class RemoveNamespace:
    """Take away a named namespace that the agent made and nobody uses."""

    namespace: NamespaceRef
    id: NsId

    def __str__(self) -> str:
        """Say what it does."""
        return f"remove namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a veth pair at its creation."""

    namespace: Place
    host_name: HostName
    mac: str
    mtu: int

    @property
    def target(self) -> Target:
        """The link that the creation makes of this end."""
        return Target(self.namespace, self.host_name)


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Make a veth pair in one request: both ends in place under their final names, down, in ``group``."""

    near: VethEnd
    far: VethEnd
    group: int

    def __str__(self) -> str:
        """Say what it does."""
        return f"create veth {self.near.target} - {self.far.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLink:
    """Change attributes of a link in place; ``None`` leaves an attribute as it is.

    ``master`` is the ifindex of the link that it becomes a port of.
    """

    target: Target
    host_name: HostName | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    alias: str | None = None
    group: int | None = None
    master: int | None = None

    def __str__(self) -> str:
        """Say what it does."""
        fields = ("host_name", "mac", "mtu", "up", "alias", "group", "master")
        values = [f"{name}={getattr(self, name)}" for name in fields if getattr(self, name) is not None]
        return f"set {self.target}: {' '.join(values)}"


@dataclass(frozen=True, slots=True)
class RemoveAltname:
    """Take an alternative name off a link, which nothing in its namespace can have as host name meanwhile."""

    target: Target
    altname: HostName

    def __str__(self) -> str:
        """Say what it does."""
        return f"remove the altname {self.altname} of {self.target}"


@dataclass(frozen=True, slots=True)
class SetChecksums:
    """Switch checksum offloading of a link on or off."""

    target: Target
    checksums: Checksums

    def __str__(self) -> str:
        """Say what it does."""
        rx, tx = ("on" if on else "off" for on in self.checksums)
        return f"set checksum offloading of {self.target}: rx {rx}, tx {tx}"


@dataclass(frozen=True, slots=True)
class MoveLink:
    """Move a link to another namespace under its wanted name; it arrives down and without addresses."""

    target: Target
    to: Place
    host_name: HostName

    def __str__(self) -> str:
        """Say what it does."""
        return f"move {self.target} to {Target(self.to, self.host_name)}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give a link one more address; where the kernel lists it, see :mod:`ifagent.core.addresses`."""

    target: Target
    address: IPInterface

    def __str__(self) -> str:
        """Say what it does."""
        return f"add {self.address} to {self.target}"


@dataclass(frozen=True, slots=True)
class ReplaceAddress:
    """Give an address that is there what :class:`AddAddress` gives one, as far as the kernel changes that in place.

    Of IPv4 that is the lifetimes and the metric, of IPv6 the lifetimes and the flags.
    """

    target: Target
    address: IPInterface

    def __str__(self) -> str:
        """Say what it does."""
        return f"replace {self.address} on {self.target}"


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    """Take one address off a link; ``peer`` is the other end's where the address has one."""

    target: Target
    address: IPInterface
    peer: IPv4Address | IPv6Address | None = None

    def __str__(self) -> str:
        """Say what it does."""
        return f"delete {self.address} from {self.target}"


@dataclass(frozen=True, slots=True)
class RenewAddress:
    """Take an IPv6 address off a link and add it again at once, so that the kernel looks for duplicates anew.

    That the kernel accepts it says nothing: what it finds is told of the address a second or two later.
    """

    target: Target
    address: IPInterface

    def __str__(self) -> str:
        """Say what it does."""
        return f"look for duplicates of {self.address} on {self.target} again"


@dataclass(frozen=True, slots=True)
class PromoteSecondaries:
    """Have the first secondary IPv4 address of a subnet take the place of a primary one that is deleted from now on.

    This is ``promote_secondaries`` of the one link; without it the secondaries go with their primary.
    """

    target: Target

    def __str__(self) -> str:
        """Say what it does."""
        return f"keep secondary addresses of {self.target}"


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a link of ours; the other end of a veth goes with it.

    Several in one namespace may be put into ``group`` first and deleted by that, all at once; 0 forbids it. No link
    that is to stay may be in that group.
    """

    target: Target
    group: int = 0

    def __str__(self) -> str:
        """Say what it does."""
        return f"delete {self.target}"


AddressOperation = AddAddress | ReplaceAddress | DeleteAddress | RenewAddress | PromoteSecondaries
LinkOperation = SetLink | RemoveAltname | SetChecksums | MoveLink | AddressOperation | DeleteLink
Operation = CreateNamespace | RemoveNamespace | CreateVeth | LinkOperation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the kernel answered to one operation: ``errno`` 0 is success, ``text`` its extended acknowledgement."""

    operation: Operation
    errno: int = 0
    text: str = ""
