"""The kinds with traits of their own, one module each by the name that the kernel has for it."""

from __future__ import annotations

from collections.abc import Mapping

from ifagent.core.kind_modules import find_by_kind
from ifagent.kernel.simulated.kinds.contract import Traits

TRAITS: Mapping[str, Traits] = find_by_kind(__name__, "TRAITS", Traits)
"""By the kernel's name of the kind."""

_USUAL = Traits()


def traits_of(kind: str) -> Traits:
    """Return what a driver does with links of a kind."""
    return TRAITS.get(kind, _USUAL)
