"""Interfaces and states as text for people."""

from __future__ import annotations

from ifagent.core.interface import Interface
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.state import ConfigState, InterfaceState, Status

COLOURS = {
    ConfigState.APPLIED: "green",
    ConfigState.PENDING: "yellow",
    ConfigState.RETRYING: "yellow",
    ConfigState.FAILED: "red",
    ConfigState.INVALID: "red",
    ConfigState.FOREIGN: "bright_black",
}


FACTS = ("id", "routing_table", "mode", "stp", "vlan_filtering")
"""The settings that people look for."""


def kind_of(state: InterfaceState) -> str:
    """Return what a link is, with what people look for: its settings, what it sits on and what it is a port of."""
    settings = dict(state.settings)
    facts = [name if value is True else str(value) for name in FACTS if (value := settings.get(name))]
    words = [state.type, *facts, *(["on", state.lower] if state.lower else [])]
    return " ".join(words) + (f", port of {state.master}" if state.master else "")


def peer_of(interface: Interface) -> str:
    """Return the name of a veth's peer, or the name of a TAP before adoption; empty for other kinds."""
    for reference in interface.kind.references():
        return reference.to
    made_as = interface.kind.made_as(interface)
    return "" if made_as == interface.host_name else made_as


def namespace(ref: NamespaceRef) -> str:
    """Return the reference as text; empty for the agent's own namespace, just the name for a named one."""
    match ref.type:
        case NamespaceType.OWN:
            return ""
        case NamespaceType.NAMED:
            return ref.reference
        case _:
            return str(ref)


def link(state: InterfaceState) -> str:
    """Summarise the link of a state."""
    if not state.if_index:
        return "no link"
    place = namespace(state.namespace)
    parts = [
        f"{state.internal_name} in {place}" if place else state.internal_name,
        kind_of(state),
        updown(state),
        f"ifindex {state.if_index}",
        f"mtu {state.mtu}",
        *map(str, state.ip_addresses),
    ]
    if any(traffic(state)):
        parts += [f"{way} {rate}" for way, rate in zip(("in", "out"), traffic(state), strict=True)]
    return ", ".join(parts)


def traffic(state: InterfaceState) -> tuple[str, str]:
    """Return the rates of receiving and sending as text; empty if unknown."""
    rates = state.statistics.rates if state.statistics else None
    if rates is None:
        return "", ""
    ways = (rates.in_bytes, rates.in_packets), (rates.out_bytes, rates.out_packets)
    received, sent = (f"{_amount(size)}B/s {_amount(packets)}p/s" for size, packets in ways)
    return received, sent


def _amount(value: float) -> str:
    """Return a number with three significant digits, a space, and a metric prefix."""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} T"


def updown(state: InterfaceState) -> str:
    """Return admin and operational status as text."""
    if not state.if_index:
        return ""
    if state.admin_status is not Status.UP:
        return "down"
    return "up" if state.oper_status is Status.UP else "up, no carrier"
