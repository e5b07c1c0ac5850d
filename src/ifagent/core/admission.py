"""Which declared interfaces may be applied, each taken by itself, and why the others are blocked. Pure.

Blocked is what the settings do not allow, what has a namespace that is not there (a named one is made instead), what
asks for something that cannot be done yet, and what has a place that another interface has.
"""

from __future__ import annotations

from ifagent.core.host_routes import given, why_taken
from ifagent.core.interface import Interface
from ifagent.core.matches import LinkMatches
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.observed import Absence
from ifagent.core.operation import Place
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.state import ConfigState


class Admission:
    """Sorts declared interfaces.

    ``admitted`` may be applied, ``blocked`` may not, with the obstacle of each. Of what is ``frozen`` the kernel's
    links stay as they are.
    """

    def __init__(self, matches: LinkMatches, policy: Policy) -> None:
        self._matches = matches
        self._observed = matches.observed
        self._policy = policy
        self.admitted: dict[Name, Interface] = {}
        self.blocked: dict[Name, Obstacle] = {}
        self.frozen: set[Name] = set(matches.desired.held)
        for name, beyond in matches.desired.refused.items():
            self.block(name, beyond)
        interfaces = matches.desired.interfaces
        taken: dict[tuple[Place, str], Name] = {}
        # An interface whose link is at its place comes before a rival for that place.
        for interface in sorted(interfaces.values(), key=lambda i: (not matches.is_at_place(i), *matches.rank(i.name))):
            obstacle = self._forbidden(interface) or self._taking_from_the_host(interface)
            if obstacle is None:
                place = matches.place(interface)
                rival = taken.setdefault((place, interface.host_name), interface.name)
                obstacle = _duplicate(interface, rival) if rival != interface.name else self._missing(interface, place)
            if obstacle:
                self.block(interface.name, obstacle)
            else:
                self.admitted[interface.name] = interface

    def block(self, name: Name, obstacle: Obstacle) -> None:
        """Set an interface aside; what is invalid leaves the kernel as it is."""
        self.blocked[name] = obstacle
        if obstacle.config_state is ConfigState.INVALID:
            self.frozen.add(name)

    def _forbidden(self, interface: Interface) -> Obstacle | None:
        ref = interface.namespace
        if not self._policy.allows_namespace(ref):
            reason = f"interfaces in namespace {ref} are not allowed (--allow-namespace)"
        elif (
            ref.type is not NamespaceType.OWN
            and self._observed.namespaces.get(ref) in self._observed.host
            and not self._policy.allows_namespace(NamespaceRef())
        ):
            reason = f"namespace {ref} is the host's own, where interfaces are not allowed (--allow-namespace)"
        else:
            return None
        return Obstacle(ConfigState.INVALID, reason, field="namespace")

    def _taking_from_the_host(self, interface: Interface) -> Obstacle | None:
        """Return why an address cannot be given to a link of the host's namespaces: it would take its traffic."""
        place = self._matches.place(interface)
        if isinstance(place, NamespaceRef) or place not in self._observed.host or interface.link_only:
            return None
        link = self._matches.link_of.get(interface.name)
        own = None if link is None else link.id
        # What it has elsewhere it has yet to get here.
        has = given(link) if link and link.id.namespace == place else frozenset()
        routes = self._observed.host_routes
        for number, address in enumerate(interface.ip_addresses):
            if address in has or self._policy.allows_host_network(address):
                continue
            if problem := routes.problems.get(place):
                self.frozen.add(interface.name)
                reason = f"cannot tell what {address} would take from the host: {problem}"
                return Obstacle(ConfigState.PENDING, reason, ("the host's routes",))
            if taken := why_taken(address, own, routes, place):
                reason = (
                    f"{address} would take {taken} from the host; the agent's operator can allow it "
                    f"with --allow-host-network {address.network}"
                )
                return Obstacle(ConfigState.INVALID, reason, field=f"ip_addresses[{number}]")
        return None

    def _missing(self, interface: Interface, place: Place) -> Obstacle | None:
        ref = interface.namespace
        if isinstance(place, NamespaceRef):
            if ref.type is NamespaceType.NAMED:
                return None
            absence = self._observed.absent.get(ref)
            if absence is None:  # it may be there
                self.frozen.add(interface.name)
            return _absent(ref, absence)
        if place not in self._observed.links:
            self.frozen.add(interface.name)
            problem = self._observed.unreachable.get(place, "it is still being opened")
            reason = f"namespace {ref} cannot be used yet: {problem}"
            return Obstacle(ConfigState.PENDING, reason, (f"namespace {ref}",))
        return None


def _absent(ref: NamespaceRef, absence: Absence | None) -> Obstacle:
    """Say why a namespace that cannot be made is not there."""
    if absence is not None and absence.invalid:
        return Obstacle(ConfigState.INVALID, f"{ref.reference} {absence.problem}", field="namespace.filepath")
    reason = f"namespace {ref}: {absence.problem if absence else 'lookup in progress'}"
    return Obstacle(ConfigState.PENDING, reason, (f"namespace {ref}",))


def _duplicate(interface: Interface, rival: Name) -> Obstacle:
    reason = (
        f"interface {rival} already has the host name {interface.host_name} "
        f"in namespace {interface.namespace}; choose another one"
    )
    return Obstacle(ConfigState.INVALID, reason, field="host_if_name")
