"""Which interfaces are within the limits, where more are declared than the settings allow. Pure.

Those that were there first stay, whatever is declared after them: a flood of names refuses itself and nobody else. When
one goes, whoever has waited longest takes its place. A change costs the same however many wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.plan import Obstacle
from ifagent.core.policy import Policy
from ifagent.core.state import ConfigState


class Quota:
    """Keeps count of declared interfaces, and of the references to namespaces that admitted ones make.

    ``refused`` says which interfaces are beyond the limits, and why.
    """

    def __init__(self, policy: Policy) -> None:
        self.refused: dict[Name, Obstacle] = {}
        self._admitted: dict[Name, Interface] = {}
        self._references: Counter[NamespaceRef] = Counter()
        self._waiting: dict[Name, Interface] = {}
        self._for_a_place: dict[Name, None] = {}
        self._for_a_reference: dict[NamespaceRef, dict[Name, None]] = {}
        self._most = policy.max_interfaces
        self._most_references = policy.max_namespaces
        reason = f"interface limit of {self._most} (--max-interfaces) exceeded"
        self._no_place = Obstacle(ConfigState.INVALID, reason)
        reason = f"namespace limit of {self._most_references} (--max-namespaces) exceeded"
        self._no_reference = Obstacle(ConfigState.INVALID, reason, field="namespace")

    def redeclare(self, name: Name, interface: Interface | None) -> dict[Name, Interface | None]:
        """Take note of a valid interface that is declared, ``None`` if none is.

        Return what is in force from now on under this name, and under others that are admitted or refused by it.
        """
        before = self._admitted.get(name)
        if before is not None and interface is not None and before.namespace == interface.namespace:
            self._admitted[name] = interface
            return {name: interface}
        changed: dict[Name, Interface | None] = {name: None}
        if before is not None:
            self._leave(name)
        else:
            self._wait_no_more(name)
        if interface is not None:
            self._enter(interface, changed)
        self._fill(changed)
        return changed

    def refused_interface(self, name: Name) -> Interface | None:
        """Return an interface that is beyond the limits."""
        return self._waiting.get(name)

    def prefer(self, name: Name, has_link: Callable[[Name], bool]) -> dict[Name, Interface | None]:
        """Let an interface in that has its link already, for the last one that has none; return what is in force."""
        interface = self._waiting.get(name)
        last = next((other for other in reversed(self._admitted) if not has_link(other)), None)
        if interface is None or last is None:
            return {}
        changed: dict[Name, Interface | None] = {}
        evicted = self._leave(last)
        self._wait_no_more(name)
        self._enter(interface, changed)
        self._enter(evicted, changed)
        self._fill(changed)
        return changed

    def _enter(self, interface: Interface, changed: dict[Name, Interface | None]) -> None:
        """Admit an interface, or have it wait."""
        name, ref = interface.name, interface.namespace
        changed[name] = None
        if len(self._admitted) >= self._most:
            self._for_a_place[name] = None
            self.refused[name] = self._no_place
        elif ref not in self._references and len(self._references) >= self._most_references:
            self._for_a_reference.setdefault(ref, {})[name] = None
            self.refused[name] = self._no_reference
        else:
            self._admitted[name] = changed[name] = interface
            self._references[ref] += 1
            return
        self._waiting[name] = interface

    def _leave(self, name: Name) -> Interface:
        interface = self._admitted.pop(name)
        self._references[interface.namespace] -= 1
        if not self._references[interface.namespace]:
            del self._references[interface.namespace]
        return interface

    def _wait_no_more(self, name: Name) -> None:
        interface = self._waiting.pop(name, None)
        if interface is None:
            return
        del self.refused[name]
        if name in self._for_a_place:
            del self._for_a_place[name]
            return
        others = self._for_a_reference[interface.namespace]
        del others[name]
        if not others:
            del self._for_a_reference[interface.namespace]

    def _fill(self, changed: dict[Name, Interface | None]) -> None:
        """Let those in for whom there is room now."""
        while self._for_a_place and len(self._admitted) < self._most:
            self._move_up(next(iter(self._for_a_place)), changed)
        while (ref := self._next_reference(changed)) is not None and len(self._admitted) < self._most:
            for name in list(self._for_a_reference[ref]):
                self._move_up(name, changed)

    def _next_reference(self, changed: dict[Name, Interface | None]) -> NamespaceRef | None:
        """Return a reference that is waited for and may be made: one that somebody has begun to make, or the first."""
        begun = (i.namespace for i in changed.values() if i is not None and i.namespace in self._for_a_reference)
        if self._for_a_reference and len(self._references) < self._most_references:
            return next(begun, None) or next(iter(self._for_a_reference))
        return next(begun, None)

    def _move_up(self, name: Name, changed: dict[Name, Interface | None]) -> None:
        interface = self._waiting[name]
        self._wait_no_more(name)
        self._enter(interface, changed)
