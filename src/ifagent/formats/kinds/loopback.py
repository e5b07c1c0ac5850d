"""The loopback link in messages."""

from __future__ import annotations

from ifagent.core.kinds import Loopback
from ifagent.core.names import LOOPBACK_NAME
from ifagent.formats.fields import Reader
from ifagent.formats.kinds.contract import Found, KindForm


class LoopbackForm(KindForm[Loopback]):
    """It has no fields of its own."""

    def read_v3(self, reader: Reader, found: Found) -> Found:
        """Take out a host name, which v3 does not look at here, unless it is right or no name at all."""
        given = found.get("host_if_name")
        if isinstance(given, str) and given != LOOPBACK_NAME:
            reader.unused(found, "host_if_name", f"the loopback link is called {LOOPBACK_NAME}")
            del found["host_if_name"]
        return {}


FORM = LoopbackForm()
