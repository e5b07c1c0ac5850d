"""VXLAN tunnels: Ethernet over UDP."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, LinkKind, TunnelKind, View, wrong
from ifagent.core.link import Link
from ifagent.core.names import check_given_name

OVERHEAD: Final = {4: 50, 6: 70}
"""Bytes of the headers around a packet, by the version of IP."""


def check_end(value: str) -> str:
    """Return an IP address in its usual spelling, empty for none. Raises ``ValueError`` for anything else."""
    return str(ip_address(value)) if value else ""


def parsed(value: str) -> IPv4Address | IPv6Address | None:
    """Return an address that was checked, ``None`` for an empty one."""
    return ip_address(value) if value else None


def why_other_family(link: Link, remote: str) -> str:
    """Say that a tunnel's other end is to be of the other family, which the kernel refuses; empty if it is not."""
    before, after = parsed(str(dict(link.data).get("remote") or "")), parsed(remote)
    return f"remote is {before}, wanted {after}" if before and after and before.version != after.version else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vxlan(TunnelKind):
    """A VXLAN tunnel of network ``vni``, 0 to 16777215.

    ``remote`` is where packets go whose receiver is not known: the other end, or a multicast group, which needs
    ``lower_if_name``. ``local`` is its own address, of the same family. ``lower_if_name`` is the interface that its
    packets leave by; without one that follows from the routes. ``port`` is the UDP port. ``ttl`` 0 takes the default,
    ``ageing`` is in seconds. ``learning`` MACs, and answering for neighbours (``proxy``), may be left to a controller,
    who is told of what is missing by ``l2miss`` and ``l3miss``.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("vxlan",)
    settings: ClassVar[tuple[str, ...]] = (
        "vni",
        "remote",
        "local",
        "port",
        "ttl",
        "tos",
        "learning",
        "ageing",
        "proxy",
        "rsc",
        "l2miss",
        "l3miss",
        "gbp",
    )
    fixed: ClassVar[frozenset[str]] = frozenset({"vni", "port", "proxy", "rsc", "l2miss", "l3miss", "gbp"})
    unlike_kernel: ClassVar[frozenset[str]] = frozenset({"port"})

    vni: Annotated[int, Field(strict=True, ge=0, lt=1 << 24)]
    remote: Annotated[str, AfterValidator(check_end)] = ""
    local: Annotated[str, AfterValidator(check_end)] = ""
    lower_if_name: Annotated[str, AfterValidator(check_given_name)] = ""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 4789
    ttl: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    tos: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    learning: bool = True
    ageing: Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] = 300
    proxy: bool = False
    rsc: bool = False
    l2miss: bool = False
    l3miss: bool = False
    gbp: bool = False
    type: Literal["vxlan"] = "vxlan"

    def check(self, interface: CommonFields) -> None:
        """Refuse ends that do not go together."""
        remote, local = parsed(self.remote), parsed(self.local)
        if remote and local and remote.version != local.version:
            raise wrong("vxlan.local", f"{local} and the remote end {remote} are not of one family")
        if local and local.is_multicast:
            raise wrong("vxlan.local", f"{local} is a multicast address")
        if remote and remote.is_multicast and not self.lower_if_name:
            raise wrong("vxlan.lower_if_name", f"is required: the interface by which the group {remote} is reached")
        TunnelKind.check(self, interface)

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of one whose ends are to be of the other family too."""
        return why_other_family(link, self.remote) or TunnelKind.why_recreated(self, interface, link, view)

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have: an MTU that leaves room for the headers."""
        usual = LinkKind.attributes(self, interface, link, view)
        lower = view.link_for(self.lower_if_name) if self.lower_if_name else None
        if lower is None:
            return usual
        end = parsed(self.remote) or parsed(self.local)
        most = lower.mtu - OVERHEAD[end.version if end else 4]
        return usual._replace(mtu=min(interface.mtu or most, most))
