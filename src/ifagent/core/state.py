"""What subscribers, the store and the command line get: the state of one interface."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from ifagent.core.counters import Counters
from ifagent.core.link import Duplex, LinkData, LinkId, NsId
from ifagent.core.names import IPInterface, Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.errors import FieldError


class ConfigState(StrEnum):
    """How far an interface is from what its owner declared.

    * ``APPLIED``: the kernel has exactly what was declared.
    * ``PENDING``: it cannot be applied yet; ``missing`` says what it waits for.
    * ``RETRYING``: the kernel refused for now; ``next_retry`` says when it is tried again.
    * ``FAILED``: it was refused for good, or something of somebody else's is in the way.
    * ``INVALID``: the value cannot be used; a link that was there before stays as it was.
    * ``FOREIGN``: nothing is declared for this link; only readers that ask for such links see it.
    """

    APPLIED = "APPLIED"
    PENDING = "PENDING"
    RETRYING = "RETRYING"
    FAILED = "FAILED"
    INVALID = "INVALID"
    FOREIGN = "FOREIGN"


DECLARED_STATES: tuple[ConfigState, ...] = tuple(state for state in ConfigState if state is not ConfigState.FOREIGN)
"""What an interface that somebody has declared can be."""


class Status(IntEnum):
    """Admin and operational status, as ligato's ``InterfacesState.Interface.Status``."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2
    DELETED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceState:
    """One interface: what became of the declaration, and what the kernel has.

    The fields from ``internal_name`` to ``ip_addresses`` are as observed, zero or empty while there is no link.
    ``lower`` and ``master`` are the host names of the link that it sits on and of the one that it is a port of, as far
    as they are known; ``settings`` are those that only links of its kind have, such as a VLAN's ``id``.
    ``reason`` is one sentence whenever ``config_state`` is not ``APPLIED``, and where nobody else sees what is
    applied. Times are Unix seconds; ``mtu`` is in bytes, ``speed`` in bits a second. ``observed_revision`` is the
    store's revision of the value last seen, ``applied_revision`` of the one last fully applied. ``repairs`` counts
    how often drift was repaired, ``last_drift`` says what was different the last time. ``statistics`` is there for
    readers who ask for counters, once they were read; ``last_change`` is not about them.
    """

    name: Name
    config_state: ConfigState
    type: str = "veth"
    reason: str = ""
    missing: tuple[str, ...] = ()
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    next_retry: float = 0.0
    internal_name: str = ""
    if_index: int = 0
    admin_status: Status = Status.UNKNOWN
    oper_status: Status = Status.UNKNOWN
    phys_address: str = ""
    mtu: int = 0
    speed: int = 0
    duplex: Duplex = Duplex.UNKNOWN
    peer_if_index: int = 0
    lower: str = ""
    master: str = ""
    settings: LinkData = ()
    ip_addresses: tuple[IPInterface, ...] = ()
    namespace: NamespaceRef = field(default_factory=NamespaceRef)
    namespace_id: NsId | None = None
    last_change: float = 0.0
    observed_revision: int = 0
    applied_revision: int = 0
    repairs: int = 0
    last_drift: str = ""
    statistics: Counters | None = None

    @property
    def link_id(self) -> LinkId | None:
        """Where the link is, ``None`` while there is none."""
        return LinkId(self.namespace_id, self.if_index) if self.if_index and self.namespace_id is not None else None

    def as_deleted(self) -> InterfaceState:
        """Return the last state of an interface that is gone: both statuses ``DELETED``."""
        return replace(self, admin_status=Status.DELETED, oper_status=Status.DELETED)


class Change(StrEnum):
    """What a :class:`StateEvent` tells."""

    SNAPSHOT = "snapshot"
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEvent:
    """One line of the state stream.

    ``seq`` grows with every event of one stream. ``state`` is the whole state, for ``deleted`` the last one
    with both statuses ``DELETED``. A ``gap`` has no state: it says that ``missed`` intermediate states were
    left out because the reader was slow; the last state of every interface is never left out.
    """

    seq: int
    event: Change
    name: Name
    state: InterfaceState | None = None
    missed: int = 0
