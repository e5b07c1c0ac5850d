"""TAPs that another program makes, that the agent adopts while they are declared, and then gives back."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import CommonFields, LinkKind, Origin
from ifagent.core.names import HostName, check_host_name


def _check_given_host_name(value: str) -> str:
    return check_host_name(value) if value else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTap(LinkKind):
    """A TAP that another program makes and the agent adopts.

    ``temp_if_name`` is its host name while it has not been adopted; empty means the interface's host name.
    """

    origin: ClassVar[Origin] = Origin.ADOPTED
    kernel_kind: ClassVar[str] = "tun"

    temp_if_name: Annotated[str, AfterValidator(_check_given_host_name)] = ""
    type: Literal["tap"] = "tap"

    def made_as(self, interface: CommonFields) -> HostName:
        """Return the host name under which the TAP's creator makes it."""
        return HostName(self.temp_if_name or interface.host_name)
