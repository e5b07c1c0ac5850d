"""What every source declares, and which of it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import assert_never

from ifagent.core.events import Declaration, Declared, SourceHealth, SourceRevision, SourceSnapshot
from ifagent.core.resources import Key

SourceEvent = SourceSnapshot | Declared | SourceHealth | SourceRevision


class Declarations:
    """Takes in what sources say; ``declared`` is what counts of it.

    ``sources`` are the names of the configured sources; where two declare the same resource, the one listed first
    counts, and is waited for at the start. What a statement has made doubtful is decided by :meth:`decide`.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources: tuple[str, ...] = tuple(sources)
        self.declared: dict[Key, Declaration] = {}
        self.problems: dict[str, str] = {}
        self._said: dict[str, dict[Key, Declaration]] = {source: {} for source in self.sources}
        self._synced: set[str] = set()
        self._heard: set[str] = set()
        self._incomplete: set[str] = set()
        self._in_trouble: set[str] = set()
        self._revisions: dict[str, int] = dict.fromkeys(self.sources, 0)
        self._undecided: dict[Key, None] = {}
        self._counting = self._find_counting()

    # What is said

    def take(self, event: SourceEvent) -> None:
        """Take in what a source says."""
        match event:
            case SourceSnapshot():
                self._replace(event)
            case Declared():
                self._declare(event.source, event.key, event.declaration)
            case SourceHealth(source=source, problem=problem):
                self.problems[source] = problem
                if problem:
                    self._in_trouble.add(source)
                self._recount()
            case SourceRevision(source=source, revision=revision):
                self._revisions[source] = revision
            case _:
                assert_never(event)

    def _declare(self, source: str, key: Key, declaration: Declaration | None) -> None:
        if declaration is None:
            self._said[source].pop(key, None)
        else:
            self._said[source][key] = declaration
            self._reach(source, declaration.revision)
        self._undecided[key] = None

    def _replace(self, snapshot: SourceSnapshot) -> None:
        source, said = snapshot.source, snapshot.declarations
        before, self._said[source] = self._said[source], dict(said)
        self._synced.add(source)
        if snapshot.complete or snapshot.recalled:
            self._heard.add(source)
        (self._incomplete.discard if snapshot.complete else self._incomplete.add)(source)
        self._undecided.update(dict.fromkeys(before))
        self._undecided.update(dict.fromkeys(said))
        self._reach(source, max((declaration.revision for declaration in said.values()), default=0))
        self._recount()

    def _reach(self, source: str, revision: int) -> None:
        self._revisions[source] = max(self._revisions[source], revision)

    def _recount(self) -> None:
        if (counting := self._find_counting()) != self._counting:
            self._counting = counting
            for said in self._said.values():
                self._undecided.update(dict.fromkeys(said))

    def _find_counting(self) -> tuple[str, ...]:
        """Return the sources whose word counts now, in their order.

        One that has not said yet what it has is waited for, unless it was in trouble: what those after it say may
        turn out not to count, and must not undo what the kernel has of it.
        """
        waited_for = (s for s in self.sources if s not in self._synced and s not in self._in_trouble)
        first = next(waited_for, None)
        return self.sources if first is None else self.sources[: self.sources.index(first) + 1]

    # What counts

    def decide(self, most: int) -> Iterator[tuple[Key, Declaration | None]]:
        """Find out what counts of at most so many doubtful resources; yield those of which it is something else now."""
        for key in list(islice(self._undecided, most)):
            del self._undecided[key]
            said = (self._said[source] for source in self._counting)
            declaration = next((each[key] for each in said if key in each), None)
            if declaration == self.declared.get(key):
                continue
            if declaration is None:
                del self.declared[key]
            else:
                self.declared[key] = declaration
            yield key, declaration

    @property
    def undecided(self) -> bool:
        """True while :meth:`decide` has something to do."""
        return bool(self._undecided)

    @property
    def synced(self) -> bool:
        """True once every configured source has said what it has at least once."""
        return self._synced.issuperset(self.sources)

    @property
    def complete(self) -> bool:
        """True if everything that is declared is known."""
        return self.synced and not self._incomplete

    @property
    def unheard(self) -> tuple[str, ...]:
        """The sources that have not said yet all that they have, in their order."""
        return tuple(source for source in self.sources if source not in self._heard)

    def revision(self, source: str) -> int:
        """Return the revision of a source's store up to which it is known, 0 if nothing is."""
        return self._revisions[source]

    def keys_by(self, source: str) -> frozenset[Key]:
        """Return the resources of which a source says something."""
        return frozenset(self._said[source])

    def by(self, source: str, key: Key) -> Declaration | None:
        """Return what counts as declared of a resource if a source says it."""
        said = self._said[source].get(key)
        return said if said is not None and said == self.declared.get(key) else None
