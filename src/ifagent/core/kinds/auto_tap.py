"""TAPs that another program makes, that the agent adopts while they are declared, and then gives back."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ifagent.core.adoption import adoption_of
from ifagent.core.configure import Attributes
from ifagent.core.kinds.contract import CommonFields, LinkKind, Origin, View
from ifagent.core.link import Link
from ifagent.core.names import HostName, check_host_name
from ifagent.core.operation import Target
from ifagent.core.plan import Obstacle
from ifagent.core.state import ConfigState
from ifagent.errors import AgentBug


def _check_given_host_name(value: str) -> str:
    return check_host_name(value) if value else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTap(LinkKind):
    """A TAP that another program makes and the agent adopts.

    ``temp_if_name`` is its host name while it has not been adopted; empty means the interface's host name.
    """

    origin: ClassVar[Origin] = Origin.ADOPTED
    kernel_kinds: ClassVar[tuple[str, ...]] = ("tun",)

    temp_if_name: Annotated[str, AfterValidator(_check_given_host_name)] = ""
    type: Literal["tap"] = "tap"

    def made_as(self, interface: CommonFields) -> HostName:
        """Return the host name under which the TAP's creator makes it."""
        return HostName(self.temp_if_name or interface.host_name)

    def obstacle(self, interface: CommonFields, link: Link | None, view: View) -> Obstacle | None:
        """Say what a declared TAP waits for."""
        if link is not None:
            return None
        name = self.made_as(interface)
        there = view.link_at_target(Target(view.observed.own, name))
        reason = f"no program has made the TAP {name} in the agent's own namespace"
        if there is not None:
            why = view.why_not_adoptable(there) or "another interface adopts it"
            reason = f"{there} is in the agent's own namespace, but {why}"
        return Obstacle(ConfigState.PENDING, reason, (f"tap {name}",))

    def attributes(self, interface: CommonFields, link: Link | None, view: View) -> Attributes:
        """Return what an adopted TAP is to have; what is ``None`` is as its creator has it."""
        if link is None:
            raise AgentBug(f"the TAP of interface {interface.name} is not the agent's to make")
        adoption = adoption_of(view, interface, link, view.place(interface))
        mac = interface.phys_address or (adoption.mac if adoption.keeps_mac else "")
        return Attributes(
            host_name=interface.host_name,
            mac=None if interface.link_only else mac or None,
            mtu=interface.mtu or (adoption.mtu if adoption.keeps_mtu else 0) or None,
            up=interface.enabled,
            alias=view.owner.adopted_alias(adoption),
            addresses=None if interface.link_only else interface.ip_addresses,
        )
