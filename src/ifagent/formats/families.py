"""Declarations for one agent in the formats of ligato v1.4.1 and v3 at once, and precedence between them.

A name may be declared under a key of v1.4.1, of v3, or both. If both, the v3 value takes precedence, even when it is
invalid; after its deletion the other one is in force again. See :mod:`ifagent.formats.keys` for the keys.

Decoding a value takes much longer than receiving it, so callers pass many values in portions. Values that are listed
again are decoded again only if they have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from sys import getsizeof
from typing import Final, NamedTuple, Protocol

from ifagent.core.events import Declaration
from ifagent.core.resources import INTERFACE, Key
from ifagent.errors import FieldError
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.keys import config_prefix, config_prefix_v3, resource_at

MAX_NAMES: Final = 250_000
"""Most names; one with a large value counts for several."""

_SHARE: Final = 2500
"""Bytes of memory that count as one name, about what one without addresses takes."""

_ADDRESS: Final = 400
"""Bytes of memory that an address costs."""

_NO_ROOM: Final = FieldError("", "memory limit for declarations of this store exceeded, the new value is ignored")


class StoredValue(Protocol):
    """A value in a store, and the revision that wrote it."""

    @property
    def data(self) -> bytes:
        """The encoded value."""

    @property
    def revision(self) -> int:
        """The revision, greater than 0."""


class _Declare(Protocol):
    def __call__(self, value: bytes, *, name: str, revision: int) -> Declaration: ...


@dataclass(frozen=True, slots=True)
class _Family:
    type: str
    prefix: bytes
    declare: _Declare

    def shown(self, key: Key) -> str:
        """Return the store's key of a resource for messages."""
        return f"{self.prefix.decode()}{key.name}"

    def resource_at(self, stored: bytes) -> Key | None:
        """Return which resource a store's key is about, ``None`` if none of this family."""
        return resource_at(self.type, self.prefix, stored)


class _DecodedValue(NamedTuple):
    """A decoded value: its declaration, a hash to detect changes, and for how many names it counts."""

    declaration: Declaration
    hash: int | None
    cost: int


class Families:
    """The declarations under both prefixes of the agent called ``label``.

    At most ``max_names`` names are accepted, first come, first served; ``left_out`` says that others, or larger values,
    were ignored. The constructor raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a
    key.
    """

    def __init__(self, label: str, *, max_names: int = MAX_NAMES) -> None:
        # In order of precedence.
        self._families = (
            _Family(INTERFACE, config_prefix_v3(label), ligato_v3.declare),
            _Family(INTERFACE, config_prefix(label), ligato_v1.declare),
        )
        self.left_out: bool = False
        self._max_names = max_names
        self._decoded: dict[Key, dict[bytes, _DecodedValue]] = {}
        self._before: dict[Key, dict[bytes, _DecodedValue]] = {}
        self._is_listing = False
        self._room = max_names

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """The prefixes of all keys that matter."""
        return tuple(family.prefix for family in self._families)

    def __len__(self) -> int:
        """Return how many names are declared."""
        return len(self._decoded)

    @property
    def has_room(self) -> bool:
        """True if there is room for names that were left out."""
        return self._room > self._max_names // 10

    def begin_listing(self) -> None:
        """Begin a listing: everything that is not passed to :meth:`change` before :meth:`end_listing` is dropped.

        A listing that has begun already starts over.
        """
        if not self._is_listing:
            self._before = self._decoded
        self._is_listing = True
        self._decoded, self.left_out = {}, False
        self._room = self._max_names - _cost_of(self._before)

    def end_listing(self) -> dict[Key, Declaration | None]:
        """Return the declarations that differ from those before the listing, ``None`` for those that are gone."""
        before, self._before, self._is_listing = self._before, {}, False
        self._room = self._max_names - _cost_of(self._decoded)
        different: dict[Key, Declaration | None] = {}
        for key, values in self._decoded.items():
            if values != before.get(key):
                different[key] = self.effective(key)
        for key in before.keys() - self._decoded.keys():
            different[key] = None
        return different

    def declarations(self) -> dict[Key, Declaration]:
        """Return the effective declarations, sorted by name."""
        return {key: declaration for key in sorted(self._decoded) if (declaration := self.effective(key))}

    def replace(self, values: Mapping[bytes, StoredValue]) -> dict[Key, Declaration]:
        """Replace everything by ``values``, by key; return the effective declarations, sorted by name."""
        self.begin_listing()
        self.change(values.items())
        self.end_listing()
        return self.declarations()

    def change(self, changes: Iterable[tuple[bytes, StoredValue | None]]) -> dict[Key, None]:
        """Apply changes of the store's keys; return the resources concerned, in order, without repetition."""
        keys: dict[Key, None] = {}
        for stored, value in changes:
            family, key = self._find(stored)
            if family is None or key is None:
                continue
            if value is None:
                if not self._forget(family, key):
                    continue
            elif not self._add(family, key, value):
                continue
            keys[key] = None
        return keys

    def resource_at(self, stored: bytes) -> Key | None:
        """Return the resource of a store's key, ``None`` if there is none."""
        return self._find(stored)[1]

    def _find(self, stored: bytes) -> tuple[_Family | None, Key | None]:
        """Return the format and the resource of a store's key."""
        for family in self._families:
            if stored.startswith(family.prefix):
                return family, family.resource_at(stored)
        return None, None

    def _add(self, family: _Family, key: Key, value: StoredValue) -> bool:
        """Add a value; return false if there is no room for its name."""
        before = self._before.get(key)
        is_new = before is None and key not in self._decoded
        if is_new and self._room <= 0:
            self.left_out = True
            return False
        values = self._decoded.get(key, {})
        known = values.get(family.prefix) or (before or {}).get(family.prefix)
        new, cost = self._read(family, key, value), known.cost if known else 0
        if new.declaration.interface is None and new.cost < cost:
            new = new._replace(cost=cost)  # the last valid value may still be in force
        if new.cost - cost > max(0, self._room):
            self.left_out = True
            if is_new:
                return False
            declaration = Declaration(key=key, errors=(_NO_ROOM,), revision=value.revision)
            new = _DecodedValue(declaration, None, cost)
        self._room -= new.cost - cost
        values[family.prefix] = new
        self._decoded[key] = values
        return True

    def _forget(self, family: _Family, key: Key) -> bool:
        """Remove a value; return whether the resource was known."""
        values = self._decoded.get(key)
        if values is None:
            return False
        if (known := values.pop(family.prefix, None)) is not None:
            self._room += known.cost
        if not values:
            del self._decoded[key]
        return True

    def is_valid(self, stored: bytes) -> bool:
        """Tell whether a store's key belongs to a resource with a valid declaration."""
        key = self.resource_at(stored)
        values = self._decoded.get(key, {}) if key else {}
        return any(value.declaration.interface is not None for value in values.values())

    def effective(self, key: Key) -> Declaration | None:
        """Return the declaration that takes precedence, with a warning if there is another one."""
        values = self._decoded.get(key, {})
        declaring = [family for family in self._families if family.prefix in values]
        if not declaring:
            return None
        first, *others = declaring
        declaration = values[first.prefix].declaration
        if not others:
            return declaration
        warnings = tuple(
            f"is also declared under {other.shown(key)}, the ligato v3 value takes precedence" for other in others
        )
        return replace(declaration, warnings=(*declaration.warnings, *warnings))

    def _read(self, family: _Family, key: Key, value: StoredValue) -> _DecodedValue:
        """Decode a value, or return the decoded one if it is unchanged since the previous listing."""
        known = self._before.get(key, {}).get(family.prefix)
        digest = hash(value.data)
        if known and known.hash == digest and known.declaration.revision == value.revision:
            return known
        declaration = family.declare(value.data, name=key.name, revision=value.revision)
        return _DecodedValue(declaration, digest, 1 + _size(declaration) // _SHARE)


def _cost_of(decoded: Mapping[Key, Mapping[bytes, _DecodedValue]]) -> int:
    return sum(value.cost for values in decoded.values() for value in values.values())


def _size(declaration: Declaration) -> int:
    """Estimate how many bytes of memory a declaration takes, beyond what every one does."""
    texts = [*(error.message for error in declaration.errors), *declaration.warnings]
    interface, addresses = declaration.interface, 0
    if interface is not None:
        texts += [interface.description, interface.namespace.reference]
        addresses = len(interface.ip_addresses)
    return sum(map(getsizeof, texts)) + addresses * _ADDRESS
