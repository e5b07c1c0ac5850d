"""The kinds that have a form of their own in messages, one module each by the ``type`` of the model's kind."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ifagent.formats.kinds.contract import KindForm

FORMS: Mapping[str, KindForm[Any]] = {
    name: import_module(f"{__name__}.{name}").FORM
    for name in sorted((name for _, name, _ in iter_modules(__path__)), reverse=True)
    if name != "contract"
}
"""By ``type``; every module here but the contract has one."""

_PLAIN: KindForm[Any] = KindForm()


def form_of(kind: str) -> KindForm[Any]:
    """Return the form of a kind, by its ``type``."""
    return FORMS.get(kind, _PLAIN)
