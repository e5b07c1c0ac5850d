"""The world of the simulated kernel: namespaces, links, addresses, and what Linux does with them. Pure.

Every rule was measured on Linux 6.18; the conformance suite compares them with the kernel it runs on.
What the real kernel does a moment later (operstate, carrier, automatic fe80 addresses) happens here at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from ifagent.core.link import (
    LOOPBACK_IFINDEX,
    OUTLIVES_ITS_LOWER,
    LinkData,
    LinkId,
    NsId,
)
from ifagent.core.names import HostName
from ifagent.kernel.simulated.addresses import (
    flush_ipv6,
)
from ifagent.kernel.simulated.kinds import traits_of
from ifagent.kernel.simulated.link_data import new_data, new_port
from ifagent.kernel.simulated.link_settings import LinkSettings, check_master, put_on, rename, set_down
from ifagent.kernel.simulated.names import check_altname, check_free, check_length, check_mac, check_name
from ifagent.kernel.simulated.records import Refused, WorldLink, WorldNamespace, lose_carrier, mtus_of

_LOOPBACK_MTU = 65536
_NO_MAC = "00:00:00:00:00:00"

Where = NsId | str
"""A namespace: its id, or its name; the empty name is the agent's own namespace."""

End = tuple[WorldNamespace, str, str, int]
"""One end of a new veth pair: namespace, host name, MAC (empty: a random one), MTU in bytes (0: 1500)."""


def netns_path(name: str) -> str:
    """Return the path of a named namespace."""
    return f"/run/netns/{name}"


class World:
    """Everything that exists. ``settings`` changes links in place.

    ``changed`` is called with the id of every link that was created, changed or deleted, and with ``None`` when a named
    namespace was created or removed.
    """

    def __init__(self, own_path: str, changed: Callable[[LinkId | None], None]) -> None:
        self.namespaces: dict[NsId, WorldNamespace] = {}
        self.settings: LinkSettings = LinkSettings(self._touched)
        self._changed = changed
        self._last_id = 4026531840
        self._last_mac = 0x02_00_5E_00_00_00
        self.own: WorldNamespace = self.add_namespace(own_path)

    # Namespaces

    def add_namespace(self, path: str, *, name: str = "") -> WorldNamespace:
        """Create a namespace with ``lo`` in it, down."""
        if any(path == namespace.path for namespace in self.namespaces.values()):
            raise Refused(errno.EEXIST)
        self._last_id += 1
        namespace = WorldNamespace(NsId(self._last_id), path, name)
        self.namespaces[namespace.id] = namespace
        lo = WorldLink(namespace, namespace.free_ifindex(), HostName("lo"), "", _NO_MAC, _LOOPBACK_MTU)
        namespace.links[LOOPBACK_IFINDEX] = lo
        self._changed(lo.id)
        if name:
            self._changed(None)
        return namespace

    def find_namespace(self, where: Where) -> WorldNamespace:
        """Return the namespace of this id, or of this name (empty: the own one)."""
        if where == "":
            return self.own
        for namespace in self.namespaces.values():
            if where in {namespace.id, namespace.name}:
                return namespace
        raise Refused(errno.ENOENT)

    def remove_namespace(self, namespace: WorldNamespace) -> None:
        """Remove the path; the namespace lives on while the agent is attached."""
        if namespace is self.own:
            raise Refused(errno.EBUSY)
        named, namespace.path, namespace.name = bool(namespace.name), "", ""
        if named:
            self._changed(None)
        self.release_if_unused(namespace)

    def release_if_unused(self, namespace: WorldNamespace) -> None:
        """Delete the namespace, its links and their peers, unless a path leads to it or the agent is attached."""
        if namespace.path or namespace.attached:
            return
        while namespace.links:
            self._remove(next(iter(namespace.links.values())))
        self.namespaces.pop(namespace.id, None)

    # Links

    def add_link(
        self, namespace: WorldNamespace, host_name: str, kind: str, mac: str = "", lower: WorldLink | None = None
    ) -> WorldLink:
        """Create a link without a peer; with ``lower``, one on top of that, which is deleted with it."""
        check_name(namespace, host_name)
        if mac:
            check_mac(mac)
        link = WorldLink(namespace, namespace.free_ifindex(), HostName(host_name), kind, mac or self._random_mac())
        put_on(link, lower)
        namespace.links[link.ifindex] = link
        self._changed(link.id)
        return link

    def add_veth(self, near: End, far: End, group: int = 0) -> None:
        """Create a veth pair."""
        self.create("veth", (near, far), group)

    def create(
        self,
        kind: str,
        ends: Sequence[End],
        group: int = 0,
        *,
        data: LinkData = (),
        lower: WorldLink | None = None,
        master: int = 0,
    ) -> None:
        """Create a link, or both ends of a pair, as one request does."""
        traits = traits_of(kind)
        for _, host_name, mac, mtu in ends:
            check_length(host_name)
            if mac:
                check_mac(mac)
            if mtu and mtu not in mtus_of(kind):
                raise Refused(errno.EINVAL)
        near = ends[0]
        if all(end[0] is near[0] for end in ends):
            # Otherwise the agent chooses the ifindexes, and Linux checks those before the name.
            check_free(near[0], near[1])
        ends = ends[::-1]  # the kernel registers the far end first, so it has the lower ifindex
        for namespace, host_name, _, _ in ends:
            check_name(namespace, host_name)
        if len({end[:2] for end in ends}) < len(ends):
            raise Refused(errno.EEXIST)
        settings = new_data(kind, data, lower)
        inherits = traits.only_mac_of_lower or settings.get("mode") == "passthru"
        if lower is not None and traits.sits_on_lower and any(mtu > lower.mtu for *_, mtu in ends):
            raise Refused(errno.EINVAL)
        links = [
            WorldLink(
                namespace,
                namespace.free_ifindex(),
                HostName(host_name),
                kind,
                mac or self._random_mac(),
                mtu or (lower.mtu if lower is not None and traits.sits_on_lower else traits.mtu),
                group,
                data=dict(settings),
            )
            for namespace, host_name, mac, mtu in ends
        ]
        if master:
            check_master(links[0], master)
            links[0].master = master
            links[0].port = new_port(links[0].namespace.links[master])
        for link in links if lower is not None else ():
            put_on(link, lower, own_mac=not (inherits or (traits.mac_of_lower and not ends[0][2])))
        for link, other in zip(links, links[::-1], strict=True):
            link.peer = None if other is link else other
            link.namespace.links[link.ifindex] = link
        if len(links) > 1:
            lose_carrier(*links)
        for link in links:
            self._changed(link.id)

    def find_link(self, where: Where, host_name: str) -> WorldLink:
        """Return the link of this host name."""
        link = self.find_namespace(where).named(host_name)
        if link is None:
            raise Refused(errno.ENODEV)
        return link

    def delete(self, link: WorldLink) -> None:
        """Delete a link, and the other end of a veth with it."""
        if link.ifindex == LOOPBACK_IFINDEX:
            raise Refused(errno.EOPNOTSUPP)
        self._remove(link)

    def _remove(self, link: WorldLink) -> None:
        for end in (link, link.peer):
            if end is not None:
                for upper in tuple(end.uppers):
                    if upper.kind not in OUTLIVES_ITS_LOWER:
                        self._remove(upper)
                del end.namespace.links[end.ifindex]
                put_on(end, None)
                for port in [x for x in end.namespace.links.values() if x.master == end.ifindex]:
                    self.settings.set_attributes(port, master=0)
                self._changed(end.id)

    def move(self, link: WorldLink, to: WorldNamespace, host_name: str) -> None:
        """Move a link: it arrives down and without addresses; within one namespace it is only renamed.

        The new name is checked first only if the old one is taken at the destination. Otherwise the link moves as it is
        and is renamed then: if the name is refused, the link has moved under its old one.
        """
        check_length(host_name)
        if to is not link.namespace:
            if link.ifindex == LOOPBACK_IFINDEX or traits_of(link.kind).immutable:
                raise Refused(errno.EINVAL, "The interface netns is immutable")
            if to.called(link.host_name):
                check_name(to, host_name)
                self._check_altnames(link, to)
                self._transfer(link, to)
                link.host_name = HostName(host_name)
                return
            self._check_altnames(link, to)
            self._transfer(link, to)
        rename(link, host_name)
        self._touched(link)

    def _check_altnames(self, link: WorldLink, to: WorldNamespace) -> None:
        """Refuse to move a link whose altnames are taken at the destination; checked after the host name."""
        if any(to.called(altname) for altname in link.altnames):
            raise Refused(errno.EEXIST)

    def add_altname(self, link: WorldLink, altname: str) -> None:
        """Give a link one more name."""
        check_altname(link.namespace, altname)
        link.altnames.append(HostName(altname))
        self._altnames_changed(link)

    def remove_altname(self, link: WorldLink, altname: str) -> None:
        """Remove an altname from a link."""
        if altname not in link.altnames:
            raise Refused(errno.ENOENT)
        link.altnames.remove(HostName(altname))
        self._altnames_changed(link)

    def _altnames_changed(self, link: WorldLink) -> None:
        """Linux does not notify of the altnames of a link that is down (``netdev_state_change``)."""
        if link.up:
            self._touched(link)

    def _transfer(self, link: WorldLink, to: WorldNamespace) -> None:
        had_carrier = link.carrier
        set_down(link)
        link.ipv4.clear()
        flush_ipv6(link)
        del link.namespace.links[link.ifindex]
        self._changed(link.id)
        link.promotes = False
        link.master, link.port = 0, {}
        link.namespace, link.ifindex = to, to.free_ifindex(link.ifindex)
        to.links[link.ifindex] = link
        for upper in link.uppers:
            self._changed(upper.id)
        if link.peer is not None and had_carrier:
            lose_carrier(link, link.peer)
        self._touched(link)

    def _touched(self, link: WorldLink) -> None:
        for end in (link, link.peer):
            if end is not None:
                self._changed(end.id)
                for beside in (*end.ports, *filter(None, [end.namespace.links.get(end.master)])):
                    self._changed(beside.id)
                for upper in end.uppers:
                    self._touched(upper)

    def _random_mac(self) -> str:
        self._last_mac += 1
        return self._last_mac.to_bytes(6).hex(":")
