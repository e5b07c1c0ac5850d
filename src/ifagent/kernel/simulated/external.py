"""Changes to the simulated kernel by others: programs, people with ``ip``, containers that end."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from ifagent.core.host_routes import Route
from ifagent.core.kinds.contract import DEFAULT_MTU
from ifagent.core.link import Address, Checksums, LinkId, NsId
from ifagent.core.names import IPInterface
from ifagent.errors import KernelRefused
from ifagent.kernel.simulated.records import Refused, WorldLink
from ifagent.kernel.simulated.world import Where, World, netns_path

T = TypeVar("T")


class ExternalChanges:
    """Changes the world as other programs do. Links are named by namespace and host name.

    Every method raises :class:`KernelRefused` where Linux would refuse, and the simulated kernel
    reports the changes to the agent. ``uplinks`` are the links that connect the host, ``routes`` its routes,
    and ``routes_problem`` says why they cannot be listed, to be set by tests.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.uplinks: frozenset[LinkId] = frozenset()
        self.routes: tuple[Route, ...] = ()
        self.routes_problem: str = ""

    def add_namespace(self, name: str) -> NsId:
        """Create a named namespace."""
        return self._do("add namespace", lambda: self._world.add_namespace(netns_path(name), name=name)).id

    def add_namespace_at(self, path: str) -> NsId:
        """Create a namespace that is reached by ``path`` and has no name, such as a process's."""
        return self._do("add namespace", lambda: self._world.add_namespace(path)).id

    def remove_namespace(self, where: Where) -> None:
        """Remove a namespace's name or path. It is deleted, with its links, once the agent detaches it too."""
        self._do("remove namespace", lambda: self._world.remove_namespace(self._world.find_namespace(where)))

    def disable_ipv6(self, where: Where, *, disabled: bool = True) -> None:
        """Write ``net.ipv6.conf.all.disable_ipv6`` of a namespace."""
        self._do(
            "disable ipv6",
            lambda: self._world.settings.set_ipv6_disabled(self._world.find_namespace(where), disabled=disabled),
        )

    def add_link(self, where: Where, host_name: str, *, kind: str = "dummy", mac: str = "", lower: str = "") -> int:
        """Create a link with no other end, such as a bridge or a dummy; return its ifindex.

        ``lower`` is the host name of the link in the same namespace that it sits on, such as that of a macvlan.
        """
        return self._do(
            "add link",
            lambda: self._world.add_link(
                self._world.find_namespace(where), host_name, kind, mac, self._find(where, lower) if lower else None
            ),
        ).ifindex

    def add_veth(self, where: Where, host_name: str, peer_where: Where, peer_host_name: str) -> None:
        """Create a veth pair."""
        self._do(
            "add veth",
            lambda: self._world.add_veth(
                (self._world.find_namespace(where), host_name, "", DEFAULT_MTU),
                (self._world.find_namespace(peer_where), peer_host_name, "", DEFAULT_MTU),
            ),
        )

    def delete_link(self, where: Where, host_name: str) -> None:
        """Delete a link, and the other end of a veth with it."""
        self._do("delete link", lambda: self._world.delete(self._find(where, host_name)))

    def move_link(self, where: Where, host_name: str, to: Where) -> None:
        """Move a link to another namespace under the same name."""
        self._do(
            "move link",
            lambda: self._world.move(self._find(where, host_name), self._world.find_namespace(to), host_name),
        )

    def set_link(
        self,
        where: Where,
        host_name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        group: int | None = None,
        new_host_name: str | None = None,
        alias: str | None = None,
        up: bool | None = None,
        master: int | None = None,
    ) -> None:
        """Change attributes of a link; ``None`` leaves one as it is."""
        self._do(
            "set link",
            lambda: self._world.settings.set_attributes(
                self._find(where, host_name),
                mac=mac,
                mtu=mtu,
                group=group,
                host_name=new_host_name,
                alias=alias,
                up=up,
                master=master,
            ),
        )

    def add_altname(self, where: Where, host_name: str, altname: str) -> None:
        """Give a link one more name."""
        self._do("add altname", lambda: self._world.add_altname(self._find(where, host_name), altname))

    def remove_altname(self, where: Where, host_name: str, altname: str) -> None:
        """Remove an altname from a link."""
        self._do("remove altname", lambda: self._world.remove_altname(self._find(where, host_name), altname))

    def set_checksums(self, where: Where, host_name: str, *, rx: bool, tx: bool) -> None:
        """Switch checksum offloading of a link on or off."""
        checksums = Checksums(rx=rx, tx=tx)
        self._do("set checksums", lambda: self._world.settings.set_checksums(self._find(where, host_name), checksums))

    def send(self, where: Where, host_name: str, *, packets: int, size: int = 100) -> None:
        """Send packets of ``size`` bytes out of a link; the other end of a veth receives them."""
        self._do("send", lambda: self._find(where, host_name).send(packets, size))

    def add_address(self, where: Where, host_name: str, address: IPInterface | Address) -> None:
        """Add an address to a link, with any attributes that a request may have."""
        given = address if isinstance(address, Address) else Address(address)
        self._do("add address", lambda: self._world.settings.add_address(self._find(where, host_name), given))

    def add_router_address(self, where: Where, host_name: str, address: Address) -> None:
        """Have a router advertise an IPv6 subnet, from which the kernel makes an address."""
        self._do("advertise", lambda: self._world.settings.add_router_address(self._find(where, host_name), address))

    def delete_address(
        self, where: Where, host_name: str, address: IPInterface, peer: IPv4Address | IPv6Address | None = None
    ) -> None:
        """Delete an address from a link."""
        gone = Address(address, peer=peer)
        self._do("delete address", lambda: self._world.settings.delete_address(self._find(where, host_name), gone))

    def find_duplicate(self, where: Where, host_name: str, address: IPInterface) -> None:
        """Have another host on the link claim an IPv6 address."""
        self._do("find duplicate", lambda: self._world.settings.find_duplicate(self._find(where, host_name), address))

    def _find(self, where: Where, host_name: str) -> WorldLink:
        return self._world.find_link(where, host_name)

    def _do(self, what: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except Refused as refusal:
            raise KernelRefused(f"{what} by another program", refusal.errno, refusal.text) from None
