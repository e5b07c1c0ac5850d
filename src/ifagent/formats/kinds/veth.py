"""Veth pairs in messages: the same fields in both families."""

from __future__ import annotations

from ifagent.core.kinds import Veth
from ifagent.formats.codec import Message, without_zeros
from ifagent.formats.enums import OFFLOADING_NUMBERS, OFFLOADINGS, OffloadingNumber
from ifagent.formats.fields import ValueReader
from ifagent.formats.kinds.contract import Found, KindForm
from ifagent.formats.pb import interfaces as v1
from ifagent.formats.pb.ligato.linux import interfaces as v3
from ifagent.formats.settings import aliases

_KNOWN = aliases("peer_if_name", "rx_checksum_offloading", "tx_checksum_offloading")


class VethForm(KindForm[Veth]):
    """``LinuxInterfaces.Interface.Veth`` of v1, ``VethLink`` of v3."""

    v1_field: str = "veth"
    v1_message: Message | None = v1.LinuxInterfacesInterfaceVeth
    v3_field: str = "veth"
    v3_message: Message | None = v3.VethLink

    def read_v1(self, reader: ValueReader, found: Found) -> Found | None:
        """Read the fields, with a hint for a TAP whose type is missing."""
        return _read(reader, found, hint=", or type 1 (AUTO_TAP) for a TAP" if "tap" in found else "")

    def read_v3(self, reader: ValueReader, found: Found) -> Found | None:
        """Read the fields."""
        return _read(reader, found)

    def write_v1(self, kind: Veth) -> Found:
        """Return the fields."""
        fields = {
            "peer_if_name": kind.peer_if_name,
            "rx_checksum_offloading": OFFLOADING_NUMBERS[kind.rx_checksum_offloading],
            "tx_checksum_offloading": OFFLOADING_NUMBERS[kind.tx_checksum_offloading],
        }
        return without_zeros(fields)

    def write_v3(self, kind: Veth) -> Found:
        """Return the fields, which are those of v1."""
        return self.write_v1(kind)


def _read(reader: ValueReader, found: Found, *, hint: str = "") -> Found | None:
    veth = reader.read_object(found.get("veth"), "veth", _KNOWN)
    if veth is None:
        return None
    plain: Found = {"peer_if_name": reader.text(veth, "peer_if_name", "veth")}
    if plain["peer_if_name"] == "":
        reader.error("veth.peer_if_name", f"is required: the name of the interface at the other end{hint}")
    for key in ("rx_checksum_offloading", "tx_checksum_offloading"):
        number = reader.choice(veth.get(key, 0), f"veth.{key}", OffloadingNumber)
        if number is not None:
            plain[key] = OFFLOADINGS[number]
    return plain if plain["peer_if_name"] else None


FORM = VethForm()
