"""The kinds with traits of their own, one module each by the name that the kernel has for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS: Mapping[str, Traits] = {
    name: import_module(f"{__name__}.{name}").TRAITS for _, name, _ in iter_modules(__path__) if name != "contract"
}
"""By kind; every module here but the contract has one."""

_USUAL = Traits()


def traits_of(kind: str) -> Traits:
    """Return what a driver does with links of a kind."""
    return TRAITS.get(kind, _USUAL)
