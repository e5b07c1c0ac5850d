"""TAPs in messages."""

from __future__ import annotations

from ifagent.core.kinds import AutoTap
from ifagent.core.names import check_host_name
from ifagent.formats.codec import Message, without_zeros
from ifagent.formats.fields import ValueReader
from ifagent.formats.kinds.contract import Found, KindForm
from ifagent.formats.pb import interfaces as v1
from ifagent.formats.pb.ligato.linux import interfaces as v3
from ifagent.formats.settings import aliases

_V1 = aliases("temp_if_name")
_V3 = aliases("vpp_tap_if_name")


class AutoTapForm(KindForm[AutoTap]):
    """``LinuxInterfaces.Interface.Tap`` of v1, ``TapLink`` of v3.

    v3 names the TAP as VPP's configuration knows it (``vpp_tap_if_name``), not as the kernel does; see
    :func:`_host_name_of` for what is made of that.
    """

    v1_field: str = "tap"
    v1_message: Message | None = v1.LinuxInterfacesInterfaceTap
    v3_field: str = "tap"
    v3_message: Message | None = v3.TapLink

    def read_v1(self, reader: ValueReader, found: Found) -> Found:
        """Read the fields."""
        tap = reader.read_object(found.get("tap"), "tap", _V1)
        return {"temp_if_name": reader.text(tap or {}, "temp_if_name", "tap") or ""}

    def read_v3(self, reader: ValueReader, found: Found) -> Found:
        """Read the fields."""
        tap = reader.read_object(found.get("tap"), "tap", _V3)
        given = reader.text(tap or {}, "vpp_tap_if_name", "tap")
        return {"temp_if_name": _host_name_of(given) if given else ""}

    def write_v1(self, kind: AutoTap) -> Found:
        """Return the fields."""
        return without_zeros({"temp_if_name": kind.temp_if_name})

    def write_v3(self, kind: AutoTap) -> Found:
        """Return the fields."""
        return without_zeros({"vpp_tap_if_name": kind.temp_if_name})


def _host_name_of(name: str) -> str:
    """Return the host name that VPP's TAP called ``name`` has before it is adopted, as far as that can be told.

    v3 looks the TAP up in VPP's configuration, which is not ours to read. There it has a host name of its own, or
    ``tap-`` and the 32-bit FNV-1a hash of its name. Here it is taken to have its name as host name, or that one where
    its name cannot be a host name.
    """
    try:
        return check_host_name(name)
    except ValueError:
        digest = 0x811C9DC5
        for byte in name.encode():
            digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
        return f"tap-{digest}"


FORM = AutoTapForm()
