"""A plan while it is made: steps, verdicts, and what is learnt. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ifagent.core.link import NsId
from ifagent.core.names import Name
from ifagent.core.operation import Operation
from ifagent.core.plan import Plan, Step, Verdict
from ifagent.core.remembered import Adoption, Learnt
from ifagent.core.resources import Key, interface_key


class Draft:
    """Collects what the planner's rules find, by names of interfaces.

    ``adoptions`` and ``made`` are what is to be remembered of adopted links, and of namespaces that are made.
    """

    def __init__(self) -> None:
        self.steps: dict[Operation, Step] = {}
        self.adoptions: dict[Name, Adoption | None] = {}
        self.made: dict[str, NsId | None] = {}
        self._verdicts: dict[Key, Verdict] = {}

    def judge(self, name: Name, verdict: Verdict) -> None:
        """Note what was found about an interface, instead of what was found before."""
        self._verdicts[interface_key(name)] = verdict

    def is_judged(self, name: Name) -> bool:
        """Tell whether anything was found about an interface."""
        return interface_key(name) in self._verdicts

    def step(self, operation: Operation, names: Iterable[Name], after: Iterable[Operation] = ()) -> None:
        """Have an operation carried out for interfaces, after others."""
        self.steps[operation] = Step(operation, frozenset(map(interface_key, names)), frozenset(after))

    def add_to_step(self, operation: Operation, names: Iterable[Name]) -> None:
        """Have an operation carried out for more interfaces than those that it is carried out for already."""
        known = self.steps.get(operation)
        keys = frozenset(map(interface_key, names))
        self.steps[operation] = Step(operation, keys | known.keys if known else keys)

    def chain(self, operations: Iterable[Operation], names: Iterable[Name]) -> None:
        """Have operations carried out one after the other."""
        names, after = tuple(names), list[Operation]()
        for operation in operations:
            self.step(operation, names, after)
            after = [operation]

    def plan(self) -> Plan:
        """Return the plan."""
        return Plan(self.steps, self._verdicts, Learnt(self.adoptions, self.made))
