"""ifagent keeps Linux network interfaces as their owners declared them.

The public names; see :class:`Agent` first. Sources beside :class:`Memory` are in :mod:`ifagent.stores`, the
simulated kernel for tests in :mod:`ifagent.kernel.simulated`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ifagent.agent import Agent
    from ifagent.core.counters import Counters
    from ifagent.core.desired import Desired
    from ifagent.core.interface import Interface
    from ifagent.core.kinds import (
        AutoTap,
        Bond,
        Bridge,
        BridgePort,
        Dummy,
        Existing,
        Geneve,
        Ifb,
        Ipvlan,
        Loopback,
        Macvlan,
        Macvtap,
        TapDevice,
        TunDevice,
        Tunnel,
        Veth,
        Vlan,
        VrfDevice,
        Vxlan,
    )
    from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
    from ifagent.core.observed import Observed
    from ifagent.core.plan import Plan
    from ifagent.core.planner import plan
    from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
    from ifagent.errors import IfagentError, InvalidInterface, NotApplied, RevisionNotApplied, UnknownInterface
    from ifagent.settings import Settings
    from ifagent.statistics import Statistics
    from ifagent.stores.memory import Memory

# Where each name is defined; imported when it is first used, so that no program pays for what it does not use.
_MODULES = {
    "Agent": "ifagent.agent",
    "AutoTap": "ifagent.core.kinds",
    "Change": "ifagent.core.state",
    "ConfigState": "ifagent.core.state",
    "Counters": "ifagent.core.counters",
    "Desired": "ifagent.core.desired",
    "Dummy": "ifagent.core.kinds",
    "Existing": "ifagent.core.kinds",
    "IfagentError": "ifagent.errors",
    "Interface": "ifagent.core.interface",
    "InterfaceState": "ifagent.core.state",
    "InvalidInterface": "ifagent.errors",
    "Loopback": "ifagent.core.kinds",
    "Memory": "ifagent.stores.memory",
    "NamespaceRef": "ifagent.core.namespace_ref",
    "NamespaceType": "ifagent.core.namespace_ref",
    "NotApplied": "ifagent.errors",
    "Observed": "ifagent.core.observed",
    "Plan": "ifagent.core.plan",
    "RevisionNotApplied": "ifagent.errors",
    "Settings": "ifagent.settings",
    "StateEvent": "ifagent.core.state",
    "Statistics": "ifagent.statistics",
    "Status": "ifagent.core.state",
    "UnknownInterface": "ifagent.errors",
    "Bond": "ifagent.core.kinds",
    "Bridge": "ifagent.core.kinds",
    "BridgePort": "ifagent.core.kinds",
    "Geneve": "ifagent.core.kinds",
    "TapDevice": "ifagent.core.kinds",
    "TunDevice": "ifagent.core.kinds",
    "Tunnel": "ifagent.core.kinds",
    "Vxlan": "ifagent.core.kinds",
    "Ifb": "ifagent.core.kinds",
    "Ipvlan": "ifagent.core.kinds",
    "Macvlan": "ifagent.core.kinds",
    "Macvtap": "ifagent.core.kinds",
    "Vlan": "ifagent.core.kinds",
    "VrfDevice": "ifagent.core.kinds",
    "Veth": "ifagent.core.kinds",
    "named": "ifagent.core.namespace_ref",
    "plan": "ifagent.core.planner",
}

__all__ = [
    "Agent",
    "AutoTap",
    "Bond",
    "Bridge",
    "BridgePort",
    "Change",
    "ConfigState",
    "Counters",
    "Desired",
    "Dummy",
    "Existing",
    "Geneve",
    "IfagentError",
    "Ifb",
    "Interface",
    "InterfaceState",
    "InvalidInterface",
    "Ipvlan",
    "Loopback",
    "Macvlan",
    "Macvtap",
    "Memory",
    "NamespaceRef",
    "NamespaceType",
    "NotApplied",
    "Observed",
    "Plan",
    "RevisionNotApplied",
    "Settings",
    "StateEvent",
    "Statistics",
    "Status",
    "TapDevice",
    "TunDevice",
    "Tunnel",
    "UnknownInterface",
    "Veth",
    "Vlan",
    "VrfDevice",
    "Vxlan",
    "named",
    "plan",
]


def __getattr__(name: str) -> object:
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
