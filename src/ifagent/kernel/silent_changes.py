"""What operations have changed that the kernel does not notify. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ifagent.core.link import LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.operation import LinkOperation, Outcome
from ifagent.core.operations import ChangeLink, CreateLink, SetChecksums, SetLink, SetPort
from ifagent.kernel.jobs import namespaces_of
from ifagent.kernel.kinds import driver_of


@dataclass(slots=True)
class SilentChanges:
    """Links that have to be read, and what has been set on others.

    ``made`` are new links by their places: how they were made is notified, not what was set on them then. ``changed``
    are to be read, of ``switched`` the checksum offloading is to be queried. ``set_on`` are those that were set, with
    what they were set to. In ``partly_done`` namespaces an operation was refused that may have done a part of it.
    """

    made: set[tuple[NsId, HostName]] = field(default_factory=set)
    changed: list[LinkId] = field(default_factory=list)
    switched: list[LinkId] = field(default_factory=list)
    set_on: list[tuple[LinkId, SetLink]] = field(default_factory=list)
    partly_done: set[NsId] = field(default_factory=set)


def find_silent_changes(outcomes: Iterable[Outcome]) -> SilentChanges:
    """Return what has to be found out after operations."""
    found = SilentChanges()
    for outcome in outcomes:
        match outcome:
            case Outcome(operation=CreateLink(kind=kind) as operation, errno=0) if driver_of(kind).by_file:
                found.made |= {(NsId(place), name) for place, name in operation.names if isinstance(place, int)}
            case Outcome(operation=SetChecksums() as operation):
                found.switched.append(_link_of(operation))
            # Ports that are in the default VLAN are in the new one then.
            case Outcome(operation=ChangeLink(data=data) as operation, errno=0) if "vlan_default_pvid" in dict(data):
                found.partly_done.add(_link_of(operation).namespace)
            # Whose MTU follows that of its lower link has it without a notification.
            case Outcome(operation=ChangeLink() | SetPort() | SetLink(mtu=int()) as operation, errno=0):
                found.changed.append(_link_of(operation))
            case Outcome(operation=SetLink() as operation, errno=0):
                found.set_on.append((_link_of(operation), operation))
            case Outcome(operation=ChangeLink() | SetPort() | SetLink() as operation):
                found.partly_done.add(_link_of(operation).namespace)
    return found


def _link_of(operation: LinkOperation) -> LinkId:
    """Return the link that an operation was carried out on."""
    return LinkId(namespaces_of(operation)[0], operation.target.ifindex or 0)
