"""What is to be, as the planner takes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.plan import Obstacle


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be, as the planner takes it.

    ``held`` are names whose value is invalid and whose last valid value is unknown: what the kernel has of
    them stays as it is. ``complete`` is true once every source has said all it has: only then is anything of
    ours that nobody wants taken away. ``refused`` are interfaces beyond the limits, and why. Of two that want the same
    thing, and neither has it, the one counts whose number in ``order`` is smaller: it has been declared for longer.
    """

    interfaces: Mapping[Name, Interface]
    held: AbstractSet[Name] = frozenset()
    complete: bool = True
    refused: Mapping[Name, Obstacle] = field(default_factory=dict)
    order: Mapping[Name, int] = field(default_factory=dict)
