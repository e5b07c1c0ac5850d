"""Finds what each kind of link has of its own in a layer: one module a kind, by its name, in one package."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

T = TypeVar("T")


def find_by_kind(package: str, attribute: str, of: type[T]) -> dict[str, T]:
    """Return what every module of a package but ``contract`` calls ``attribute``, by the module's name, in its order.

    Raises ``TypeError`` for one that has no such value, or none of that type.
    """
    found: dict[str, T] = {}
    for name in sorted(name for _, name, _ in iter_modules(import_module(package).__path__) if name != "contract"):
        value = getattr(import_module(f"{package}.{name}"), attribute, None)
        if not isinstance(value, of):
            raise TypeError(f"{package}.{name} has no {attribute} of type {of.__name__}")
        found[name] = value
    return found
