"""The kinds of links, one module each. A new one is a module here, and a word in :data:`Kind`."""

from __future__ import annotations

from typing import get_args

from ifagent.core.kinds.auto_tap import AutoTap
from ifagent.core.kinds.bond import Bond
from ifagent.core.kinds.bridge import Bridge, BridgePort
from ifagent.core.kinds.contract import LinkKind
from ifagent.core.kinds.dummy import Dummy
from ifagent.core.kinds.existing import Existing
from ifagent.core.kinds.geneve import Geneve
from ifagent.core.kinds.ifb import Ifb
from ifagent.core.kinds.ipvlan import Ipvlan
from ifagent.core.kinds.loopback import Loopback
from ifagent.core.kinds.macvlan import Macvlan
from ifagent.core.kinds.macvtap import Macvtap
from ifagent.core.kinds.tap_device import TapDevice
from ifagent.core.kinds.tun_device import TunDevice
from ifagent.core.kinds.tunnel import Tunnel
from ifagent.core.kinds.veth import Veth
from ifagent.core.kinds.vlan import Vlan
from ifagent.core.kinds.vrf_device import VrfDevice
from ifagent.core.kinds.vxlan import Vxlan

__all__ = [
    "KINDS",
    "AutoTap",
    "Bond",
    "Bridge",
    "BridgePort",
    "Dummy",
    "Existing",
    "Geneve",
    "Ifb",
    "Ipvlan",
    "Kind",
    "Loopback",
    "Macvlan",
    "Macvtap",
    "TapDevice",
    "TunDevice",
    "Tunnel",
    "Veth",
    "Vlan",
    "VrfDevice",
    "Vxlan",
    "type_of",
]

Kind = (
    Veth
    | AutoTap
    | Loopback
    | Existing
    | Dummy
    | VrfDevice
    | Bridge
    | Vlan
    | Macvlan
    | Macvtap
    | Ipvlan
    | Ifb
    | Bond
    | Vxlan
    | Geneve
    | Tunnel
    | TapDevice
    | TunDevice
)


KINDS: tuple[type[LinkKind], ...] = get_args(Kind)
"""All of them."""


def type_of(kind: type[LinkKind]) -> str:
    """Return the ``type`` of a kind."""
    return str(kind.__dataclass_fields__["type"].default)  # type: ignore[attr-defined]  # each is a dataclass
