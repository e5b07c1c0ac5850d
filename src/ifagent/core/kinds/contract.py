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
from ifagent.core.link import Link, LinkData
from ifagent.core.names import HostName, IPInterface, Name, check_host_name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.observed import Observed
from ifagent.core.operation import Place, Target
from ifagent.core.ownership import Owner
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.remembered import Adoption
from ifagent.core.state import ConfigState

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


class Need(Enum):
    """What an interface needs another one for that it refers to."""

    PEER = auto()
    """That one has to refer to this one in the same way, and both links are made and deleted as one."""

    LOWER = auto()
    """This one's link sits on that one's: it is made after that, and goes with it."""

    MASTER = auto()
    """This one's link is a port of that one's. Only that waits for it, the link itself does not."""


class Reference(NamedTuple):
    """Another interface that one refers to, the field that does, and what for."""

    to: Name
    field: str
    need: Need


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
    @property
    def master(self) -> Name: ...  # noqa: D102
    @property
    def master_field(self) -> str: ...  # noqa: D102


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

    def link_for(self, name: Name, /) -> Link | None:
        """Return the link of an interface; ``None`` while it has none."""
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

    ``type`` is its name in Python, in files and in states. ``kernel_kinds`` is what the kernel calls it
    (``IFLA_INFO_KIND``), several words where fields decide. ``mtus`` are those that its driver takes, ``usual_mtu`` is
    the kernel's, 0 where that depends on more than the kind. ``makes_namespace`` says that a named namespace is made
    for it, although the link is not.

    ``settings`` are the fields that are settings of its link (:attr:`Link.data`), in the order of that. Those in
    ``fixed`` are given to a link at its creation for good, those ``only_down`` are changed while it is down; the
    defaults of those in ``unlike_kernel`` are not the kernel's. ``movable`` links go to another namespace as they are;
    others are made anew there. ``has_mac`` links have a MAC of their own; others have none, or that of their lower
    link, unless one is declared. ``is_master`` says that other links can be its ports; if it ``rules_ports``, they
    have its MAC and MTU, join it down and are set up by that.
    """

    __slots__ = ()
    type: str
    origin: ClassVar[Origin] = Origin.CREATED
    kernel_kinds: ClassVar[tuple[str, ...]] = ()
    mtus: ClassVar[range] = ETHERNET_MTU
    usual_mtu: ClassVar[int] = DEFAULT_MTU
    makes_namespace: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[frozenset[str]] = frozenset()
    only_down: ClassVar[frozenset[str]] = frozenset()
    unlike_kernel: ClassVar[frozenset[str]] = frozenset()
    movable: ClassVar[bool] = True
    has_mac: ClassVar[bool] = True
    is_master: ClassVar[bool] = False
    rules_ports: ClassVar[bool] = False

    @property
    def kernel_kind(self) -> str:
        """What the kernel calls the kind of its link, empty for a link of any kind."""
        return self.kernel_kinds[0] if self.kernel_kinds else ""

    @property
    def ethernet(self) -> bool:
        """Whether its link carries Ethernet frames, as ports of bridges and bonds have to."""
        return True

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

    def obstacle(self, interface: CommonFields, link: Link | None, view: View) -> Obstacle | None:  # noqa: ARG002
        """Say what an interface waits for, or why its link is not to be touched."""
        return None

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have; ``link`` is what it is now, ``None`` if it is to be made."""
        owner = view.owner
        mac = interface.phys_address or (owner.default_mac(interface.name) if self.has_mac else None)
        return Attributes(
            host_name=interface.host_name,
            mac=None if interface.link_only else mac,
            mtu=interface.mtu or self.usual_mtu or None,
            up=interface.enabled,
            alias=owner.alias(interface.name),
            group=owner.group,
            addresses=None if interface.link_only else interface.ip_addresses,
            data=self.data(link),
            only_down=self.only_down,
        )

    def data(self, link: Link | None = None) -> LinkData:
        """Return the settings that its link is to have.

        Of one that is to be made, those that the kernel would not choose by itself: it may refuse even the default of
        what it is built without. Of one that is there, those that this kernel has.
        """
        if link is not None:
            has = dict(link.data)
            return tuple((name, getattr(self, name)) for name in self.settings if name in has)
        return tuple(
            (name, getattr(self, name))
            for name in self.settings
            if name in self.unlike_kernel or getattr(self, name) != self._default(name)
        )

    def _default(self, name: str) -> object:
        return type(self).__dataclass_fields__[name].default  # type: ignore[attr-defined]  # each kind is a dataclass

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say why a link cannot become what is declared, empty if it can: the kernel never changes that."""
        if not self.movable and link.id.namespace != view.place(interface):
            return f"a {self.kernel_kind} link cannot be moved to another namespace"
        has = dict(link.data)
        for name, value in self.data(link):
            if name in self.fixed and has.get(name) != value:
                return f"{name} is {has.get(name)!r}, wanted {value!r}"
        return ""

    def shortfall(self, interface: CommonFields, link: Link, view: View) -> Obstacle | None:  # noqa: ARG002
        """Say what a link that is there lacks for good, or because of another one; ``None`` if nothing."""
        has = dict(link.data)
        for name in self.settings if has else ():
            if name not in has and getattr(self, name) != self._default(name):
                return Obstacle(ConfigState.FAILED, f"this kernel has no {name} for {self.kernel_kind} links")
        return None


class LowerNamingKind(LinkKind):
    """The base of kinds that may have a lower link: ``lower_if_name`` names its interface, empty for none."""

    __slots__ = ()
    lower_if_name: str

    def references(self) -> Iterator[Reference]:
        """Yield the lower interface, if there is one."""
        if self.lower_if_name:
            yield Reference(self.lower_if_name, f"{self.type}.lower_if_name", Need.LOWER)

    def check(self, interface: CommonFields) -> None:
        """Refuse a link that is to sit on itself."""
        if self.lower_if_name == interface.name:
            raise wrong(f"{self.type}.lower_if_name", "an interface cannot sit on itself")


class UpperKind(LowerNamingKind):
    """The base of kinds whose link sits on another one, its lower link, and cannot be without.

    ``needs_lower_up`` says that the kernel sets the link down with its lower one, and not up without it;
    ``shares_lower_with`` are the kinds that take all packets of a lower link together with it, none if it does not.
    """

    __slots__ = ()
    has_mac: ClassVar[bool] = False
    needs_lower_up: ClassVar[bool] = False
    shares_lower_with: ClassVar[frozenset[str]] = frozenset()

    def why_not_beside(self, other: UpperKind) -> str:
        """Say why a link of this kind and another one cannot both take a lower link's packets; empty if they can."""
        if other.kernel_kind in self.shares_lower_with:
            return ""
        return f"a link that has {other.kernel_kind} links has no {self.kernel_kind} links"

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have: an MTU that its lower link has room for, and up only if it can be."""
        usual = LinkKind.attributes(self, interface, link, view)
        lower = view.link_for(self.lower_if_name)
        if lower is None:
            return usual._replace(mtu=None)
        most = lower.mtu
        up = interface.enabled and (lower.up or not self.needs_lower_up)
        return usual._replace(mtu=min(interface.mtu or most, most), up=up)

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of a link that sits on another one too."""
        lower = view.link_for(self.lower_if_name)
        if lower is not None and link.lower != lower.id:
            return f"it does not sit on {lower}"
        return LinkKind.why_recreated(self, interface, link, view)

    def shortfall(self, interface: CommonFields, link: Link, view: View) -> Obstacle | None:
        """Say that the lower link is down, or has a smaller MTU than is wanted."""
        name, lower = self.lower_if_name, view.link_for(self.lower_if_name)
        if lower is None:
            return LinkKind.shortfall(self, interface, link, view)
        missing = (f"interface {name}",)
        if interface.enabled and self.needs_lower_up and not lower.up:
            return Obstacle(ConfigState.PENDING, f"its lower link {lower}, interface {name}, is down", missing)
        if interface.mtu > lower.mtu:
            reason = f"mtu {interface.mtu} is more than the {lower.mtu} bytes of its lower interface {name}"
            return Obstacle(ConfigState.PENDING, reason, missing)
        return LinkKind.shortfall(self, interface, link, view)


class TunnelKind(LowerNamingKind):
    """The base of kinds whose packets leave by another link, if one is named.

    They leave in the namespace in which it was made: moved, it would send them from there still.
    """

    __slots__ = ()
    movable: ClassVar[bool] = False

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of a link whose packets leave by another one too."""
        lower = view.link_for(self.lower_if_name) if self.lower_if_name else None
        if link.lower != (lower.id if lower else None):
            return f"it does not send by {lower}" if lower else "it sends by one link only"
        return LinkKind.why_recreated(self, interface, link, view)


def wrong(field: str, message: str) -> PydanticCustomError:
    """Make an error about one field for a rule that needs several."""
    return PydanticCustomError("ifagent", "{message}", {"ifagent_field": field, "message": message})
