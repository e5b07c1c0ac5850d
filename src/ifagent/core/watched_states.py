"""What a watch of states has told, over several connections, and so what it has to tell next."""

from __future__ import annotations

from ifagent.core.names import Name
from ifagent.core.state import Change, InterfaceState, StateEvent


class WatchedStates:
    """The states that were reported, by name. Events are numbered from 1 on, without a gap."""

    def __init__(self) -> None:
        self.states: dict[Name, InterfaceState] = {}
        self._seq = 0

    def tell(self, change: Change, name: Name, state: InterfaceState | None, missed: int = 0) -> StateEvent:
        """Return an event as it is, under the next number."""
        self._seq += 1
        if change is Change.DELETED:
            self.states.pop(name, None)
        elif state is not None:
            self.states[name] = state
        return StateEvent(seq=self._seq, event=change, name=name, state=state, missed=missed)

    def difference(self, name: Name, state: InterfaceState, *, created: Change = Change.CREATED) -> StateEvent | None:
        """Return the event that a state means, ``None`` if it was told already; ``created`` if its name is new."""
        before = self.states.get(name)
        return None if state == before else self.tell(Change.CHANGED if before else created, name, state)

    def withdraw(self, name: Name) -> StateEvent | None:
        """Return the event that a state is gone, ``None`` if it was not reported before."""
        before = self.states.get(name)
        return self.tell(Change.DELETED, name, before.as_deleted()) if before else None
