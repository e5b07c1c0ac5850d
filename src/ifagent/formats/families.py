"""What is declared for one agent in the ways of both ligato families at once, and which of two values counts.

A name may be declared under the keys of v1.4.1, of v3, or of both. Of both the value of v3 counts, also when it is
invalid, and the other one comes back when that of v3 is deleted. See :mod:`ifagent.formats.keys` for the keys.

Reading a value takes much longer than receiving it, so whoever has many of them hands them over some at a time. What
is listed again is read again only where it is different.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from sys import getsizeof
from typing import Final, NamedTuple, Protocol

from ifagent.core.events import Declaration
from ifagent.core.interface import Name
from ifagent.errors import FieldError
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.keys import config_prefix, config_prefix_v3, name_of

MAX_NAMES: Final = 250_000
"""Most different names that are looked at; one whose value says much counts for several of them."""

_SHARE: Final = 2500
"""Bytes of memory that one name may cost, about what one without addresses does."""

_ADDRESS: Final = 400
"""Bytes of memory that an address costs."""

_NO_ROOM: Final = FieldError("", "memory limit for declarations of this store exceeded, the new value is ignored")


class StoredValue(Protocol):
    """What a store has under a key, and the store's revision that wrote it."""

    @property
    def data(self) -> bytes:
        """The value as it is."""

    @property
    def revision(self) -> int:
        """The revision, greater than 0."""


class _Declare(Protocol):
    def __call__(self, value: bytes, *, name: str, revision: int) -> Declaration: ...


@dataclass(frozen=True, slots=True)
class _Family:
    prefix: bytes
    declare: _Declare

    def key(self, name: Name) -> str:
        """Return the key of an interface, to be shown."""
        return f"{self.prefix.decode()}{name}"


class _Said(NamedTuple):
    """What one value says, a hash that tells whether another one is the same, and for how many names it counts."""

    declaration: Declaration
    hash: int | None
    cost: int


class Families:
    """What the values under both prefixes of the agent called ``label`` say, as far as it was told.

    Of more than ``max_names`` names those that were there first are looked at; ``left_out`` tells that there are
    others, or new values of them for which there was no room. Making one raises
    :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, label: str, *, max_names: int = MAX_NAMES) -> None:
        # In the order in which they count.
        self._families = (
            _Family(config_prefix_v3(label), ligato_v3.declare),
            _Family(config_prefix(label), ligato_v1.declare),
        )
        self.left_out: bool = False
        self._max_names = max_names
        self._said: dict[Name, dict[bytes, _Said]] = {}
        self._before: dict[Name, dict[bytes, _Said]] = {}
        self._is_listing = False
        self._room = max_names

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """The prefixes of all keys that matter."""
        return tuple(family.prefix for family in self._families)

    def __len__(self) -> int:
        """Return how many names are declared."""
        return len(self._said)

    @property
    def has_room(self) -> bool:
        """True if there is some room for names that were left out."""
        return self._room > self._max_names // 10

    def begin_listing(self) -> None:
        """Have what is handed to :meth:`change` until :meth:`end_listing` be all that there is.

        A listing that has begun already is forgotten.
        """
        if not self._is_listing:
            self._before = self._said
        self._is_listing = True
        self._said, self.left_out = {}, False
        self._room = self._max_names - _cost_of(self._before)

    def end_listing(self) -> dict[Name, Declaration | None]:
        """Return what is declared now under each name of which it is different from before the listing."""
        before, self._before, self._is_listing = self._before, {}, False
        self._room = self._max_names - _cost_of(self._said)
        different: dict[Name, Declaration | None] = {}
        for name, said in self._said.items():
            if said != before.get(name):
                different[name] = self.counting(name)
        for name in before.keys() - self._said.keys():
            different[name] = None
        return different

    def declarations(self) -> dict[Name, Declaration]:
        """Return everything that is declared, in the order of names."""
        return {name: said for name in sorted(self._said) if (said := self.counting(name))}

    def replace(self, values: Mapping[bytes, StoredValue]) -> dict[Name, Declaration]:
        """Forget everything and take ``values``, by key; return what is declared, in the order of names."""
        self.begin_listing()
        self.change(values.items())
        self.end_listing()
        return self.declarations()

    def change(self, changes: Iterable[tuple[bytes, StoredValue | None]]) -> dict[Name, None]:
        """Take changes of keys; return the names that they are about, in order and once."""
        names: dict[Name, None] = {}
        for key, value in changes:
            family = next((family for family in self._families if key.startswith(family.prefix)), None)
            name = name_of(family.prefix, key) if family else Name("")
            if family is None or not name:
                continue
            if value is None:
                if not self._forget(family, name):
                    continue
            elif not self._say(family, name, value):
                continue
            names[name] = None
        return names

    def _say(self, family: _Family, name: Name, value: StoredValue) -> bool:
        """Take a value; return false if there is no room for its name."""
        before = self._before.get(name)
        is_new = before is None and name not in self._said
        if is_new and self._room <= 0:
            self.left_out = True
            return False
        said = self._said.get(name, {})
        known = said.get(family.prefix) or (before or {}).get(family.prefix)
        new, cost = self._read(family, name, value), known.cost if known else 0
        if new.declaration.interface is None and new.cost < cost:
            new = new._replace(cost=cost)  # the last valid value may still be in force
        if new.cost - cost > max(0, self._room):
            self.left_out = True
            if is_new:
                return False
            declaration = Declaration(name=name, errors=(_NO_ROOM,), revision=value.revision)
            new = _Said(declaration, None, cost)
        self._room -= new.cost - cost
        said[family.prefix] = new
        self._said[name] = said
        return True

    def _forget(self, family: _Family, name: Name) -> bool:
        """Take back what a value said; return whether anything is known of its name."""
        said = self._said.get(name)
        if said is None:
            return False
        if (known := said.pop(family.prefix, None)) is not None:
            self._room += known.cost
        if not said:
            del self._said[name]
        return True

    def is_declared_well(self, key: bytes) -> bool:
        """Tell whether a key is that of an interface which is declared, and not wrong."""
        family = next((family for family in self._families if key.startswith(family.prefix)), None)
        said = self._said.get(name_of(family.prefix, key), {}) if family else {}
        return any(value.declaration.interface is not None for value in said.values())

    def counting(self, name: Name) -> Declaration | None:
        """Return the declaration that counts, with a warning if there is another one."""
        said = self._said.get(name, {})
        declaring = [family for family in self._families if family.prefix in said]
        if not declaring:
            return None
        first, *others = declaring
        declaration = said[first.prefix].declaration
        if not others:
            return declaration
        warnings = tuple(
            f"is also declared under {other.key(name)}, the ligato v3 value takes precedence" for other in others
        )
        return replace(declaration, warnings=(*declaration.warnings, *warnings))

    def _read(self, family: _Family, name: Name, value: StoredValue) -> _Said:
        """Read a value, unless it is the one that was listed before."""
        known = self._before.get(name, {}).get(family.prefix)
        digest = hash(value.data)
        if known and known.hash == digest and known.declaration.revision == value.revision:
            return known
        declaration = family.declare(value.data, name=name, revision=value.revision)
        return _Said(declaration, digest, 1 + _size(declaration) // _SHARE)


def _cost_of(said: Mapping[Name, Mapping[bytes, _Said]]) -> int:
    return sum(value.cost for values in said.values() for value in values.values())


def _size(declaration: Declaration) -> int:
    """Return about how many bytes of memory a declaration takes, beyond what every one does."""
    texts = [*(error.message for error in declaration.errors), *declaration.warnings]
    interface, addresses = declaration.interface, 0
    if interface is not None:
        texts += [interface.description, interface.namespace.reference]
        addresses = len(interface.ip_addresses)
    return sum(map(getsizeof, texts)) + addresses * _ADDRESS
