"""The states to publish, and which of them have still to be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ifagent.core.resources import Key
from ifagent.core.state import ConfigState, InterfaceState

MAX_INVALID: Final = 1000
"""Most invalid interfaces that are published.

A client may write very many invalid values. An interface that is published already stays published in any case.
"""


class ToPublish:
    """The newest states; invalid ones are written after all others.

    ``left_out`` has the states that are not published because there are too many invalid ones.
    """

    def __init__(self, *, max_invalid: int = MAX_INVALID) -> None:
        self.states: dict[Key, InterfaceState] = {}
        self.left_out: dict[Key, InterfaceState] = {}
        self._max_invalid = max_invalid
        self._invalid: set[Key] = set()
        self._dirty: dict[Key, None] = {}
        self._dirty_invalid: dict[Key, None] = {}

    def __len__(self) -> int:
        """Return how many states have to be written."""
        return len(self._dirty) + len(self._dirty_invalid)

    def note(self, key: Key, state: InterfaceState | None) -> None:
        """Record the newest state of an interface, ``None`` for one that is gone."""
        was_left_out = self.left_out.pop(key, None) is not None
        is_invalid = state is not None and state.config_state is ConfigState.INVALID
        self._invalid.discard(key)
        if state is None:
            if self.states.pop(key, None) is not None or not was_left_out:
                self._touch(key, is_invalid=False)
        elif is_invalid and key not in self.states and len(self._invalid) >= self._max_invalid:
            self.left_out[key] = state
        else:
            self.states[key] = state
            if is_invalid:
                self._invalid.add(key)
            self._touch(key, is_invalid=is_invalid)
        if self.left_out and len(self._invalid) < self._max_invalid:
            next_key = next(iter(self.left_out))
            self.note(next_key, self.left_out[next_key])

    def touch_unless(self, is_written: Callable[[Key], bool]) -> None:
        """Mark every state as to be written for which ``is_written`` is false."""
        for key in self.states:
            if not is_written(key):
                self.touch(key)

    def touch(self, key: Key) -> None:
        """Mark a state as to be written again."""
        self._touch(key, is_invalid=key in self._invalid)

    def take(self, most: int) -> list[Key]:
        """Remove and return up to ``most`` keys whose states have to be written, invalid ones last."""
        keys: list[Key] = []
        for dirty in (self._dirty, self._dirty_invalid):
            while dirty and len(keys) < most:
                key = next(iter(dirty))
                del dirty[key]
                keys.append(key)
        return keys

    def _touch(self, key: Key, *, is_invalid: bool) -> None:
        into, other = (self._dirty_invalid, self._dirty) if is_invalid else (self._dirty, self._dirty_invalid)
        into[key] = None
        other.pop(key, None)
