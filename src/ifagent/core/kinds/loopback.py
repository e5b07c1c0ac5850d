"""The link ``lo`` of a namespace."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, View
from ifagent.core.kinds.existing import ExistingKind, mark_of
from ifagent.core.link import Link
from ifagent.core.names import LOOPBACK_NAME, HostName, Name, check_host_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback(ExistingKind):
    """The link ``lo`` of a namespace, which is always there and is never made, renamed, moved or deleted.

    The interface's host name is ``lo`` whatever its name. There is one in every namespace, so a namespace can
    have one interface of this kind.
    """

    usual_mtu: ClassVar[int] = 65536
    makes_namespace: ClassVar[bool] = True

    type: Literal["loopback"] = "loopback"

    def host_name(self, name: Name, given: str) -> HostName:  # noqa: ARG002 it has one name only
        """Return ``lo``."""
        return HostName(LOOPBACK_NAME)

    def check_host_name(self, value: str) -> str:
        """Refuse every other host name than ``lo``."""
        if value != LOOPBACK_NAME:
            raise ValueError(f"the loopback link is called {LOOPBACK_NAME!r}, leave it out")
        return check_host_name(value, loopback=True)

    def changes_link(self, interface: CommonFields) -> bool:  # noqa: ARG002 whatever it says
        """Say that it does."""
        return True

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what it is to have: everything but a MAC."""
        return Attributes(
            host_name=interface.host_name,
            mtu=interface.mtu or self.usual_mtu,
            up=interface.enabled,
            alias=mark_of(interface, link, view),
            addresses=None if interface.link_only else interface.ip_addresses,
        )
