"""The kinds that have a form of their own in messages, one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ifagent.formats.kinds.auto_tap import AutoTapForm
from ifagent.formats.kinds.contract import KindForm
from ifagent.formats.kinds.loopback import LoopbackForm
from ifagent.formats.kinds.veth import VethForm
from ifagent.formats.kinds.vrf_device import VrfDeviceForm

FORMS: Mapping[str, KindForm[Any]] = {
    "veth": VethForm(),
    "tap": AutoTapForm(),
    "loopback": LoopbackForm(),
    "vrf_device": VrfDeviceForm(),
}
"""By the ``type`` of the model's kind."""

_PLAIN: KindForm[Any] = KindForm()


def form_of(kind: str) -> KindForm[Any]:
    """Return the form of a kind, by its ``type``."""
    return FORMS.get(kind, _PLAIN)
