"""Which interfaces were as declared, and what was changed externally since. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from ifagent.core.interface import Name
from ifagent.core.plan import Verdict


class Drift:
    """Remembers interfaces that are as declared; what is found of them says whether that has changed."""

    def __init__(self) -> None:
        self._fulfilled: set[Name] = set()
        self._last: dict[Name, str] = {}

    def last(self, name: Name) -> str:
        """Return what was different when an interface was last found to be changed, empty if it never was."""
        return self._last.get(name, "")

    def forget(self, name: Name) -> None:
        """Forget what was different of an interface."""
        self._last.pop(name, None)

    def find(
        self, names: AbstractSet[Name], verdicts: Mapping[Name, Verdict], changed_by_intent: AbstractSet[Name]
    ) -> Iterator[tuple[Name, str]]:
        """Take in what was found of ``names``; yield those that are not as declared any more, and what is different.

        ``changed_by_intent`` are those of which something else is declared since.
        """
        for name in names:
            verdict = verdicts.get(name)
            if verdict is not None and verdict.differences and name not in changed_by_intent:
                text = "; ".join(verdict.differences)
                if name in self._fulfilled:
                    self._last[name] = text
                    yield name, text
                elif name in self._last and verdict.link is None:
                    # A link that dies goes down and loses its addresses first; this is the whole of it.
                    self._last[name] = text
            if verdict is not None and verdict.fulfilled:
                self._fulfilled.add(name)
            else:
                self._fulfilled.discard(name)
