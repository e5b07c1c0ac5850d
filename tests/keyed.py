"""Resources in tests are called by name; the agent knows them by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from ifagent.core.names import Name
from ifagent.core.resources import Key, interface_key

T = TypeVar("T")


def keyed(interfaces: Mapping[Name, T]) -> dict[Key, T]:
    """Return the same by the keys of interfaces."""
    return {interface_key(name): value for name, value in interfaces.items()}


def keys_of(names: Iterable[Name]) -> frozenset[Key]:
    """Return the keys of interfaces."""
    return frozenset(map(interface_key, names))
