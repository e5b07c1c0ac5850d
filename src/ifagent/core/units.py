"""Which interfaces have links that are made together, and how. Pure; rule 3 of :mod:`ifagent.core.planner`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ifagent.core.admission import Admission
from ifagent.core.configure import Attributes
from ifagent.core.desired import Desired
from ifagent.core.interface import Interface
from ifagent.core.kinds.contract import Need, Reference
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.matches import LinkMatches, Unit
from ifagent.core.names import Name
from ifagent.core.operations import CreateLink, LinkEnd
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState


def find_units(candidates: Iterable[Interface], desired: Desired, admission: Admission) -> Iterator[Unit]:
    """Yield what is made together; block what names a partner that is not there, or one that names another one."""
    by_name = {interface.name: interface for interface in candidates}
    for name, interface in by_name.items():
        partner = _partner(interface)
        if partner is None:
            yield (interface,)
            continue
        other = by_name.get(partner.to)
        back = None if other is None else _partner(other)
        if other is not None and back is not None and back.to == name:
            if name < other.name:
                yield interface, other
            continue
        if partner.to in admission.frozen:
            admission.frozen.add(name)
        reason = _why_alone(name, partner.to, desired, admission)
        admission.block(name, Obstacle(ConfigState.PENDING, reason, (f"interface {partner.to}",)))


def _partner(interface: Interface) -> Reference | None:
    """Return the reference to the interface whose link is made together with this one's."""
    return next((reference for reference in interface.kind.references() if reference.need is Need.PEER), None)


def _why_alone(name: Name, partner: Name, desired: Desired, admission: Admission) -> str:
    """Say why the interface that another one names as its partner is none for it."""
    if partner in admission.blocked:
        return f"peer {partner} is blocked: {admission.blocked[partner].reason}"
    if partner in desired.refused:
        return f"peer {partner} is blocked: {desired.refused[partner].reason}"
    if partner in desired.held:
        return f"peer {partner} is invalid"
    other = desired.interfaces.get(partner)
    if other is None:
        return f"peer {partner} is not declared"
    back = _partner(other)
    if back is None:
        return f"interface {partner} is of type {other.kind.type}, which has no peer"
    return f"interface {partner} names {back.to} as its peer, not {name}"


def creation(unit: Unit, wanted: Sequence[Attributes], matches: LinkMatches) -> CreateLink:
    """Return what makes the links of a unit as they are ``wanted``, as far as one request can."""
    ends = tuple(
        LinkEnd(matches.place(interface), interface.host_name, wants.mac or "", wants.mtu or 0)
        for interface, wants in zip(unit, wanted, strict=True)
    )
    lowers = [reference.to for interface in unit for reference in interface.lowers]
    return CreateLink(
        unit[0].kind.kernel_kind,
        ends,
        matches.owner.group,
        wanted[0].data,
        lower=matches.link_of[lowers[0]].id if lowers else None,
        # Of a pair only one end could have it.
        master=(wanted[0].master or 0) if len(unit) == 1 else 0,
    )


def created_link(create: CreateLink, end: LinkEnd) -> Link:
    """Return what a link that is yet to be made will be like."""
    return Link(
        id=LinkId(NsId(0), 0),
        host_name=end.host_name,
        kind=create.kind,
        mac=end.mac,
        mtu=end.mtu,
        group=create.group,
        lower=create.lower,
        master=create.master,
        data=create.data,
    )
