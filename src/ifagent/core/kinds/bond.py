"""Bonds: several links that are used as one."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, LinkKind, View, wrong
from ifagent.core.link import Link, LinkData
from ifagent.core.names import check_given_name

BondMode = Literal["balance_rr", "active_backup", "balance_xor", "broadcast", "802_3ad", "balance_tlb", "balance_alb"]
"""How the ports share the traffic."""

WITH_PRIMARY = frozenset({"active_backup", "balance_tlb", "balance_alb"})
WITHOUT_ARP = frozenset({"802_3ad", "balance_tlb", "balance_alb"})


def _check_targets(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(IPv4Address(value)) for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond(LinkKind):
    """A bond; interfaces are its ports by naming it in ``master_if_name``, and have its MAC and MTU as long as they do.

    Ports are watched by their carrier every ``miimon`` ms, with ``updelay`` and ``downdelay`` ms of delay, multiples
    of ``miimon``; or by ARP every ``arp_interval`` ms to ``arp_ip_targets``, up to 16, which turns the other off.
    ``primary_if_name`` is the port that is preferred with active_backup, balance_tlb and balance_alb. ``lp_interval``
    is in seconds. ``mode`` and ``fail_over_mac`` are changed by making the bond anew; for ``lacp_rate`` and
    ``ad_select`` it is set down and up.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("bond",)
    settings: ClassVar[tuple[str, ...]] = (
        "mode",
        "miimon",
        "updelay",
        "downdelay",
        "arp_interval",
        "arp_ip_targets",
        "arp_validate",
        "primary_reselect",
        "fail_over_mac",
        "xmit_hash_policy",
        "lacp_rate",
        "ad_select",
        "min_links",
        "num_peer_notif",
        "resend_igmp",
        "all_ports_active",
        "lp_interval",
        "missed_max",
    )
    fixed: ClassVar[frozenset[str]] = frozenset({"mode", "fail_over_mac"})
    only_down: ClassVar[frozenset[str]] = frozenset({"lacp_rate", "ad_select"})
    unlike_kernel: ClassVar[frozenset[str]] = frozenset({"mode", "miimon"})
    movable: ClassVar[bool] = False
    is_master: ClassVar[bool] = True
    rules_ports: ClassVar[bool] = True

    mode: BondMode
    miimon: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 100
    updelay: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0
    downdelay: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0
    arp_interval: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0
    arp_ip_targets: Annotated[tuple[str, ...], Field(max_length=16), AfterValidator(_check_targets)] = ()
    arp_validate: Literal["none", "active", "backup", "all", "filter", "filter_active", "filter_backup"] = "none"
    primary_if_name: Annotated[str, AfterValidator(check_given_name)] = ""
    primary_reselect: Literal["always", "better", "failure"] = "always"
    fail_over_mac: Literal["none", "active", "follow"] = "none"
    xmit_hash_policy: Literal["layer2", "layer3_4", "layer2_3", "encap2_3", "encap3_4", "vlan_srcmac"] = "layer2"
    lacp_rate: Literal["slow", "fast"] = "slow"
    ad_select: Literal["stable", "bandwidth", "count"] = "stable"
    min_links: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0
    num_peer_notif: Annotated[int, Field(strict=True, ge=0, le=255)] = 1
    resend_igmp: Annotated[int, Field(strict=True, ge=0, le=255)] = 1
    all_ports_active: bool = False
    lp_interval: Annotated[int, Field(strict=True, ge=1, lt=1 << 31)] = 1
    missed_max: Annotated[int, Field(strict=True, ge=1, le=255)] = 2
    type: Literal["bond"] = "bond"

    def check(self, interface: CommonFields) -> None:
        """Refuse what does not go together, which the kernel would round, or take and not do."""
        if self.arp_interval and not self.arp_ip_targets:
            raise wrong("bond.arp_ip_targets", "is required with arp_interval: the addresses that are asked for")
        if self.arp_interval and self.mode in WITHOUT_ARP:
            raise wrong("bond.arp_interval", f"does not go with mode {self.mode}, whose ports are watched by miimon")
        for name in ("updelay", "downdelay"):
            delay = getattr(self, name)
            if delay and (self.arp_interval or not self.miimon or delay % self.miimon):
                raise wrong(f"bond.{name}", f"{delay} ms is no multiple of miimon")
        if self.primary_if_name and self.mode not in WITH_PRIMARY:
            raise wrong("bond.primary_if_name", f"does not go with mode {self.mode}")
        if self.fail_over_mac != "none" and interface.phys_address:
            raise wrong("phys_address", "with fail_over_mac a bond has the MAC of a port; leave it out")

    def data(self, link: Link | None = None) -> LinkData:
        """Return the settings that its link is to have: watched in one way or the other."""
        found = LinkKind.data(self, link)
        return tuple((name, 0 if name == "miimon" and self.arp_interval else value) for name, value in found)

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have, the preferred port too as soon as that is a port."""
        usual = LinkKind.attributes(self, interface, link, view)
        if self.fail_over_mac != "none":
            usual = usual._replace(mac=None)
        if link is None:
            return usual
        primary = view.link_for(self.primary_if_name) if self.primary_if_name else None
        joined = primary is not None and primary.master == link.id.ifindex
        return usual._replace(data=(*usual.data, ("primary", primary.id.ifindex if primary and joined else 0)))
