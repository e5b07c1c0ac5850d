"""Tunnels that carry packets in IPv4 or IPv6, with GRE between or without."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import ANY_MTU, CommonFields, LinkKind, TunnelKind, View, wrong
from ifagent.core.kinds.vxlan import check_end, parsed
from ifagent.core.link import FALLBACK_LINKS, Link, LinkData
from ifagent.core.names import check_given_name, check_host_name

TunnelMode = Literal["gre", "gretap", "ip6gre", "ip6gretap", "ipip", "sit", "ip6tnl"]
"""What the kernel calls a tunnel."""

_ENDS: Final = ("local", "remote", "tos", "fwmark")
_KEYS: Final = ("input_key", "output_key", "csum", "seq")
_IPV4: Final = ("ttl", "pmtudisc")
_IPV6: Final = ("hop_limit", "flow_label", "encap_limit", "ignore_encap_limit")

FIELDS: Final[dict[str, frozenset[str]]] = {
    "gre": frozenset((*_ENDS, *_IPV4, *_KEYS)),
    "gretap": frozenset((*_ENDS, *_IPV4, *_KEYS)),
    "ip6gre": frozenset((*_ENDS, *_IPV6, *_KEYS)),
    "ip6gretap": frozenset((*_ENDS, *_IPV6, *_KEYS)),
    "ipip": frozenset((*_ENDS, *_IPV4)),
    "sit": frozenset((*_ENDS, *_IPV4)),
    "ip6tnl": frozenset((*_ENDS, *_IPV6, "protocol")),
}
"""The fields that a tunnel has, by its mode."""

ETHERNET_MODES: Final = frozenset({"gretap", "ip6gretap"})
"""The modes that carry Ethernet frames, not packets."""

_UINT8 = Field(strict=True, ge=0, le=255)
_UINT32 = Field(strict=True, ge=0, lt=1 << 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel(TunnelKind):
    """A tunnel from ``local`` to ``remote``; ``mode`` says what it carries, and in what.

    ``gre``, ``ipip`` and ``sit`` carry packets in IPv4, with GRE between, IPv4 alone and IPv6 alone; ``gretap`` carries
    Ethernet frames in GRE in IPv4. ``ip6gre``, ``ip6gretap`` and ``ip6tnl`` do so in IPv6. Those in IPv4 have ``ttl``
    and ``pmtudisc``; those in IPv6 have ``hop_limit``, ``flow_label``, ``encap_limit`` and ``ignore_encap_limit``,
    which sends none, as ``encaplimit none`` of ``ip`` does. Those with GRE have ``input_key`` and ``output_key``, which
    tell tunnels between the same ends apart, 0 for none, ``csum`` and ``seq``. ``protocol`` is what an ``ip6tnl``
    carries.

    Without ``remote`` the routes to the receivers tell the other ends. ``lower_if_name`` is the interface that its
    packets leave by; without one that follows from the routes. ``ttl`` 0 takes that of each packet, and so does ``tos``
    1. The MTU is left to the kernel, unless one is given.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = get_args(TunnelMode)
    mtus: ClassVar[range] = ANY_MTU
    usual_mtu: ClassVar[int] = 0
    settings: ClassVar[tuple[str, ...]] = (*_ENDS, *_IPV4, *_KEYS, *_IPV6, "protocol")
    fixed: ClassVar[frozenset[str]] = frozenset({"mode"})
    unlike_kernel: ClassVar[frozenset[str]] = frozenset({"hop_limit", "encap_limit"})

    mode: TunnelMode
    local: Annotated[str, AfterValidator(check_end)] = ""
    remote: Annotated[str, AfterValidator(check_end)] = ""
    lower_if_name: Annotated[str, AfterValidator(check_given_name)] = ""
    ttl: Annotated[int, _UINT8] = 0
    tos: Annotated[int, _UINT8] = 0
    pmtudisc: bool = True
    input_key: Annotated[int, _UINT32] = 0
    output_key: Annotated[int, _UINT32] = 0
    csum: bool = False
    seq: bool = False
    hop_limit: Annotated[int, _UINT8] = 64
    flow_label: Annotated[int, Field(strict=True, ge=0, lt=1 << 20)] = 0
    encap_limit: Annotated[int, _UINT8] = 4
    ignore_encap_limit: bool = False
    protocol: Literal["any", "ip6ip6", "ipip6"] = "any"
    fwmark: Annotated[int, _UINT32] = 0
    type: Literal["tunnel"] = "tunnel"

    @property
    def kernel_kind(self) -> str:
        """The mode."""
        return self.mode

    @property
    def ethernet(self) -> bool:
        """Whether it carries Ethernet frames."""
        return self.mode in ETHERNET_MODES

    def check_host_name(self, value: str) -> str:
        """Refuse the names of the links that the kernel has by itself."""
        if value in FALLBACK_LINKS:
            raise ValueError(f"{value} is a link that the kernel makes by itself in every namespace")
        return check_host_name(value)

    def check(self, interface: CommonFields) -> None:
        """Refuse fields that do not go with the mode, and ends that do not go together."""
        for name in self.settings:
            if name not in FIELDS[self.mode] and getattr(self, name) != self._default(name):
                raise wrong(f"tunnel.{name}", f"a tunnel of mode {self.mode} has no {name}; leave it out")
        version = 6 if "hop_limit" in FIELDS[self.mode] else 4
        for name, end in (("local", parsed(self.local)), ("remote", parsed(self.remote))):
            if end is not None and end.version != version:
                raise wrong(f"tunnel.{name}", f"{end} is no IPv{version} address, as mode {self.mode} needs")
        if not (self.local or self.remote):
            raise wrong("tunnel.remote", "is required, or local: an address of at least one end")
        if self.ttl and not self.pmtudisc:
            raise wrong("tunnel.pmtudisc", f"false goes with ttl 0 only, and ttl is {self.ttl}")
        if interface.phys_address and not self.ethernet:
            raise wrong("phys_address", f"a tunnel of mode {self.mode} has no MAC address; leave it out")
        TunnelKind.check(self, interface)

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what the link is to have: a MAC only if it carries Ethernet frames."""
        usual = LinkKind.attributes(self, interface, link, view)
        lower = view.link_for(self.lower_if_name) if self.lower_if_name else None
        mac = usual.mac if self.ethernet else None
        return usual._replace(mac=mac, sends_by=lower.id.ifindex if lower else 0)

    def data(self, link: Link | None = None) -> LinkData:
        """Return the settings that its link is to have: those of its mode."""
        return tuple(each for each in LinkKind.data(self, link) if each[0] in FIELDS[self.mode])

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of a link whose packets leave in another namespace; by which link is changed in place."""
        lower = view.link_for(self.lower_if_name) if self.lower_if_name else None
        wanted = lower.id.namespace if lower else link.id.namespace
        if (link.lower.namespace if link.lower else link.id.namespace) != wanted:
            return "its packets leave in another namespace"
        return LinkKind.why_recreated(self, interface, link, view)
