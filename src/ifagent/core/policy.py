"""What the settings allow, whatever is declared. Pure.

Interfaces are declared by people who need not have any rights on the host that the agent runs on. This is what
stands between their values and the host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network

from ifagent.core.names import HostName, IPInterface
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType

DEFAULT_MAX_INTERFACES = 100_000
DEFAULT_MAX_NAMESPACES = 10_000

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits for everything that is declared.

    ``namespaces`` are patterns such as ``named:lab-*`` or ``own``: an interface has to be in a namespace whose
    reference one of them matches. ``existing`` are patterns of host names, such as ``eth1``: links of the host that
    an interface of kind ``existing`` or ``loopback`` may change. A pattern with a wild card does not reach links that
    keep the host connected. ``taps`` are patterns of host names too: TAPs of the host that an AUTO_TAP may adopt. A
    pattern with a wild card does not reach those that the host uses. Patterns are those of :mod:`fnmatch`.

    In ``host_networks`` values may give addresses to links of the host's namespaces whatever traffic of the host's
    that takes. ``max_interfaces`` and ``max_namespaces`` are how many interfaces, and how many different references,
    are looked at.
    """

    namespaces: tuple[str, ...] = ("*",)
    existing: tuple[str, ...] = ()
    taps: tuple[str, ...] = ("*",)
    host_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    max_interfaces: int = DEFAULT_MAX_INTERFACES
    max_namespaces: int = DEFAULT_MAX_NAMESPACES

    def allows_namespace(self, ref: NamespaceRef) -> bool:
        """Tell whether interfaces may be in a namespace of this reference."""
        return any(fnmatchcase(str(ref), pattern) for pattern in self.namespaces)

    def may_allow(self, type: NamespaceType) -> bool:  # noqa: A002 as in NamespaceRef
        """Tell whether there may be a reference of this type that is allowed; false only if there is none."""
        beginnings = (re.split(r"[*?\[]", pattern, maxsplit=1)[0] for pattern in self.namespaces)
        return any(start.startswith(f"{type}:") or f"{type}:".startswith(start) for start in beginnings)

    def allows_existing(self, host_name: HostName, *, uplink: bool) -> bool:
        """Tell whether a link of the host's may be changed; ``uplink``: it keeps the host connected."""
        return _allows(self.existing, host_name, by_name_only=uplink)

    def allows_tap(self, host_name: HostName, *, in_use: bool) -> bool:
        """Tell whether a TAP of the host's may be adopted; ``in_use``: the host has a use for it already."""
        return _allows(self.taps, host_name, by_name_only=in_use)

    def allows_host_network(self, address: IPInterface) -> bool:
        """Tell whether an address may be given to links of the host's whatever it takes."""
        network = address.network
        return any(
            network.version == allowed.version and network.subnet_of(allowed)  # type: ignore[arg-type]  # the same version
            for allowed in self.host_networks
        )

    @property
    def asks_for_uplinks(self) -> bool:
        """True if it matters which links keep the host connected."""
        return any(_WILD & set(pattern) for pattern in self.existing)


def _allows(patterns: Collection[str], host_name: HostName, *, by_name_only: bool) -> bool:
    """Tell whether patterns allow a link; ``by_name_only``: a pattern with a wild card does not reach it."""
    return host_name in patterns or (not by_name_only and any(fnmatchcase(host_name, p) for p in patterns))
