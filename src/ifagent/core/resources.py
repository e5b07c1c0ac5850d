"""What can be declared: resources of several types, each with a name that is unique among those of its type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from ifagent.core.names import Name

INTERFACE: Final = "interface"
"""The type of :class:`ifagent.core.interface.Interface`."""

T = TypeVar("T")


class Key(NamedTuple):
    """Tells one resource from all others that an agent knows of."""

    type: str
    name: Name

    def __str__(self) -> str:
        """Type and name, as in ``interface web``."""
        return f"{self.type} {self.name}"


@lru_cache(maxsize=2**14)
def interface_key(name: Name) -> Key:
    """Return the key of the interface with this name.

    It is nearly always the same object for one name, which makes it quick to look up.
    """
    return Key(INTERFACE, name)


def by_name(resources: Mapping[Key, T]) -> dict[Name, T]:
    """Return the same by name, of resources of one type."""
    return {key.name: value for key, value in resources.items()}
