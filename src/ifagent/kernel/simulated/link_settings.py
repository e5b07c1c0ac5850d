"""What can be set on the links of the simulated world, and what Linux does then."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from ifagent.core.link import IFA_F_DADFAILED, IFA_F_TENTATIVE, LOOPBACK_IFINDEX, Address, Checksums
from ifagent.core.names import HostName, IPInterface
from ifagent.kernel.simulated.addresses import (
    MIN_IPV6_MTU,
    add_address,
    delete_address,
    flush_ipv6,
    make_automatic_ipv6,
    make_loopback_ipv4,
    make_router_ipv6,
    replace_address,
)
from ifagent.kernel.simulated.names import POLICY, check_length, check_mac, check_name
from ifagent.kernel.simulated.records import Refused, WorldLink, WorldNamespace, lose_carrier

MAX_ALIAS_BYTES = 255


class LinkSettings:
    """Changes links in place; ``touched`` is called with every link that may be different then."""

    def __init__(self, touched: Callable[[WorldLink], None]) -> None:
        self._touched = touched

    def set_attributes(
        self,
        link: WorldLink,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        group: int | None = None,
        host_name: str | None = None,
        alias: str | None = None,
        up: bool | None = None,
        master: int | None = None,
    ) -> None:
        """Change attributes in the order of ``do_setlink``: what comes before a refusal stays changed.

        Linux does not notify of a new group or alias alone while the link is down (``netdev_state_change``).
        """
        check_length(host_name or "")
        if len((alias or "").encode()) > MAX_ALIAS_BYTES:
            raise Refused(errno.ERANGE, POLICY)
        try:
            if mac is not None:
                _set_mac(link, mac)
            if mtu is not None:
                _set_mtu(link, mtu)
            if group is not None:
                link.group = group
            if host_name is not None:
                rename(link, host_name)
            if alias is not None:
                link.alias = alias
            if up is not None:
                (_set_up if up else set_down)(link)
            if master is not None:
                _set_master(link, master)
        finally:
            if link.up or any(value is not None for value in (mac, mtu, host_name, up, master)):
                self._touched(link)

    # Addresses

    def set_ipv6_disabled(self, namespace: WorldNamespace, *, disabled: bool) -> None:
        """Do what writing ``net.ipv6.conf.all.disable_ipv6`` does."""
        namespace.ipv6_disabled = disabled
        for link in namespace.links.values():
            if disabled:
                flush_ipv6(link)
            else:
                make_automatic_ipv6(link)
            self._touched(link)

    def add_address(self, link: WorldLink, address: Address) -> None:
        """Add an address at the position in the list that the kernel gives it."""
        add_address(link, address)
        self._touched(link)

    def add_router_address(self, link: WorldLink, address: Address) -> None:
        """Make an address from a router advertisement."""
        make_router_ipv6(link, address)
        self._touched(link)

    def replace_address(self, link: WorldLink, interface: IPInterface) -> None:
        """Reset what was set on an address, as far as Linux changes that in place."""
        replace_address(link, interface)
        self._touched(link)

    def delete_address(self, link: WorldLink, address: Address) -> None:
        """Delete an address; the secondaries of an IPv4 subnet go with its primary."""
        delete_address(link, address)
        self._touched(link)

    def find_duplicate(self, link: WorldLink, interface: IPInterface) -> None:
        """Have duplicate address detection of an IPv6 address fail."""
        link.ipv6 = [
            replace(a, flags=a.flags | IFA_F_DADFAILED | IFA_F_TENTATIVE) if a.interface == interface else a
            for a in link.ipv6
        ]
        self._touched(link)

    def set_checksums(self, link: WorldLink, checksums: Checksums) -> None:
        """Switch checksum offloading."""
        link.checksums = checksums
        self._touched(link)

    def promote_secondaries(self, link: WorldLink) -> None:
        """Have secondary IPv4 addresses survive their primary."""
        link.promotes = True


def rename(link: WorldLink, host_name: str) -> None:
    """Rename a link, up or down."""
    if host_name == link.host_name:
        return
    check_name(link.namespace, host_name)
    link.host_name = HostName(host_name)


def _set_mtu(link: WorldLink, mtu: int) -> None:
    """Change the MTU; below 1280 IPv6 leaves the link, from 1280 on it comes back."""
    if mtu not in link.mtus:
        less = mtu < link.mtus.start
        raise Refused(errno.EINVAL, f"mtu {'less than device minimum' if less else 'greater than device maximum'}")
    link.mtu = mtu
    if mtu < MIN_IPV6_MTU:
        flush_ipv6(link)
    else:
        make_automatic_ipv6(link)


def _set_master(link: WorldLink, master: int) -> None:
    """Make a link a port of a bridge, or of nothing."""
    if master and master not in link.namespace.links:
        raise Refused(errno.EINVAL)
    if master and link.namespace.links[master].kind != "bridge":
        raise Refused(errno.EOPNOTSUPP)
    link.master = master


def _set_mac(link: WorldLink, mac: str) -> None:
    """Change the MAC; the automatic fe80 address keeps the old one until the link has been down."""
    check_mac(mac)
    link.mac = mac.lower()


def _set_up(link: WorldLink) -> None:
    """Bring a link up; a veth has carrier while both ends are up."""
    if link.up:
        return
    link.up = True
    ends = [link]
    if link.peer is not None:
        ends = [link, link.peer]
        both = link.peer.up
        link.carrier = link.peer.carrier = both
    if link.ifindex == LOOPBACK_IFINDEX:
        make_loopback_ipv4(link)
    for end in ends:
        make_automatic_ipv6(end)


def set_down(link: WorldLink) -> None:
    """Take a link down: all its IPv6 addresses go, IPv4 ones stay."""
    if not link.up:
        return
    link.up = False
    flush_ipv6(link)
    if link.peer is not None and link.carrier:
        lose_carrier(link, link.peer)
