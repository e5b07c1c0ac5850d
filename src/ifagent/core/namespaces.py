"""Where references to network namespaces lead, and who makes them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from ifagent.core.interface import Interface
from ifagent.core.link import NsId
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.observed import Absence
from ifagent.core.operation import Place


class Namespaces:
    """Look-ups. ``own`` is the agent's own namespace; ``is_marked`` tells whether one has anything of the agent's.

    ``ids`` tells where references lead, ``absent`` why others lead nowhere. ``generation`` counts changes of
    :meth:`referenced`. ``doubtful`` are those that may have to be followed from now on, or no more.
    """

    def __init__(self, own: NsId, is_marked: Callable[[NsId], bool]) -> None:
        self.own = own
        self.ids: dict[NamespaceRef, NsId] = {}
        self.absent: dict[NamespaceRef, Absence] = {}
        self.generation: int = 0
        self.doubtful: set[NsId] = set()
        self._is_marked = is_marked
        self._paths: dict[NamespaceRef, str] = {}
        self._named: Mapping[NamespaceRef, tuple[NsId, str]] = {}
        self._leading_to: dict[NsId, set[NamespaceRef]] = {}
        self._names_in: dict[NamespaceRef, set[Name]] = {}
        self._listed: set[NsId] = set()
        self._draining: dict[NsId, str] = {}
        self._in_use: Counter[NsId] = Counter()

    # What is told

    def set_interface(self, name: Name, before: Interface | None, after: Interface | None) -> None:
        """Take note of the reference that an interface makes."""
        old, new = (None if each is None else each.namespace for each in (before, after))
        if old == new:
            return
        self.generation += 1
        self.doubtful |= {self.ids[ref] for ref in (old, new) if ref in self.ids}
        if old is not None:
            self._names_in[old].discard(name)
            if not self._names_in[old]:
                del self._names_in[old]
        if new is not None:
            self._names_in.setdefault(new, set()).add(name)

    def begin_use(self, namespaces: Iterable[NsId]) -> None:
        """Have namespaces followed until :meth:`end_use`: what is being done there is to be seen."""
        self._in_use.update(namespaces)

    def end_use(self, namespaces: Iterable[NsId]) -> None:
        """Note that what was being done is done, and that its result has been seen."""
        for namespace in namespaces:
            self._in_use[namespace] -= 1
            if not self._in_use[namespace]:
                del self._in_use[namespace]
                self.doubtful.add(namespace)

    def news(self, ref: NamespaceRef, id: NsId | None, path: str, absence: Absence | None) -> bool:
        """Tell whether it is new where a reference leads."""
        return (self.ids.get(ref), self._paths.get(ref, ""), self.absent.get(ref)) != (id, path, absence)

    def lead(self, ref: NamespaceRef, id: NsId | None, path: str, absence: Absence | None) -> None:
        """Take note of where a reference leads, by which path it is opened, or why it leads nowhere."""
        before = self.ids.pop(ref, None)
        self._paths.pop(ref, None)
        self.absent.pop(ref, None)
        if before is not None:
            self._leading_to[before].discard(ref)
            if not self._leading_to[before]:
                del self._leading_to[before]
        if absence is not None:
            self.absent[ref] = absence
        if id is not None:
            self.ids[ref], self._paths[ref] = id, path
            self._leading_to.setdefault(id, set()).add(ref)
        if before is not None and before not in self._leading_to:
            self._listed.discard(before)
        self.doubtful |= {each for each in (before, id) if each is not None}

    def list_named(
        self, paths: Mapping[NamespaceRef, tuple[NsId, str]]
    ) -> Iterator[tuple[NamespaceRef, NsId | None, str]]:
        """Take note of the named namespaces that there are; yield which lead elsewhere, where, and by which path."""
        before, self._named = self._named, paths
        for ref in before.keys() - paths.keys():
            yield ref, None, ""
        for ref, (id, path) in paths.items() - before.items():
            yield ref, id, path

    def note_listed(self, namespace: NsId) -> None:
        """Take note that the links of a namespace were listed: if nothing there is the agent's, once is enough."""
        self._listed.add(namespace)

    def drain(self, namespace: NsId, path: str) -> None:
        """Have a namespace followed to which nothing leads, until nothing of the agent's is left there."""
        self._draining[namespace] = path

    def take_doubtful(self) -> set[NsId]:
        """Return ``doubtful``, and begin anew."""
        doubtful, self.doubtful = self.doubtful, set()
        return doubtful

    # What is asked

    def place(self, ref: NamespaceRef) -> Place:
        """Return where a reference leads; itself if it leads nowhere."""
        return self.own if ref.type is NamespaceType.OWN else self.ids.get(ref, ref)

    def path(self, ref: NamespaceRef) -> str:
        """Return the path by which the namespace of a reference is opened, empty if it leads nowhere."""
        return self._paths.get(ref, "")

    def leading_to(self, namespace: NsId) -> frozenset[NamespaceRef]:
        """Return the references that lead to a namespace."""
        return frozenset(self._leading_to.get(namespace, ()))

    def names_in(self, ref: NamespaceRef) -> frozenset[Name]:
        """Return the interfaces that make a reference."""
        return frozenset(self._names_in.get(ref, ()))

    def referenced(self) -> frozenset[NamespaceRef]:
        """Return every reference that an interface makes."""
        return frozenset(self._names_in)

    def is_referenced(self, namespace: NsId) -> bool:
        """Tell whether an interface refers to a namespace."""
        return any(ref in self._names_in for ref in self._leading_to.get(namespace, ()))

    def to_follow(self, namespace: NsId) -> tuple[str, bool]:
        """Return a path to open a namespace that is to be followed, and whether an interface refers to it.

        Followed are the agent's own, those that a declared interface refers to, those with links of ours or made by
        us, those in which something is being done, and each other one until it has been listed once, for left-overs.
        The path is empty for others.
        """
        wanted = namespace == self.own or self.is_referenced(namespace)
        is_needed = self._is_marked(namespace) or namespace in self._in_use
        if wanted or is_needed or namespace not in self._listed:
            for ref in self._leading_to.get(namespace, ()):
                return self._paths[ref], wanted
        if namespace in self._draining:
            if is_needed:
                return self._draining[namespace], False
            del self._draining[namespace]
        return "", False
