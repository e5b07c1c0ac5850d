"""VRF devices in messages: read only as far as to say what is wrong, because there are none yet."""

from __future__ import annotations

from typing import ClassVar

from ifagent.core.kinds import Unsupported
from ifagent.formats.codec import Message
from ifagent.formats.fields import Reader, spellings
from ifagent.formats.kinds.contract import Found, KindForm
from ifagent.formats.pb.ligato.linux import interfaces as v3

_KNOWN = spellings("routing_table")


class VrfDeviceForm(KindForm[Unsupported]):
    """``VrfDevLink`` of v3."""

    v3_field: ClassVar[str] = "vrf_dev"
    v3_message: ClassVar[Message] = v3.VrfDevLink

    def read_v3(self, reader: Reader, found: Found) -> Found:
        """Check it."""
        vrf = reader.members(found.get("vrf_dev"), "vrf_dev", _KNOWN)
        reader.number((vrf or {}).get("routing_table", 0), "vrf_dev.routing_table", "the number of a table")
        return {}


FORM = VrfDeviceForm()
