"""TAPs that the agent makes: a program reads and writes the Ethernet frames of such a link."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import CommonFields, LinkKind, View
from ifagent.core.link import Link, LinkData

NOBODY: Final = -1
"""The owner or group of a device that only programs with ``CAP_NET_ADMIN`` may open."""

Id = Annotated[int, Field(strict=True, ge=NOBODY, lt=(1 << 32) - 1)]


class TunDeviceKind(LinkKind):
    """What TAPs and TUNs have in common. They stay when no program has them open (``TUNSETPERSIST``)."""

    __slots__ = ()
    tun_type: ClassVar[str]
    kernel_kinds: ClassVar[tuple[str, ...]] = ("tun",)
    mtus: ClassVar[range] = range(68, 65522)
    settings: ClassVar[tuple[str, ...]] = ("owner", "group", "multi_queue", "vnet_hdr", "packet_info")
    fixed: ClassVar[frozenset[str]] = frozenset({"tun_type", "multi_queue", "vnet_hdr", "packet_info"})
    owner: Id
    group: Id

    def data(self, link: Link | None = None) -> LinkData:  # noqa: ARG002 every kernel has them all
        """Return the settings that its link is to have: all of them."""
        own = tuple((name, getattr(self, name)) for name in self.settings)
        return (("tun_type", self.tun_type), ("persist", True), *own)

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of one that is to have no owner or group any more, which the kernel refuses."""
        has = dict(link.data)
        for name, wanted in (("owner", self.owner), ("group", self.group)):
            if wanted == NOBODY != has.get(name, NOBODY):
                return f"{name} is {has[name]}, wanted none"
        return LinkKind.why_recreated(self, interface, link, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class TapDevice(TunDeviceKind):
    """A TAP that the agent makes, by ``/dev/net/tun``, and that stays when no program has it open.

    ``owner`` is the uid and ``group`` the gid of those who may open it beside root, -1 for none, else 0 to 4294967294.
    ``multi_queue`` lets several programs, or threads, open it at once. ``vnet_hdr`` puts a ``virtio_net_hdr`` before
    every frame, ``packet_info`` four bytes with its protocol. Without a program it is up and has no carrier.
    """

    tun_type: ClassVar[str] = "tap"

    owner: Id = NOBODY
    group: Id = NOBODY
    multi_queue: bool = False
    vnet_hdr: bool = False
    packet_info: bool = False
    type: Literal["tap_device"] = "tap_device"
