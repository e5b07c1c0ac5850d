"""VRF devices in messages: only checked for errors, because VRF devices are not supported yet."""

from __future__ import annotations

from typing import ClassVar

from ifagent.core.kinds import Unsupported
from ifagent.formats.codec import Message
from ifagent.formats.fields import ValueReader, aliases
from ifagent.formats.kinds.contract import Found, KindForm
from ifagent.formats.pb.ligato.linux import interfaces as v3

_KNOWN = aliases("routing_table")


class VrfDeviceForm(KindForm[Unsupported]):
    """``VrfDevLink`` of v3."""

    v3_field: ClassVar[str] = "vrf_dev"
    v3_message: ClassVar[Message] = v3.VrfDevLink

    def read_v3(self, reader: ValueReader, found: Found) -> Found:
        """Check the fields."""
        vrf = reader.read_object(found.get("vrf_dev"), "vrf_dev", _KNOWN)
        reader.number((vrf or {}).get("routing_table", 0), "vrf_dev.routing_table", "the number of a table")
        return {}


FORM = VrfDeviceForm()
