"""The VLANs of bridges' ports: ``linux/if_bridge.h``, ``net/bridge/br_netlink.c``. Pure.

They are in messages of family ``AF_BRIDGE``, which the kernel also sends with each change; other messages about a link
do not contain them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ifagent.core.vlan_lists import PVID, UNTAGGED, join_ranges, others, read_list
from ifagent.kernel.attributes import AttributeReader, MalformedMessage, attribute, each_payload, nested
from ifagent.kernel.netlink import Message, request
from ifagent.kernel.rtnetlink import (
    AF_BRIDGE,
    IFINFO,
    IFLA_AF_SPEC,
    IFLA_EXT_MASK,
    NLM_F_DUMP,
    RTEXT_FILTER_BRVLAN_COMPRESSED,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_SETLINK,
    U32,
)

IFLA_BRIDGE_VLAN_INFO: Final = 2
_RANGE_BEGIN: Final = 8
_RANGE_END: Final = 16
_INFO: Final = struct.Struct("=HH")
"""``struct bridge_vlan_info``: flags, VLAN id."""

_SPEC: Final = AttributeReader({IFLA_AF_SPEC})


class PortVlans(NamedTuple):
    """The VLANs of a port as a message tells them; see :mod:`ifagent.core.vlan_lists`."""

    ifindex: int
    vlans: tuple[str, ...]


def dump_port_vlans() -> bytes:
    """Return a request for the VLANs of every bridge's port of a namespace."""
    body = IFINFO.pack(AF_BRIDGE, 0, 0, 0, 0) + attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_BRVLAN_COMPRESSED))
    return request(RTM_GETLINK, body, flags=NLM_F_DUMP)


def set_port_vlans(ifindex: int, vlans: Iterable[str]) -> tuple[bytes, ...]:
    """Return requests that put a port into VLANs, and take it out of all others; it need not be in those."""
    vlans = tuple(vlans)
    wanted = b"".join(_infos(ids, flags) for ids, flags in read_list(vlans))
    unwanted = b"".join(_infos(ids, 0) for ids in others(vlans))
    header = IFINFO.pack(AF_BRIDGE, 0, ifindex, 0, 0)
    return tuple(
        request(kind, header + nested(IFLA_AF_SPEC, infos))
        for kind, infos in ((RTM_SETLINK, wanted), (RTM_DELLINK, unwanted))
        if infos
    )


def parse_port_vlans(data: bytes, message: Message) -> PortVlans | None:
    """Return the VLANs of a port; ``None`` for messages about links as such. Raises :class:`MalformedMessage`.

    A port without VLANs is told like one of a kernel that has none.
    """
    if message.end - message.start < IFINFO.size:
        raise MalformedMessage("link message without its header")
    family, _, ifindex, _, _ = IFINFO.unpack_from(data, message.start)
    if family != AF_BRIDGE:
        return None
    spec = _SPEC.read(data, message.start + IFINFO.size, message.end).get(IFLA_AF_SPEC, b"")
    return PortVlans(ifindex, join_ranges(_ranges(spec)))


def _infos(ids: range, flags: int) -> bytes:
    if len(ids) == 1:
        return attribute(IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags, ids[0]))
    ends = ((flags | _RANGE_BEGIN, ids[0]), (flags | _RANGE_END, ids[-1]))
    return b"".join(attribute(IFLA_BRIDGE_VLAN_INFO, _INFO.pack(*end)) for end in ends)


def _ranges(spec: bytes) -> Iterator[tuple[int, int, int]]:
    first = 0
    for payload in each_payload(spec, IFLA_BRIDGE_VLAN_INFO):
        if len(payload) < _INFO.size:
            raise MalformedMessage("VLAN of a port without its flags")
        flags, vid = _INFO.unpack_from(payload)
        if flags & _RANGE_BEGIN:
            first = vid
            continue
        yield (first if flags & _RANGE_END else vid), vid, flags & (PVID | UNTAGGED)
