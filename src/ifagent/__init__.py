"""ifagent keeps Linux network interfaces as their owners declared them.

The public names; see :class:`Agent` first. Sources beside :class:`Memory` are in :mod:`ifagent.sources`, the
simulated kernel for tests in :mod:`ifagent.kernel.simulated`.
"""

from ifagent.agent import Agent
from ifagent.core.index import Desired, Observed
from ifagent.core.interface import AutoTap, Interface, NamespaceRef, NamespaceType, Veth, named
from ifagent.core.plan import Plan
from ifagent.core.planner import plan
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent, Status
from ifagent.errors import IfagentError, InvalidInterface, NotApplied, UnknownInterface
from ifagent.settings import Settings
from ifagent.sources.memory import Memory

__all__ = [
    "Agent",
    "AutoTap",
    "Change",
    "ConfigState",
    "Desired",
    "IfagentError",
    "Interface",
    "InterfaceState",
    "InvalidInterface",
    "Memory",
    "NamespaceRef",
    "NamespaceType",
    "NotApplied",
    "Observed",
    "Plan",
    "Settings",
    "StateEvent",
    "Status",
    "UnknownInterface",
    "Veth",
    "named",
    "plan",
]
