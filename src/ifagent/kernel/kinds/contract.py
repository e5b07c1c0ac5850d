"""What differs from kind to kind in how rtnetlink writes a link, and in what has to be queried beside it.

A kind whose links stand alone and have no attributes of their own needs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from ifagent.core.link import Speed
from ifagent.errors import AgentBug
from ifagent.kernel.link_data import Table


class LinkDriver:
    """One kind, as its driver has it.

    ``paired`` says that two links are made by one request, and that ``IFLA_LINK`` of each names the other end; of other
    kinds it names the lower link. ``lower_attributes`` are those of ``IFLA_INFO_DATA`` that do so where the kernel
    leaves out ``IFLA_LINK``, although the links are deleted with their lower one. ``speed`` is what every link
    reports, ``None`` where that has to be queried. ``settings`` are what the agent knows of ``IFLA_INFO_DATA``.
    ``port_settings`` are what it knows of the ``IFLA_INFO_SLAVE_DATA`` of ports of such links.
    Links that are made ``by_file`` are not made, nor their settings changed, by rtnetlink.
    ``sysctls`` are set in the namespace of a new link, by their paths below ``/proc/sys``.
    """

    paired: ClassVar[bool] = False
    by_file: ClassVar[bool] = False
    lower_attributes: ClassVar[tuple[int, ...]] = ()
    speed: ClassVar[Speed | None] = None
    settings: ClassVar[Table] = Table()
    port_settings: ClassVar[Table] = Table()
    sysctls: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def creation_data(self, far: Sequence[bytes]) -> bytes:
        """Return the payload of ``IFLA_INFO_DATA`` for a new link, empty for none.

        ``far`` are the bodies, header and attributes, of the ends beside the first.
        """
        if far:
            raise AgentBug("a link of this kind has no other end")
        return b""
