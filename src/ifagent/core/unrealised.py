"""What can be declared and is not realised yet. Pure."""

from __future__ import annotations

from ifagent.core.interface import Interface, Unsupported


def unrealised_kind(interface: Interface) -> str:
    """Return why nothing can be done about an interface of this kind yet, empty if something can."""
    if not isinstance(interface.kind, Unsupported):
        return ""
    kind = interface.kind.type.upper()
    return f"kind not supported yet: interfaces of type {kind} are not realised by this version"


def unrealised_wish(interface: Interface) -> str:
    """Return which wish keeps an interface from being as declared, empty if none does.

    A link that it has already is left alone.
    """
    if not interface.vrf_master_interface:
        return ""
    return "not supported yet by this version: vrf_master_interface"
