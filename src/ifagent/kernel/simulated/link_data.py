"""The settings of kinds of links in the simulated world."""

from __future__ import annotations

import errno

from ifagent.core.link import LinkData, Scalar
from ifagent.core.vlan_lists import default_list
from ifagent.kernel.simulated.kinds import traits_of
from ifagent.kernel.simulated.records import Refused, WorldLink


def new_data(kind: str, given: LinkData, lower: WorldLink | None) -> dict[str, Scalar]:
    """Return the settings of a new link. Raises :class:`Refused`."""
    traits, data = traits_of(kind), dict(given)
    if traits.sits_on_lower:
        if lower is None:
            raise Refused(errno.EINVAL)
        here = uppers(lower)
        master = lower.namespace.links.get(lower.master)
        is_taken = master is not None and master.kind != "vrf"
        if traits.uses_lower_alone and (is_taken or any(_is_other(kind, upper) for upper in here)):
            raise Refused(errno.EBUSY)
        if traits.unique and any(
            upper.kind == kind and all(upper.data[name] == data.get(name) for name in traits.unique) for upper in here
        ):
            raise Refused(errno.EEXIST)
    names = [name for name, _ in traits.defaults] or list(data)
    return {name: data.get(name, dict(traits.defaults).get(name, 0)) for name in names}


def new_port(master: WorldLink) -> dict[str, Scalar]:
    """Return the settings of a new port of a link."""
    port = dict(traits_of(master.kind).port)
    if "vlans" in port:
        port["vlans"] = default_list(_default_pvid(master))
    return port


def _default_pvid(bridge: WorldLink) -> int:
    return int(str(bridge.data["vlan_default_pvid"]))


def change_data(link: WorldLink, data: LinkData) -> None:
    """Change settings of a link. Raises :class:`Refused`."""
    traits = traits_of(link.kind)
    if any(name in traits.refused for name, _ in data):
        raise Refused(errno.EOPNOTSUPP)
    if link.up and any(name in traits.refused_while_up for name, _ in data):
        raise Refused(errno.EBUSY)
    if not (link.data or traits.defaults):
        raise Refused(errno.EOPNOTSUPP)
    changed = dict(traits.defaults) if traits.changed_whole else {}
    changed |= {name: value for name, value in data if name not in traits.ignored}
    if link.kind in _OF_LOWER and link.lower is not None:
        for upper in uppers(link.lower):
            upper.data |= changed
    mode = changed.get("mode")
    if (
        link.kind in _MACVLANS
        and mode is not None
        and "passthru" in {mode, link.data["mode"]}
        and mode != link.data["mode"]
    ):
        raise Refused(errno.EINVAL)
    default = _default_pvid(link) if "vlan_default_pvid" in changed else 0
    link.data |= changed
    if "vlan_default_pvid" in changed:
        for port in link.ports:
            if port.port["vlans"] == default_list(default):
                port.port["vlans"] = default_list(_default_pvid(link))


def uppers(lower: WorldLink) -> list[WorldLink]:
    """Return the links that sit on one."""
    return list(lower.uppers)


def _is_other(kind: str, upper: WorldLink) -> bool:
    """Tell whether two kinds cannot share a lower link: those that take all of its packets."""
    same = _MACVLANS if kind in _MACVLANS else {kind}
    return traits_of(upper.kind).uses_lower_alone and upper.kind not in same


_MACVLANS = frozenset({"macvlan", "macvtap"})
_OF_LOWER = frozenset({"ipvlan"})
"""Kinds whose settings are those of the lower link, and so of all others on it."""
