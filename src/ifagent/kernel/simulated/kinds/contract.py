"""What differs from kind to kind in what Linux does with a link."""

from __future__ import annotations

from typing import NamedTuple

from ifagent.core.kinds.contract import DEFAULT_MTU, ETHERNET_MTU
from ifagent.core.link import LinkData, OperState, Speed


class Traits(NamedTuple):
    """Of one kind, as its driver has them.

    ``min_mtu`` and ``max_mtu`` are what the kernel tells (``IFLA_MIN_MTU``, ``IFLA_MAX_MTU``), 0 for no limit.
    ``with_carrier`` is the operstate of a link that is up and has carrier: unknown where the driver does not watch it.
    ``mtu`` is that of a new link, in bytes; one that ``sits_on_lower`` has its lower link's. ``mac_of_lower`` says
    that it has its lower link's MAC unless one is given, and ``only_mac_of_lower`` that it has no other one.
    ``uses_lower_alone`` says that the lower link can have no upper links of another kind, nor be a port. ``defaults``
    are the settings of a new link. A change of one in ``refused`` is refused, of one in ``ignored`` it has no effect,
    one in ``refused_while_up`` is changed while the link is down; with ``changed_whole``, what a change leaves out
    gets its default. ``follows_lower`` says that it is set up and down with its lower link. ``immutable`` ones are not
    moved. ``port`` are the settings of a new port of such a link; with ``takes_ports_up`` that has to be down, is set
    up and gets its MAC and MTU. One that ``has_mtu_of_ports`` has the least of them.
    """

    min_mtu: int = ETHERNET_MTU.start
    max_mtu: int = ETHERNET_MTU.stop - 1
    with_carrier: OperState = OperState.UNKNOWN
    speed: Speed = Speed()
    mtu: int = DEFAULT_MTU
    sits_on_lower: bool = False
    mac_of_lower: bool = False
    only_mac_of_lower: bool = False
    uses_lower_alone: bool = False
    follows_lower: bool = False
    immutable: bool = False
    is_master: bool = False
    defaults: LinkData = ()
    refused: frozenset[str] = frozenset()
    refused_while_up: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    changed_whole: bool = False
    unique: tuple[str, ...] = ()
    port: LinkData = ()
    takes_ports_up: bool = False
    has_mtu_of_ports: bool = False
