"""The loopback link in messages."""

from __future__ import annotations

from ifagent.core.kinds import Loopback
from ifagent.core.names import LOOPBACK_NAME
from ifagent.formats.fields import ValueReader
from ifagent.formats.kinds.contract import Found, KindForm


class LoopbackForm(KindForm[Loopback]):
    """The loopback link has no fields of its own."""

    def read_v3(self, reader: ValueReader, found: Found) -> Found:
        """Drop a host name other than the loopback's, with a warning: v3 ignores it."""
        given = found.get("host_if_name")
        if isinstance(given, str) and given != LOOPBACK_NAME:
            reader.unused(found, "host_if_name", f"the loopback link is called {LOOPBACK_NAME}")
            del found["host_if_name"]
        return {}


FORM = LoopbackForm()
