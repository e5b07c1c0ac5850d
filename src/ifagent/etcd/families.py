"""What is declared for one agent in the ways of both ligato families at once, and which of two values counts.

A name may be declared under the keys of v1.4.1, of v3, or of both. Of both the value of v3 counts, also when it is
invalid, and the other one comes back when that of v3 is deleted. See :mod:`ifagent.etcd.keys` for the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from ifagent.core.events import Declaration
from ifagent.core.interface import Name
from ifagent.etcd.client import Value
from ifagent.etcd.keys import config_prefix, config_prefix_v3, name_of
from ifagent.formats import ligato_v1, ligato_v3


class _Declare(Protocol):
    def __call__(self, value: bytes, *, name: str, revision: int) -> Declaration: ...


@dataclass(frozen=True, slots=True)
class _Family:
    prefix: bytes
    declare: _Declare

    def key(self, name: Name) -> str:
        """Return the key of an interface, to be shown."""
        return f"{self.prefix.decode()}{name}"


class Families:
    """What the values under both prefixes of the agent called ``label`` say, as far as it was told.

    Making one raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, label: str) -> None:
        # In the order in which they count.
        self._families = (
            _Family(config_prefix_v3(label), ligato_v3.declare),
            _Family(config_prefix(label), ligato_v1.declare),
        )
        self._said: dict[Name, dict[bytes, Declaration]] = {}

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """The prefixes of all keys that matter."""
        return tuple(family.prefix for family in self._families)

    def replace(self, values: Mapping[bytes, Value]) -> dict[Name, Declaration]:
        """Forget everything and take ``values``, by key; return what is declared, in the order of names."""
        self._said = {}
        changed = self.change(values.items())
        return {name: said for name in sorted(changed) if (said := changed[name])}

    def change(self, changes: Iterable[tuple[bytes, Value | None]]) -> dict[Name, Declaration | None]:
        """Take changes of keys; return what is declared now under each name that they are about, once."""
        names: dict[Name, None] = {}
        for key, value in changes:
            family = next((family for family in self._families if key.startswith(family.prefix)), None)
            name = name_of(family.prefix, key) if family else Name("")
            if family is None or not name:
                continue
            names[name] = None
            said = self._said.setdefault(name, {})
            said.pop(family.prefix, None)
            if value is not None:
                said[family.prefix] = family.declare(value.data, name=name, revision=value.mod_revision)
            if not said:
                del self._said[name]
        return {name: self._counting(name) for name in names}

    def _counting(self, name: Name) -> Declaration | None:
        """Return the declaration that counts, with a warning if there is another one."""
        said = self._said.get(name, {})
        declaring = [family for family in self._families if family.prefix in said]
        if not declaring:
            return None
        first, *others = declaring
        warnings = tuple(f"is declared again under {other.key(name)}, that of ligato v3 counts" for other in others)
        declaration = said[first.prefix]
        return replace(declaration, warnings=(*declaration.warnings, *warnings))
