"""What links sit on, and what they are ports of. Pure; rules 3 to 5 of :mod:`ifagent.core.planner`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ifagent.core.admission import Admission
from ifagent.core.configure import Attributes
from ifagent.core.conflicts import duplicate_addresses
from ifagent.core.interface import Interface
from ifagent.core.kinds import KINDS
from ifagent.core.kinds.contract import Origin
from ifagent.core.link import Link, LinkId
from ifagent.core.lower_use import LowerUse
from ifagent.core.matches import LinkMatches, Unit
from ifagent.core.names import Name
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.state import ConfigState

RULING = frozenset(name for kind in KINDS if kind.rules_ports for name in kind.kernel_kinds)
"""What the kernel calls the kinds of masters whose ports have their MAC and MTU."""

NO_MASTER = 0
"""The ifindex that stands for no master."""


class Stacking:
    """Finds out which lower links and masters there are for interfaces, and why there are none."""

    def __init__(self, matches: LinkMatches, admission: Admission, policy: Policy) -> None:
        self._matches = matches
        self._desired = matches.desired
        self._admission = admission
        self._policy = policy
        self._lower_use = LowerUse(matches)

    def admit(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """Yield the units whose lower links are there; block the others."""
        for unit in units:
            found = [(interface, self._why_no_lower(interface)) for interface in unit]
            for interface, obstacle in found:
                if obstacle is not None:
                    self._admission.block(interface.name, obstacle)
            if not any(obstacle for _, obstacle in found):
                yield unit

    def staying(self, intact: Iterable[Unit]) -> list[Unit]:
        """Return the units that stay: those that sit on what is made anew go with that."""
        staying = list(intact)
        names = {interface.name for unit in staying for interface in unit}
        while True:
            going = [unit for unit in staying if any(self._goes_with_lower(end, names) for end in unit)]
            if not going:
                return staying
            staying = [unit for unit in staying if unit not in going]
            names -= {interface.name for unit in going for interface in unit}

    def _goes_with_lower(self, interface: Interface, staying: set[Name]) -> bool:
        for reference in interface.lowers:
            lower = self._desired.interfaces.get(reference.to)
            link = self._matches.link_of.get(reference.to)
            if lower is None or link is None or lower.kind.origin is not Origin.CREATED or lower.name in staying:
                continue
            if lower.name in self._admission.admitted and not self._matches.uppers.get(link.id):
                return True
        return False

    def _why_no_lower(self, interface: Interface) -> Obstacle | None:
        for reference in interface.lowers:
            if circle := self._circle(interface.name):
                reason = f"it sits on itself: {' on '.join(circle)}"
                return Obstacle(ConfigState.INVALID, reason, field=reference.field)
            missing = (f"interface {reference.to}",)
            if self._matches.link_of.get(reference.to) is None:
                reason = self._why_no_link("lower", reference.to)
                if reference.to in self._admission.frozen:
                    self._admission.frozen.add(interface.name)
                return Obstacle(ConfigState.PENDING, reason, missing)
        return self._lower_use.obstacle(interface)

    def _circle(self, start: Name) -> list[Name]:
        """Return the interfaces that sit on each other in a circle with one, empty if none do."""
        path, name = [start], start
        while True:
            interface = self._desired.interfaces.get(name)
            lower = next(iter(interface.lowers), None) if interface else None
            if lower is None:
                return []
            path.append(lower.to)
            if lower.to == start:
                return path
            if lower.to in path[:-1]:
                return []
            name = lower.to

    def _why_no_link(self, role: str, name: Name) -> str:
        """Say why an interface that another one refers to has no link."""
        if (refused := self._desired.refused.get(name) or self._admission.blocked.get(name)) is not None:
            return f"{role} interface {name} is blocked: {refused.reason}"
        if name in self._desired.held:
            return f"{role} interface {name} is invalid"
        if name not in self._desired.interfaces:
            return f"{role} interface {name} is not declared"
        return f"{role} interface {name} does not exist yet"

    # What links are to be like

    def attributes(self, interface: Interface, link: Link | None) -> Attributes:
        """Return what the link of an interface is to have; ``link`` is what it is now, if it exists."""
        master, missing = self.master(interface, link)
        attributes = interface.kind.attributes(interface, link, self._matches)._replace(master=master)
        if link is not None and master is not None and master != link.master:
            before, after = (self._kind_of(LinkId(link.id.namespace, each)) for each in (link.master, master))
            cycled = "vrf" in {before, after} or not RULING.isdisjoint({before, after})
            attributes = attributes._replace(loses_ipv6=link.up and cycled, left_down=before in RULING)
        if master and self._matches.link_of[interface.master].kind in RULING:
            joined = link is None or link.master == master
            attributes = attributes._replace(mac=None, mtu=None, up=attributes.up if joined else False)
        if (port := interface.bridge_port) is not None and missing is None:
            attributes = attributes._replace(port=port.data(self._default_pvid(interface)), port_of=port.master_kind)
        # In another routing table than the VRF's they would be wrong.
        return attributes._replace(addresses=None) if missing and interface.vrf_master_interface else attributes

    def shortfall(self, interface: Interface, link: Link) -> Obstacle | None:
        """Say what a link lacks that nothing can be done about."""
        _, no_master = self.master(interface, link)
        lacks = no_master or self._no_vlans(interface) or interface.kind.shortfall(interface, link, self._matches)
        return lacks or duplicate_addresses(interface, link)

    def _default_pvid(self, interface: Interface) -> int | None:
        """Return the default VLAN of the bridge that an interface is a port of, ``None`` if it knows no VLANs."""
        bridge = self._matches.link_of.get(interface.master)
        pvid = None if bridge is None else dict(bridge.data).get("vlan_default_pvid")
        return pvid if isinstance(pvid, int) else None

    def _no_vlans(self, interface: Interface) -> Obstacle | None:
        port = interface.bridge_port
        if port is None or not port.names_vlans or self._default_pvid(interface) is not None:
            return None
        return Obstacle(ConfigState.FAILED, "this kernel has no VLANs for ports of bridges")

    # Masters

    def master(self, interface: Interface, link: Link | None) -> tuple[int | None, Obstacle | None]:
        """Return the ifindex of the master that a link is to have, ``None`` to leave it alone, and why it has none."""
        if not interface.master:
            return (NO_MASTER if link is not None and self._is_port_of_ours(link) else None), None
        obstacle = self._why_no_port(interface)
        if obstacle is not None:
            return None, obstacle
        return self._matches.link_of[interface.master].id.ifindex, None

    def _kind_of(self, id_: LinkId) -> str:
        link = self._matches.observed.link(id_)
        return link.kind if link is not None else ""

    def _is_port_of_ours(self, link: Link) -> bool:
        return bool(link.master) and LinkId(link.id.namespace, link.master) in self._matches.interface_at

    def _why_no_port(self, interface: Interface) -> Obstacle | None:
        name, place = interface.master, self._matches.place(interface)
        declared, link = self._desired.interfaces.get(name), self._matches.link_of.get(name)
        if reason := self._why_never(interface, declared) or self._why_other_kind(interface, link):
            return Obstacle(ConfigState.INVALID, reason, field=interface.master_field)
        if link is None or link.id.namespace != place:
            return Obstacle(ConfigState.PENDING, self._why_no_link("master", name), (f"interface {name}",))
        return None

    def _why_never(self, interface: Interface, master: Interface | None) -> str:
        """Say why an interface cannot be a port of what it names as its master, empty if it can."""
        name = interface.master
        if master is not None and not (master.kind.is_master or master.kind.origin is Origin.EXISTING):
            return f"interface {name} is of type {master.kind.type}, which has no ports"
        if master is not None and self._matches.place(master) != self._matches.place(interface):
            return f"master interface {name} is in namespace {master.namespace}; both have to be in the same one"
        if interface.kind.origin is Origin.EXISTING and not self._allows_port(interface):
            return (
                f"making the host's link {interface.host_name} a port takes its traffic; the agent's operator can "
                f"allow it by its name, with --allow-existing {interface.host_name}"
            )
        return ""

    def _why_other_kind(self, interface: Interface, master: Link | None) -> str:
        """Say why a link takes no port of an interface's kind, or none with its settings; empty if it does."""
        if master is None:
            return ""
        name, is_vrf = interface.master, master.kind == "vrf"
        if interface.vrf_master_interface and not is_vrf:
            return f"interface {name} is no VRF device, but {master}"
        if interface.bridge_port and master.kind != interface.bridge_port.master_kind:
            return f"bridge_port goes with a bridge, and interface {name} is {master}"
        if not (is_vrf or interface.kind.ethernet):
            return (
                f"a {interface.kind.kernel_kind} link carries no Ethernet frames, as ports of interface {name} have to"
            )
        return ""

    def _allows_port(self, interface: Interface) -> bool:
        """Tell whether a link may be a port: one of the host's, whose traffic that takes, only if it is named."""
        if self._matches.place(interface) not in self._matches.observed.host:
            return True
        return self._policy.allows_existing(interface.host_name, uplink=True)
