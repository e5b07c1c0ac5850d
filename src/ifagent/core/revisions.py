"""What a store declares up to a revision, and what of it is not applied yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ifagent.core.declarations import Declarations
from ifagent.core.resources import Key
from ifagent.core.state import ConfigState, InterfaceState


class RevisionProgress:
    """Follows what a ``source`` declares up to ``revision`` until all of it is applied, as ``states`` tell."""

    def __init__(
        self, declarations: Declarations, states: Mapping[Key, InterfaceState], source: str, revision: int
    ) -> None:
        self._declarations = declarations
        self._states = states
        self._source = source
        self._revision = revision
        self._missing: Collection[Key] = ()

    @property
    def seen(self) -> int:
        """The revision of the source's store that has been heard."""
        return self._declarations.revision(self._source)

    @property
    def done(self) -> bool:
        """True once all of it is heard and applied."""
        if self.seen < self._revision:
            return False
        # Only what was missing before is looked at again, until nothing of that is.
        self._missing = self.missing(self._missing) or self.missing()
        return not self._missing

    def missing(self, keys: Collection[Key] | None = None) -> dict[Key, InterfaceState | None]:
        """Return what is not as the store said, of all or of some, with its newest state."""
        states, declarations = self._states, self._declarations
        if keys is None:
            keys = declarations.keys_by(self._source) | (states.keys() - declarations.declared.keys())
        missing: dict[Key, InterfaceState | None] = {}
        for key in keys:
            state, declaration = states.get(key), declarations.by(self._source, key)
            if declaration is None:
                if state is not None and key not in declarations.declared:
                    missing[key] = state
            elif declaration.revision <= self._revision:
                if state is None or state.observed_revision != declaration.revision:
                    missing[key] = None
                elif state.config_state is not ConfigState.APPLIED:
                    missing[key] = state
        return missing
