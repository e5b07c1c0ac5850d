"""What can be declared and is not realised yet. Pure."""

from __future__ import annotations

from ifagent.core.interface import AutoTap, Interface, Veth


def unrealised_kind(interface: Interface) -> str:
    """Return why nothing can be done about an interface of this kind yet, empty if something can."""
    match interface.kind:
        case Veth() | AutoTap():
            return ""
        case kind:
            return f"kind not supported yet: interfaces of type {kind.type.upper()} are not realised by this version"


def unrealised_wish(interface: Interface) -> str:
    """Return which wish keeps an interface from being as declared, empty if none does.

    A link that it has already is left alone.
    """
    wishes = {
        "link_only": interface.link_only,
        "vrf_master_interface": interface.vrf_master_interface,
        "disabled checksum offloading": isinstance(interface.kind, Veth)
        and "disabled" in {interface.kind.rx_checksum_offloading, interface.kind.tx_checksum_offloading},
    }
    asked = [wish for wish, is_asked in wishes.items() if is_asked]
    return f"not supported yet by this version: {' and '.join(asked)}" if asked else ""
