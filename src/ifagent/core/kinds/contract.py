"""What a kind of link is to the rest of the agent: one class a kind, with its fields and its rules. Pure.

A kind is a frozen dataclass of what only interfaces of that kind have. Everything that differs from kind to kind is
asked of it; whoever asks does not look at which kind it is. The defaults here are those of a link that the agent makes
by itself, beside no other link.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import ClassVar, NamedTuple, Protocol

from pydantic_core import PydanticCustomError

from ifagent.core.configure import Attributes
from ifagent.core.link import Link
from ifagent.core.names import HostName, IPInterface, Name, check_host_name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.observed import Observed
from ifagent.core.operation import Place, Target
from ifagent.core.ownership import Owner
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.remembered import Adoption

ETHERNET_MTU = range(68, 65536)
"""MTUs that the kernel's veth and TAP drivers take (``IFLA_MIN_MTU`` and ``IFLA_MAX_MTU``), in bytes."""

ANY_MTU = range(68, 2**31)
"""MTUs that are left to the kernel to judge, on links of kinds whose limits are not known here, in bytes."""

DEFAULT_MTU = 1500
"""The MTU that the kernel gives a new veth or TAP, in bytes."""


class Origin(Enum):
    """Where the link of an interface comes from."""

    CREATED = auto()
    """The agent makes it, and deletes it."""

    ADOPTED = auto()
    """Another program makes it in the agent's own namespace; the agent takes it over, and gives it back."""

    EXISTING = auto()
    """It is somebody else's for good: it is configured where it is, and let go of."""


class Reference(NamedTuple):
    """Another interface that one refers to, and the field that does.

    ``mutual`` says that the other one has to refer to this one in the same way, and that both links come and go as one.
    """

    to: Name
    field: str
    mutual: bool = False


class CommonFields(Protocol):
    """What interfaces of every kind have; see :class:`ifagent.core.interface.Interface`."""

    @property
    def name(self) -> Name: ...  # noqa: D102 the fields are told there
    @property
    def enabled(self) -> bool: ...  # noqa: D102
    @property
    def ip_addresses(self) -> tuple[IPInterface, ...]: ...  # noqa: D102
    @property
    def phys_address(self) -> str: ...  # noqa: D102
    @property
    def mtu(self) -> int: ...  # noqa: D102
    @property
    def host_name(self) -> HostName: ...  # noqa: D102
    @property
    def namespace(self) -> NamespaceRef: ...  # noqa: D102
    @property
    def link_only(self) -> bool: ...  # noqa: D102


class View(Protocol):
    """What the rules of kinds see while a plan is made; see :class:`ifagent.core.matches.LinkMatches`."""

    @property
    def owner(self) -> Owner: ...  # noqa: D102
    @property
    def policy(self) -> Policy: ...  # noqa: D102
    @property
    def observed(self) -> Observed: ...  # noqa: D102

    def place(self, interface: CommonFields, /) -> Place:
        """Return the namespace that an interface wants to be in; the reference if it does not exist."""
        ...

    def link_at_target(self, target: Target, /) -> Link | None:
        """Return the link that is called so in this namespace."""
        ...

    def interface_of(self, link: Link, /) -> Name | None:
        """Return the interface that a link belongs to."""
        ...

    def adoption(self, link: Link, /) -> Adoption | None:
        """Return how a link was adopted."""
        ...

    def why_not_adoptable(self, link: Link, /) -> str | None:
        """Say why a link is none that is adopted; the sentence begins with the link. ``None``: it may be."""
        ...


class LinkKind:
    """The base of all kinds.

    ``type`` is its name in Python, in files and in states. ``kernel_kind`` is what the kernel calls it
    (``IFLA_INFO_KIND``). ``mtus`` are those that its driver takes, ``default_mtu`` is the kernel's.
    ``makes_namespace`` says that a named namespace is made for it, although the link is not.
    """

    __slots__ = ()
    type: str
    origin: ClassVar[Origin] = Origin.CREATED
    kernel_kind: ClassVar[str] = ""
    mtus: ClassVar[range] = ETHERNET_MTU
    default_mtu: ClassVar[int] = DEFAULT_MTU
    makes_namespace: ClassVar[bool] = False

    # What may be declared

    def host_name(self, name: Name, given: str) -> HostName:
        """Return the host name that an interface's link is to have; ``given`` is empty where none was."""
        return HostName(given or name)

    def check_host_name(self, value: str) -> str:
        """Return a host name if a link of this kind can be called so, else raise ``ValueError`` with the rule."""
        return check_host_name(value)

    def check(self, interface: CommonFields) -> None:
        """Raise what :func:`wrong` makes for an interface that cannot be of this kind."""

    # What it has to do with others

    def references(self) -> Iterator[Reference]:
        """Yield the interfaces that this one refers to."""
        return iter(())

    def made_as(self, interface: CommonFields) -> HostName:  # noqa: ARG002 no program does
        """Return the host name under which another program makes the link, empty if none does."""
        return HostName("")

    def changes_link(self, interface: CommonFields) -> bool:  # noqa: ARG002 it is the agent's own
        """Tell whether anything is done to a link that is somebody else's for good."""
        return False

    # What it is to be like

    @property
    def unsupported(self) -> str:
        """Why nothing can be done about an interface of this kind yet, empty if something can."""
        return ""

    def obstacle(self, interface: CommonFields, link: Link | None, view: View) -> Obstacle | None:  # noqa: ARG002
        """Say what an interface waits for, or why its link is not to be touched."""
        return None

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:  # noqa: ARG002
        """Return what the link is to have; ``link`` is what it is now, ``None`` if it is to be made."""
        owner = view.owner
        return Attributes(
            host_name=interface.host_name,
            mac=None if interface.link_only else interface.phys_address or owner.default_mac(interface.name),
            mtu=interface.mtu or self.default_mtu,
            up=interface.enabled,
            alias=owner.alias(interface.name),
            group=owner.group,
            addresses=None if interface.link_only else interface.ip_addresses,
        )


def wrong(field: str, message: str) -> PydanticCustomError:
    """Make an error about one field for a rule that needs several."""
    return PydanticCustomError("ifagent", "{message}", {"ifagent_field": field, "message": message})
