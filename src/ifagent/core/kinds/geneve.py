"""Geneve tunnels: Ethernet over UDP, with options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import CommonFields, LinkKind, View, wrong
from ifagent.core.kinds.vxlan import check_end, parsed, why_other_family
from ifagent.core.link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Geneve(LinkKind):
    """A Geneve tunnel of network ``vni``, 0 to 16777215, to ``remote``, at the UDP port ``port``.

    ``ttl`` 0 takes the default. Its MTU follows from the route to the other end when it is made, unless one is given.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("geneve",)
    usual_mtu: ClassVar[int] = 0
    settings: ClassVar[tuple[str, ...]] = ("vni", "remote", "port", "ttl", "tos", "df")
    fixed: ClassVar[frozenset[str]] = frozenset({"vni", "port"})
    movable: ClassVar[bool] = False  # its packets would go on leaving in the namespace in which it was made

    vni: Annotated[int, Field(strict=True, ge=0, lt=1 << 24)]
    remote: Annotated[str, AfterValidator(check_end)]
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 6081
    ttl: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    tos: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    df: Literal["unset", "set", "inherit"] = "unset"
    type: Literal["geneve"] = "geneve"

    def check(self, interface: CommonFields) -> None:  # noqa: ARG002 it depends on the kind alone
        """Refuse an end that is none."""
        remote = parsed(self.remote)
        if remote is None:
            raise wrong("geneve.remote", "is required: the address of the other end")
        if remote.is_multicast:
            raise wrong("geneve.remote", f"{remote} is a multicast address")

    def why_recreated(self, interface: CommonFields, link: Link, view: View) -> str:
        """Say so of one whose other end is to be of the other family too."""
        return why_other_family(link, self.remote) or LinkKind.why_recreated(self, interface, link, view)
