"""Which interfaces are within the limits, where more are declared than the settings allow. Pure.

Those that were there first stay, whatever is declared after them: a flood of names refuses itself and nobody else. When
one goes, whoever has waited longest takes its place. A change costs the same however many wait.
"""

from __future__ import annotations

from collections import Counter

from ifagent.core.interface import Interface, Name, NamespaceRef
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.state import ConfigState


class Admission:
    """Keeps count of declared interfaces, and of the references to namespaces that admitted ones make.

    ``refused`` says which interfaces are beyond the limits, and why.
    """

    def __init__(self, policy: Policy) -> None:
        self.refused: dict[Name, Obstacle] = {}
        self._admitted: dict[Name, NamespaceRef] = {}
        self._references: Counter[NamespaceRef] = Counter()
        self._waiting: dict[Name, NamespaceRef] = {}
        self._for_a_place: dict[Name, None] = {}
        self._for_a_reference: dict[NamespaceRef, dict[Name, None]] = {}
        self._most = policy.max_interfaces
        self._most_references = policy.max_namespaces
        reason = f"more than {self._most} interfaces are declared, the settings allow no more"
        self._no_place = Obstacle(ConfigState.INVALID, reason)
        reason = f"interfaces are declared in more than {self._most_references} namespaces, the settings allow no more"
        self._no_reference = Obstacle(ConfigState.INVALID, reason, field="namespace")

    def redeclare(self, name: Name, interface: Interface | None) -> set[Name]:
        """Take note of the interface that is in force under a name, ``None`` if none is.

        Return the names of others, and this one, that are admitted or refused now and were not before.
        """
        before = self._admitted.get(name)
        if interface is not None and before == interface.namespace:
            return set()
        changed: set[Name] = set()
        if before is not None:
            self._leave(name)
        else:
            self._wait_no_more(name)
        if interface is not None:
            self._enter(name, interface.namespace, changed)
        self._fill(changed)
        return changed

    def prefer(self, name: Name) -> set[Name]:
        """Let an interface that has its link already in, for the one that came last; return what has changed."""
        ref = self._waiting.get(name)
        if ref is None or not self._admitted:
            return set()
        changed: set[Name] = set()
        last, last_ref = next(reversed(self._admitted.items()))
        self._leave(last)
        self._wait_no_more(name)
        self._enter(name, ref, changed)
        self._enter(last, last_ref, changed)
        self._fill(changed)
        return changed

    def _enter(self, name: Name, ref: NamespaceRef, changed: set[Name]) -> None:
        """Admit an interface, or have it wait."""
        changed.add(name)
        if len(self._admitted) >= self._most:
            self._for_a_place[name] = None
            self.refused[name] = self._no_place
        elif ref not in self._references and len(self._references) >= self._most_references:
            self._for_a_reference.setdefault(ref, {})[name] = None
            self.refused[name] = self._no_reference
        else:
            self._admitted[name] = ref
            self._references[ref] += 1
            return
        self._waiting[name] = ref

    def _leave(self, name: Name) -> None:
        ref = self._admitted.pop(name)
        self._references[ref] -= 1
        if not self._references[ref]:
            del self._references[ref]

    def _wait_no_more(self, name: Name) -> None:
        ref = self._waiting.pop(name, None)
        if ref is None:
            return
        del self.refused[name]
        if name in self._for_a_place:
            del self._for_a_place[name]
            return
        del self._for_a_reference[ref][name]
        if not self._for_a_reference[ref]:
            del self._for_a_reference[ref]

    def _fill(self, changed: set[Name]) -> None:
        """Let those in for whom there is room now."""
        while self._for_a_place and len(self._admitted) < self._most:
            self._move_up(next(iter(self._for_a_place)), changed)
        while (ref := self._next_reference(changed)) is not None and len(self._admitted) < self._most:
            for name in list(self._for_a_reference[ref]):
                self._move_up(name, changed)

    def _next_reference(self, changed: set[Name]) -> NamespaceRef | None:
        """Return a reference that is waited for and may be made: one that somebody has begun to make, or the first."""
        begun = (ref for name in changed if (ref := self._admitted.get(name)) in self._for_a_reference)
        if self._for_a_reference and len(self._references) < self._most_references:
            return next(begun, None) or next(iter(self._for_a_reference))
        return next(begun, None)

    def _move_up(self, name: Name, changed: set[Name]) -> None:
        ref = self._waiting[name]
        self._wait_no_more(name)
        self._enter(name, ref, changed)
