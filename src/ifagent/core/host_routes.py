"""What the host reaches, and by which ways; and which addresses of values would take that from it. Pure.

An address brings a route to its whole network. In one of the host's namespaces that route may be more special than
the one that the host's own traffic takes: to its gateway, to the store, to a network beyond a VPN, to the rest of the
world. So whoever may write values would get that traffic, unless such addresses are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ifagent.core.link import Address, Link, LinkId, NsId
from ifagent.core.names import IPInterface

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

NOT_OF_THE_WORLD: tuple[IPNetwork, ...] = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",  # RFC 1918
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # RFC 6598
            "169.254.0.0/16",  # RFC 3927
            "192.0.2.0/24",  # RFC 5737
            "198.51.100.0/24",
            "203.0.113.0/24",
            "198.18.0.0/15",  # RFC 2544
            "fc00::/7",  # RFC 4193
            "fe80::/10",  # RFC 4291
            "2001:db8::/32",  # RFC 3849
            "::1/128",
            "127.0.0.0/8",
        ),
    )
)
"""Networks that mean something else everywhere, so that a default route leads to nobody in particular there."""

CLOUD_SERVICES: tuple[IPAddress, ...] = tuple(
    map(
        ip_address,
        (
            "169.254.169.254",  # metadata and credentials, with nearly every provider
            "169.254.170.2",  # Amazon: credentials of tasks
            "169.254.170.23",  # Amazon: credentials of pods
            "169.254.169.253",  # Amazon: names
            "169.254.169.123",  # Amazon: time
            "100.100.100.200",  # Alibaba: metadata
            "fd00:ec2::254",  # Amazon, by IPv6
            "fd00:ec2::253",
            "fd00:ec2::123",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google: metadata, by IPv6
        ),
    )
)
"""What a host in a cloud asks by its default route, though these addresses are in networks that mean nothing there."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way of the host's in one of its namespaces.

    Either a route of the kernel's, with ``destination`` of prefix length 0 for the default one, or with ``address``
    what an address of a link that is not the agent's brings by itself. ``links`` are those that it leads out of, ``lo``
    where it leads nowhere or to the host itself. ``made_by_kernel`` says that nobody has asked for it: it comes with an
    address or from a router.
    """

    destination: IPNetwork
    gateways: tuple[IPAddress, ...] = ()
    links: tuple[LinkId, ...] = ()
    address: str = ""
    made_by_kernel: bool = False


@dataclass(frozen=True, slots=True)
class HostRoutes:
    """What is known of the ways of the host.

    ``uplinks`` are the links that the ways to distant addresses and to ``hosts`` lead out of: ``hosts`` are addresses
    that the agent has to reach, such as the store's. ``routes`` are those of the host's namespaces. ``problems`` says
    of which of these namespaces that is not known, and why.
    """

    uplinks: frozenset[LinkId] = frozenset()
    hosts: frozenset[IPAddress] = frozenset()
    routes: tuple[Route, ...] = ()
    problems: Mapping[NsId, str] = field(default_factory=dict)

    def with_links(self, links: Iterable[Link], *, ours: Collection[LinkId] = ()) -> HostRoutes:
        """Return this with what the addresses of links bring that are not the agent's.

        What the kernel has made for ``ours``, those of the agent's making, is left out.
        """
        brought = [
            Route(network, links=(link.id,), address=f"{address.interface} of {link.host_name}")
            for link in links
            for address in link.addresses
            if not (address.interface.ip.is_loopback or (address.made_by_kernel and address.interface.ip.is_link_local))
            for network in _networks_of(address)
        ]
        covered = {(route.destination, *route.links) for route in brought}
        routes = [
            route
            for route in self.routes
            if not (
                route.made_by_kernel
                and ((route.destination, *route.links) in covered or all(link in ours for link in route.links))
            )
        ]
        return replace(self, routes=(*routes, *brought))

    def routes_in(self, namespace: NsId) -> Iterator[Route]:
        """Yield the routes of one namespace."""
        return (route for route in self.routes if any(link.namespace == namespace for link in route.links))


def given(link: Link) -> frozenset[IPInterface]:
    """Return the addresses that a link has without the other end's: what each is a way to does not change."""
    return frozenset(address.interface for address in link.addresses if address.peer is None)


def why_taken(address: IPInterface, own: LinkId | None, host: HostRoutes, place: NsId) -> str:
    """Say what of the host's an address would take if it were given to a link at ``place``; empty if nothing.

    ``own`` is the link that gets it, if it is there. What that leads to directly already stays with it, but for the
    address itself.
    """
    network = address.network
    if network.version == 6 and network.is_link_local:  # it means something else on every link
        return ""
    routes = tuple(host.routes_in(place))
    covering = [route.destination for route in routes if _leads_directly(route, own) and route.destination.prefixlen]
    reach = max((known.prefixlen for known in covering if _is_within(network, known)), default=0)
    for route in routes:
        if taken := _taken_from(route, address, own, reach):
            return taken
    for reached in sorted(host.hosts, key=str):
        if (reached == address.ip or (reached in network and not reach)) and not reached.is_loopback:
            return f"the route to {reached}, which the agent needs"
    return ""


def _networks_of(address: Address) -> Iterator[IPNetwork]:
    """Yield what an address is a way to: its network or, beyond a point-to-point link, that of the other end."""
    yield address.interface.network
    if address.peer is not None:
        yield ip_network((address.peer, address.interface.network.prefixlen), strict=False)


def _taken_from(route: Route, address: IPInterface, own: LinkId | None, reach: int) -> str:
    """Say what of one route is taken; ``reach`` is the prefix length of what ``own`` leads to directly already."""
    network, destination = address.network, route.destination
    spared = reach or set(route.links) == {own}
    gateway = next((g for g in route.gateways if g == address.ip or (g in network and not spared)), None)
    if gateway is not None:
        return f"the gateway {gateway}"
    if not destination.prefixlen:
        return "" if destination.version != network.version or reach else _taken_from_default(network)
    if destination.version != network.version or not network.overlaps(destination):
        return ""
    if _leads_directly(route, own) or destination.prefixlen < reach:
        return ""
    return route.address or f"the route to {destination}"


def _taken_from_default(network: IPNetwork) -> str:
    if not _is_nobodys(network):
        return "a part of what the default route leads to"
    service = next((each for each in CLOUD_SERVICES if each in network), None)
    return "" if service is None else f"the route to the cloud service {service}"


def _leads_directly(route: Route, own: LinkId | None) -> bool:
    return set(route.links) == {own} and not route.gateways


def _is_within(network: IPNetwork, other: IPNetwork) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]  # the same version


def _is_nobodys(network: IPNetwork) -> bool:
    return any(_is_within(network, known) for known in NOT_OF_THE_WORLD)
