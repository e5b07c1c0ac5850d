"""Veth pairs: what their links are to have."""

from __future__ import annotations

from ifagent.core.configure import Attributes
from ifagent.core.interface import DEFAULT_MTU, Interface, Name, Veth
from ifagent.core.link import Checksums, Link
from ifagent.core.ownership import Owner


def peer_name_of(interface: Interface) -> Name:
    """Return the name of the interface at the other end, empty for what has none."""
    return interface.kind.peer_if_name if isinstance(interface.kind, Veth) else ""


def veth_attributes(owner: Owner, interface: Interface, link: Link | None = None) -> Attributes:
    """Return what one end is to have; ``link`` is what it has now, if there is one."""
    mac = interface.phys_address or owner.default_mac(interface.name)
    checksums = _wanted_checksums(interface)
    default = checksums == Checksums()
    known = default and not (link and owner.without_checksums(link))
    return Attributes(
        mac=None if interface.link_only else mac,
        mtu=interface.mtu or DEFAULT_MTU,
        up=interface.enabled,
        alias=owner.alias(interface.name, checksums=default),
        group=owner.group,
        checksums=None if known else checksums,
        alias_last=default,
        addresses=None if interface.link_only else interface.ip_addresses,
    )


def _wanted_checksums(interface: Interface) -> Checksums:
    if not isinstance(interface.kind, Veth):
        return Checksums()
    return Checksums(
        rx=interface.kind.rx_checksum_offloading != "disabled",
        tx=interface.kind.tx_checksum_offloading != "disabled",
    )
