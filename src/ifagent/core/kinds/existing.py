"""Links that are somebody else's for good: configured as far as their interface says, and let go of as they were."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, CommonFields, LinkKind, Origin
from ifagent.core.names import check_host_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing(LinkKind):
    """A link of somebody else's: waited for under its host name or an altname, never made, renamed, moved or deleted.

    What is done with it depends on the interface's ``link_only`` and ``ip_addresses``, as ligato v3 has it:

    ============= ================ ==========================================================================
    ``link_only`` ``ip_addresses`` meaning
    ============= ================ ==========================================================================
    false         none             wait for the link; it is to have no addresses: those from others are taken off
    false         some             wait for the link; it is to have these addresses and no others
    true          none             wait for the link; whatever addresses it has are none of our business
    true          some             wait for the link, and for somebody else to give it these addresses
    ============= ================ ==========================================================================

    Nothing else of such a link is managed, as in ligato v3: neither admin state, MTU nor MAC. v3 also wants it in its
    own namespace, which is not asked for here. Links of the host are changed only if the settings allow it.
    """

    origin: ClassVar[Origin] = Origin.EXISTING
    mtus: ClassVar[range] = ANY_MTU

    type: Literal["existing"] = "existing"

    def check_host_name(self, value: str) -> str:
        """Allow ``lo`` too."""
        return check_host_name(value, loopback=True)

    def changes_link(self, interface: CommonFields) -> bool:
        """Tell whether its addresses are managed."""
        return not interface.link_only
