"""Bridges: switches between their ports."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import LinkKind
from ifagent.core.link import LinkData
from ifagent.core.vlan_lists import default_list, read_ids, wanted_list

VlanProtocol = Literal["802.1q", "802.1ad"]
"""Which tags a link uses: those of customers, or those of providers around them."""


_VLAN_FIELDS: Final = frozenset({"pvid", "untagged", "tagged"})


def check_vlans(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return VLAN ids and ranges as they are given. Raises ``ValueError`` for what is none."""
    for text in value:
        read_ids(text)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePort:
    """What a port of a bridge is like; an interface that says nothing of it leaves that to others.

    ``path_cost`` is that in the spanning tree, 1 to 65535, 0 for what follows from the speed; ``priority`` is 0 to 63.
    ``hairpin`` sends back out of the port what came in by it, ``guard`` and ``root_block`` protect the spanning tree,
    ``fast_leave`` forgets a multicast group at once, ``isolated`` ports do not reach each other, ``neigh_suppress`` and
    ``proxy_arp`` answer for neighbours. ``learning`` MACs and the three kinds of flooding are on unless they are not
    wanted.

    With ``vlan_filtering`` of the bridge, the port is in the VLANs of ``untagged`` and ``tagged``, ids or ranges such
    as 20-30, whose packets leave it without or with a tag, and in no others. What comes in without a tag is in
    ``pvid``, 0 for none; a VLAN that is only named there is untagged. A port without any of the three is in the
    bridge's ``vlan_default_pvid``.
    """

    master_kind: ClassVar[str] = "bridge"

    path_cost: Annotated[int, Field(strict=True, ge=0, le=65535)] = 0
    priority: Annotated[int, Field(strict=True, ge=0, le=63)] = 32
    hairpin: bool = False
    guard: bool = False
    root_block: bool = False
    fast_leave: bool = False
    isolated: bool = False
    neigh_suppress: bool = False
    proxy_arp: bool = False
    learning: bool = True
    unicast_flood: bool = True
    mcast_flood: bool = True
    bcast_flood: bool = True
    pvid: Annotated[int, Field(strict=True, ge=0, le=4094)] = 0
    untagged: Annotated[tuple[str, ...], Field(max_length=256), AfterValidator(check_vlans)] = ()
    tagged: Annotated[tuple[str, ...], Field(max_length=256), AfterValidator(check_vlans)] = ()

    @property
    def names_vlans(self) -> bool:
        """Whether it says in which VLANs the port is to be."""
        return bool(self.pvid or self.untagged or self.tagged)

    def vlans(self, default_pvid: int) -> tuple[str, ...]:
        """Return the VLANs that the port is to be in, as :mod:`ifagent.core.vlan_lists` writes them.

        ``default_pvid`` is the bridge's. Raises ``ValueError`` for a VLAN that is both tagged and untagged.
        """
        if not self.names_vlans:
            return default_list(default_pvid)
        return wanted_list(self.pvid, self.untagged, self.tagged)

    def data(self, default_pvid: int | None) -> LinkData:
        """Return the settings that the port is to have, of a bridge with this default VLAN, ``None`` for no VLANs."""
        every = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name not in _VLAN_FIELDS)
        same = tuple((name, value) for name, value in every if (name, value) != ("path_cost", 0))
        return same if default_pvid is None else (*same, ("vlans", self.vlans(default_pvid)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge(LinkKind):
    """A bridge; interfaces are its ports by naming it in ``master_if_name``.

    Times are in seconds: ``forward_delay`` 2 to 30, ``hello_time`` 1 to 10, ``max_age`` 6 to 40, ``ageing_time`` until
    a MAC that was learnt is forgotten, 0 to 1,000,000. ``priority`` is that in the spanning tree, 0 to 65535, in steps
    of 4096 where that is spoken. ``vlan_default_pvid`` is the VLAN of ports without one of their own, 0 for none.
    Its MAC stays the same whatever its ports are. Its MTU is the least of its ports', until one is given.
    ``group_fwd_mask`` are the link-local groups 01-80-C2-00-00-0X that are forwarded, a bit each; 0 to 2 never are.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("bridge",)
    settings: ClassVar[tuple[str, ...]] = (
        "forward_delay",
        "hello_time",
        "max_age",
        "ageing_time",
        "stp",
        "priority",
        "vlan_filtering",
        "vlan_protocol",
        "vlan_default_pvid",
        "group_fwd_mask",
        "multicast_snooping",
        "multicast_querier",
        "igmp_version",
        "mld_version",
    )
    usual_mtu: ClassVar[int] = 0  # the least of its ports', as long as none was given
    movable: ClassVar[bool] = False
    is_master: ClassVar[bool] = True

    stp: bool = False
    forward_delay: Annotated[int, Field(strict=True, ge=2, le=30)] = 15
    hello_time: Annotated[int, Field(strict=True, ge=1, le=10)] = 2
    max_age: Annotated[int, Field(strict=True, ge=6, le=40)] = 20
    ageing_time: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 300
    priority: Annotated[int, Field(strict=True, ge=0, le=65535)] = 32768
    vlan_filtering: bool = False
    vlan_protocol: VlanProtocol = "802.1q"
    vlan_default_pvid: Annotated[int, Field(strict=True, ge=0, le=4094)] = 1
    group_fwd_mask: Annotated[int, Field(strict=True, ge=0, le=65535, multiple_of=8)] = 0
    multicast_snooping: bool = True
    multicast_querier: bool = False
    igmp_version: Literal[2, 3] = 2
    mld_version: Literal[1, 2] = 1
    type: Literal["bridge"] = "bridge"
