"""What can be set on the links of the simulated world, and what Linux does then."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from ifagent.core.kinds.contract import DEFAULT_MTU
from ifagent.core.link import IFA_F_DADFAILED, IFA_F_TENTATIVE, LOOPBACK_IFINDEX, Address, Checksums, OperState
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
from ifagent.kernel.simulated.kinds import traits_of
from ifagent.kernel.simulated.link_data import new_port
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
    if link.lower is not None and traits_of(link.kind).sits_on_lower and mtu > link.lower.mtu:
        raise Refused(errno.EINVAL)
    link.has_own_mtu = link.has_own_mtu or mtu != link.mtu
    _put_mtu(link, mtu)


def _put_mtu(link: WorldLink, mtu: int) -> None:
    """Change the MTU, and that of what sits on the link where it is larger."""
    link.mtu = mtu
    if mtu < MIN_IPV6_MTU:
        flush_ipv6(link)
    else:
        make_automatic_ipv6(link)
    if traits_of(link.kind).takes_ports_up:
        for port in link.ports:
            _put_mtu(port, mtu)
    _follow_ports(link.namespace.links.get(link.master))
    for upper in link.uppers:
        traits = traits_of(upper.kind)
        if traits.sits_on_lower and (upper.mtu > mtu or traits.only_mac_of_lower):
            _put_mtu(upper, mtu)


def _follow_ports(master: WorldLink | None) -> None:
    """Give a bridge the least MTU of its ports, unless it was given one."""
    if master is not None and traits_of(master.kind).has_mtu_of_ports and not master.has_own_mtu:
        least = min((port.mtu for port in master.ports), default=DEFAULT_MTU)
        if master.mtu != least:
            _put_mtu(master, least)


def check_master(link: WorldLink, master: int) -> None:
    """Refuse a master that is none, or none for this link."""
    if master not in link.namespace.links:
        raise Refused(errno.EINVAL)
    if not traits_of(link.namespace.links[master].kind).is_master:
        raise Refused(errno.EOPNOTSUPP)


def _takes_ports_up(link: WorldLink, master: int) -> bool:
    found = link.namespace.links.get(master)
    return found is not None and traits_of(found.kind).takes_ports_up


def _set_master(link: WorldLink, master: int) -> None:
    """Make a link a port of a bridge or a VRF device, or of nothing.

    A link that joins or leaves a VRF device while it is up is set down and up for it: its IPv6 addresses go.
    """
    if master:
        check_master(link, master)
    cycled = any(
        link.namespace.links[each].kind == "vrf" for each in {link.master, master} if each in link.namespace.links
    )
    takes_up = _takes_ports_up(link, master)
    if takes_up and link.up and link.master != master:
        raise Refused(errno.EPERM, "Device can not be enslaved while up")
    if link.master != master:
        before = link.namespace.links.get(link.master)
        if before is not None and before.data.get("primary") == link.ifindex:
            before.data["primary"] = 0
        link.port = new_port(link.namespace.links[master]) if master else {}
    leaves_bond = link.master != master and _takes_ports_up(link, link.master)
    left, link.master = link.namespace.links.get(link.master), master
    for each in (left, link.namespace.links.get(master)):
        _follow_ports(each)
    if leaves_bond and link.up:
        set_down(link)
    if takes_up and not link.up:
        bond = link.namespace.links[master]
        link.mac, link.mtu = bond.mac, bond.mtu
        _set_up(link)
    if cycled and link.up:
        flush_ipv6(link)
        make_automatic_ipv6(link)


def put_on(link: WorldLink, lower: WorldLink | None, *, own_mac: bool = True) -> None:
    """Have a new link sit on another one, or on none any more."""
    if link.lower is not None and link in link.lower.uppers:
        link.lower.uppers.remove(link)
    link.lower, link.has_own_mac = lower, own_mac
    if lower is None:
        return
    lower.uppers.append(link)
    if traits_of(link.kind).sits_on_lower:
        link.carrier = lower.up and lower.carrier
        link.lost_carrier_as = OperState.LOWERLAYERDOWN
        if not own_mac:
            link.mac = lower.mac


def _set_mac(link: WorldLink, mac: str) -> None:
    """Change the MAC; the automatic fe80 address keeps the old one until the link has been down."""
    check_mac(mac)
    if traits_of(link.kind).only_mac_of_lower:
        raise Refused(errno.EOPNOTSUPP)
    link.has_own_mac = True
    _put_mac(link, mac.lower())


def _put_mac(link: WorldLink, mac: str) -> None:
    link.mac = mac
    if traits_of(link.kind).takes_ports_up:
        for port in link.ports:
            _put_mac(port, mac)
    for upper in link.uppers:
        if not upper.has_own_mac:
            _put_mac(upper, mac)


def _set_up(link: WorldLink) -> None:
    """Bring a link up; a veth has carrier while both ends are up."""
    if link.up:
        return
    if _follows_lower(link) and link.lower is not None and not link.lower.up:
        raise Refused(errno.ENETDOWN)
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
        _lower_changed(end)
        for upper in end.uppers:
            if end is link and _follows_lower(upper):
                _set_up(upper)


def set_down(link: WorldLink) -> None:
    """Take a link down: all its IPv6 addresses go, IPv4 ones stay."""
    if not link.up:
        return
    link.up = False
    flush_ipv6(link)
    if link.peer is not None and link.carrier:
        lose_carrier(link, link.peer)
        _lower_changed(link.peer)
    for upper in link.uppers:
        if _follows_lower(upper):
            set_down(upper)
    _lower_changed(link)


def _follows_lower(link: WorldLink) -> bool:
    return traits_of(link.kind).follows_lower and not link.data.get("loose_binding")


def _lower_changed(lower: WorldLink) -> None:
    """Have what sits on a link have carrier as that has."""
    for upper in lower.uppers:
        if traits_of(upper.kind).sits_on_lower:
            upper.carrier = lower.up and lower.carrier
            _lower_changed(upper)
