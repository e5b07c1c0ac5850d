"""The kinds that have fields of their own in messages: one module each, named by the ``type`` of the model's kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ifagent.core.kind_modules import find_by_kind
from ifagent.formats.kinds.contract import KindForm

FORMS: Mapping[str, KindForm[Any]] = find_by_kind(__name__, "FORM", KindForm)
"""The forms by ``type``, one from each module here but the contract."""

_PLAIN: KindForm[Any] = KindForm()


def form_of(kind: str) -> KindForm[Any]:
    """Return the form of a kind by its ``type``."""
    return FORMS.get(kind, _PLAIN)
