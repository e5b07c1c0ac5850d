"""Which states are to be published, and which of them are still to be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ifagent.core.interface import Name
from ifagent.core.state import ConfigState, InterfaceState

MAX_INVALID: Final = 1000
"""Most invalid interfaces that are published though nothing was published of them before.

Whoever writes values may write very many that are none. What becomes of an interface that is published already is
told in any case.
"""


class ToPublish:
    """The newest states; what is invalid waits to be written until everything else is.

    ``left_out`` has the states that are not published because there are too many invalid ones.
    """

    def __init__(self, *, max_invalid: int = MAX_INVALID) -> None:
        self.states: dict[Name, InterfaceState] = {}
        self.left_out: dict[Name, InterfaceState] = {}
        self._max_invalid = max_invalid
        self._invalid: set[Name] = set()
        self._dirty: dict[Name, None] = {}
        self._dirty_invalid: dict[Name, None] = {}

    def __len__(self) -> int:
        """Return how many names are to be written."""
        return len(self._dirty) + len(self._dirty_invalid)

    def note(self, name: Name, state: InterfaceState | None) -> None:
        """Take in the newest state of an interface, ``None`` for one that is no more."""
        was_left_out = self.left_out.pop(name, None) is not None
        is_invalid = state is not None and state.config_state is ConfigState.INVALID
        self._invalid.discard(name)
        if state is None:
            if self.states.pop(name, None) is not None or not was_left_out:
                self._touch(name, is_invalid=False)
        elif is_invalid and name not in self.states and len(self._invalid) >= self._max_invalid:
            self.left_out[name] = state
        else:
            self.states[name] = state
            if is_invalid:
                self._invalid.add(name)
            self._touch(name, is_invalid=is_invalid)
        if self.left_out and len(self._invalid) < self._max_invalid:
            next_name = next(iter(self.left_out))
            self.note(next_name, self.left_out[next_name])

    def touch_unless(self, is_written: Callable[[Name], bool]) -> None:
        """Have every state written anew that ``is_written`` does not tell of."""
        for name in self.states:
            if not is_written(name):
                self.touch(name)

    def touch(self, name: Name) -> None:
        """Have a state written anew."""
        self._touch(name, is_invalid=name in self._invalid)

    def take(self, most: int) -> list[Name]:
        """Return up to ``most`` names that are to be written, those first that are not invalid; they are taken out."""
        names: list[Name] = []
        for dirty in (self._dirty, self._dirty_invalid):
            while dirty and len(names) < most:
                name = next(iter(dirty))
                del dirty[name]
                names.append(name)
        return names

    def _touch(self, name: Name, *, is_invalid: bool) -> None:
        into, other = (self._dirty_invalid, self._dirty) if is_invalid else (self._dirty, self._dirty_invalid)
        into[name] = None
        other.pop(name, None)
