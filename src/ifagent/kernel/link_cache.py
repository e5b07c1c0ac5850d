"""The links of all attached namespaces, assembled from what the kernel reports. Pure.

The kernel reports links and addresses in separate messages, and names a veth's peer relative to the link's own
namespace. The cache keeps the latest of each and tells which links have changed. Notifications of one namespace are
applied in order; those of different namespaces may arrive in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, assert_never

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import LOOPBACK_IFINDEX, UNKNOWN_SPEED, Checksums, Link, LinkId, NsId, Speed
from ifagent.core.names import HostName
from ifagent.kernel.bridge_vlans import PortVlans
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.messages import AddressMessage, LinkMessage
from ifagent.kernel.ordering import AddressList
from ifagent.kernel.pairs import Pairs
from ifagent.kernel.rtnetlink import AF_INET, AF_INET6

Resolve = Callable[[NsId, int], NsId | None]
"""Returns the attached namespace that a namespace knows by an nsid; ``None`` if it is not attached."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A link, an address or the VLANs of a port are now as in the message, or it is ``gone``."""

    message: LinkMessage | AddressMessage | PortVlans
    gone: bool = False


@dataclass(frozen=True, slots=True)
class NamespaceDump:
    """Everything in one namespace at one time; the addresses by ifindex and family, in the kernel's order."""

    links: Sequence[LinkMessage]
    addresses: Mapping[tuple[int, int], AddressList]
    vlans: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        links: Iterable[LinkMessage],
        addresses: Iterable[AddressMessage] = (),
        vlans: Iterable[PortVlans] = (),
    ) -> Self:
        """Sort the messages of a namespace's dumps into a :class:`NamespaceDump`."""
        lists: dict[tuple[int, int], AddressList] = {}
        for address in addresses:
            lists.setdefault((address.ifindex, address.family), AddressList()).append(address)
        return cls(list(links), lists, dict(vlans))


@dataclass(slots=True)
class _Namespace:
    links: dict[int, LinkMessage] = field(default_factory=dict)
    addresses: dict[tuple[int, int], AddressList] = field(default_factory=dict)
    vlans: dict[int, tuple[str, ...]] = field(default_factory=dict)
    reported: dict[int, Link] = field(default_factory=dict)


def _reuse_unchanged(
    listed: Mapping[tuple[int, int], AddressList], before: Mapping[tuple[int, int], AddressList]
) -> dict[tuple[int, int], AddressList]:
    """Return the address lists by link and family, reusing those of ``before`` that are equal."""
    return {
        key: known if (known := before.get(key)) is not None and list(known) == list(addresses) else addresses
        for key, addresses in listed.items()
    }


class LinkCache:
    """The links of all attached namespaces."""

    def __init__(self, resolve: Resolve, *, newest_first: bool) -> None:
        """Start empty; ``newest_first`` is this kernel's order of IPv6 addresses."""
        self._resolve = resolve
        self._newest_first = newest_first
        self._namespaces: dict[NsId, _Namespace] = {}
        self._pairs = Pairs()
        self._dirty: dict[NsId, set[int]] = {}
        self._gone: dict[NsId, set[int]] = {}
        self._to_relist: set[NsId] = set()
        self._checksums: dict[LinkId, Checksums | None] = {}
        self._offloads_to_read: set[LinkId] = set()
        self._speeds: dict[LinkId, Speed] = {}
        self._speeds_to_read: set[LinkId] = set()

    def __contains__(self, namespace: NsId) -> bool:
        return namespace in self._namespaces

    def link(self, id_: LinkId) -> LinkMessage | None:
        """Return the latest message about a link."""
        namespace = self._namespaces.get(id_.namespace)
        return namespace.links.get(id_.ifindex) if namespace else None

    def apply(self, namespace: NsId, notification: Notification) -> None:
        """Apply a notification; it is ignored if the namespace was never listed."""
        if namespace in self._namespaces:
            self._apply(self._namespaces[namespace], namespace, notification)

    def replace(self, namespace: NsId, dump: NamespaceDump, since: Iterable[Notification]) -> LinksListed:
        """Replace a namespace's links by a dump and the notifications ``since`` it was requested."""
        old = self._namespaces.get(namespace, _Namespace())
        new = self._namespaces[namespace] = _Namespace()
        self._to_relist.discard(namespace)
        new.links = {link.ifindex: link for link in dump.links}
        new.addresses = _reuse_unchanged(dump.addresses, old.addresses)
        new.vlans = dict(dump.vlans)
        for ifindex in old.links.keys() - new.links.keys():
            self._forget_link(LinkId(namespace, ifindex))
        for link in dump.links:
            self._set_peer(namespace, link)
            self._mark_speed_to_read(namespace, link)
        for notification in since:
            self._apply(new, namespace, notification)
        new.reported = {ifindex: self._relisted_link(old, new, LinkId(namespace, ifindex)) for ifindex in new.links}
        return LinksListed(namespace, dict(new.reported))

    def drop(self, namespace: NsId) -> None:
        """Forget a namespace."""
        for ifindex in self._namespaces.pop(namespace, _Namespace()).links:
            self._forget_link(LinkId(namespace, ifindex))
        self._to_relist.discard(namespace)
        self._dirty.pop(namespace, None)
        self._gone.pop(namespace, None)

    def dirty_namespaces(self) -> list[NsId]:
        """Return the namespaces with links that :meth:`changed_in` has to compare."""
        return list(self._dirty)

    def changed(self) -> list[LinkSeen]:
        """Return the links that differ from what was last reported."""
        return [seen for namespace in self.dirty_namespaces() for seen in self.changed_in(namespace)]

    def changed_in(self, namespace: NsId) -> list[LinkSeen]:
        """Return the links of a namespace that differ from what was last reported.

        A link that reuses the ifindex of one that is gone is reported after the end of that one.
        """
        seen = []
        state, gone = self._namespaces.get(namespace, _Namespace()), self._gone.pop(namespace, set())
        for ifindex in self._dirty.pop(namespace, ()):
            id_ = LinkId(namespace, ifindex)
            link = self._link(state, id_) if ifindex in state.links else None
            if link is not None and ifindex in gone and state.reported.pop(ifindex, None) is not None:
                seen.append(LinkSeen(id_, None))
            if state.reported.get(ifindex) == link:
                continue
            if link is None:
                del state.reported[ifindex]
            else:
                state.reported[ifindex] = link
                if link.peer is not None and self._pairs.peer(link.peer) != id_:
                    self._to_relist.add(namespace)  # every message is outdated; a dump is not
            seen.append(LinkSeen(id_, link))
        return seen

    def take_to_relist(self) -> set[NsId]:
        """Return, once, the namespaces to list again: a peer, or the position of an address, is a guess."""
        namespaces, self._to_relist = self._to_relist, set()
        return namespaces

    def in_group(self, namespace: NsId, group: int) -> set[int]:
        """Return the links of a group in a namespace."""
        known = self._namespaces.get(namespace, _Namespace())
        return {ifindex for ifindex, link in known.links.items() if link.group == group}

    def called(self, names: Container[tuple[NsId, HostName]], namespaces: Iterable[NsId]) -> list[LinkId]:
        """Return the links of some namespaces that have these host names."""
        return [
            LinkId(namespace, ifindex)
            for namespace in namespaces
            for ifindex, link in self._namespaces.get(namespace, _Namespace()).links.items()
            if (namespace, link.host_name) in names
        ]

    def inspect(self, links: Collection[LinkId]) -> set[LinkId]:
        """Report the checksum offloading of exactly these links from now on; return those that have to be queried."""
        self._mark_dirty(self._checksums.keys() - links)
        self._checksums = {id_: self._checksums.get(id_) for id_ in links}
        return {id_ for id_, known in self._checksums.items() if known is None}

    def set_checksums(self, found: Mapping[LinkId, Checksums]) -> None:
        """Store the checksum offloading of links, as far as they are inspected."""
        for id_, checksums in found.items():
            if id_ in self._checksums:
                self._checksums[id_] = checksums
                self._mark_dirty((id_,))

    def take_offloads_to_read(self) -> set[LinkId]:
        """Return, once, the inspected links whose checksum offloading may have changed: there was a notification."""
        links, self._offloads_to_read = self._offloads_to_read, set()
        return links

    def set_speeds(self, found: Mapping[LinkId, Speed]) -> None:
        """Store the speeds of links."""
        for id_, speed in found.items():
            if self.link(id_) is not None:
                self._speeds[id_] = speed
                self._mark_dirty((id_,))

    def take_speeds_to_read(self) -> set[LinkId]:
        """Return, once, the links whose speed may have changed."""
        links, self._speeds_to_read = self._speeds_to_read, set()
        return links

    def _mark_speed_to_read(self, namespace: NsId, link: LinkMessage, before: LinkMessage | None = None) -> None:
        """Have the speed of a link queried that is new, or has gained or lost its carrier."""
        if driver_of(link.kind).speed is not None or link.ifindex == LOOPBACK_IFINDEX:
            return
        if before is None or before.carrier != link.carrier:
            self._speeds_to_read.add(LinkId(namespace, link.ifindex))

    def _apply(self, state: _Namespace, namespace: NsId, notification: Notification) -> None:
        match notification.message:
            case LinkMessage() as link:
                id_ = LinkId(namespace, link.ifindex)
                if id_ in self._checksums:
                    self._offloads_to_read.add(id_)
                self._mark_dirty((id_,))
                if notification.gone:
                    self._gone.setdefault(namespace, set()).add(link.ifindex)
                    state.links.pop(link.ifindex, None)
                    state.vlans.pop(link.ifindex, None)
                    for family in (AF_INET, AF_INET6):
                        state.addresses.pop((link.ifindex, family), None)
                    self._forget_link(id_)
                else:
                    self._mark_speed_to_read(namespace, link, state.links.get(link.ifindex))
                    state.links[link.ifindex] = link
                    self._set_peer(namespace, link)
            case PortVlans(ifindex, vlans):
                if ifindex in state.links:
                    self._mark_dirty((LinkId(namespace, ifindex),))
                    state.vlans[ifindex] = vlans
            case AddressMessage() as address:
                if address.ifindex not in state.links:
                    return
                self._mark_dirty((LinkId(namespace, address.ifindex),))
                addresses = state.addresses.setdefault((address.ifindex, address.family), AddressList())
                if notification.gone:
                    addresses.remove(address)
                elif not addresses.insert(address, newest_first=self._newest_first):
                    self._to_relist.add(namespace)
            case _:
                assert_never(notification.message)

    def _set_peer(self, namespace: NsId, link: LinkMessage) -> None:
        """Record the peer that a link names; it names none if it was seen before its other end existed."""
        id_ = LinkId(namespace, link.ifindex)
        if not driver_of(link.kind).paired:
            self._mark_dirty(self._pairs.remove(id_))
            return
        self._mark_dirty(self._pairs.set_named(id_, self._linked(namespace, link)))

    def _linked(self, namespace: NsId, link: LinkMessage) -> LinkId | None:
        """Return the peer or lower link that a message names, ``None`` if its namespace is not attached."""
        if not link.link_ifindex:
            return None
        there = namespace if link.link_nsid is None else self._resolve(namespace, link.link_nsid)
        return None if there is None else LinkId(there, link.link_ifindex)

    def _forget_link(self, id_: LinkId) -> None:
        """Forget a link that is gone, except what was last reported."""
        self._mark_dirty(self._pairs.remove(id_))
        self._speeds.pop(id_, None)

    def _mark_dirty(self, links: Iterable[LinkId]) -> None:
        """Have links compared that may have changed."""
        for namespace, ifindex in links:
            if namespace in self._namespaces:
                self._dirty.setdefault(namespace, set()).add(ifindex)

    def _relisted_link(self, before: _Namespace, namespace: _Namespace, id_: LinkId) -> Link:
        """Return a link as it is now: what was reported ``before``, if no notification and no dump says otherwise."""
        reported = before.reported.get(id_.ifindex)
        keys = (id_.ifindex, AF_INET), (id_.ifindex, AF_INET6)
        if (
            reported is not None
            and id_.ifindex not in self._dirty.get(id_.namespace, ())
            and before.links[id_.ifindex] == namespace.links[id_.ifindex]
            and before.vlans.get(id_.ifindex) == namespace.vlans.get(id_.ifindex)
            and all(before.addresses.get(key) is namespace.addresses.get(key) for key in keys)
        ):
            return reported
        return self._link(namespace, id_)

    def _link(self, namespace: _Namespace, id_: LinkId) -> Link:
        message = namespace.links[id_.ifindex]
        driver = driver_of(message.kind)
        vlans = namespace.vlans.get(id_.ifindex)
        families = (namespace.addresses.get((id_.ifindex, family), ()) for family in (AF_INET, AF_INET6))
        return Link(
            id=id_,
            host_name=message.host_name,
            kind=message.kind,
            mac=message.mac,
            mtu=message.mtu,
            up=message.up,
            carrier=message.carrier,
            operstate=message.operstate,
            group=message.group,
            alias=message.alias,
            peer=self._pairs.peer(id_),
            lower=None if driver.paired else self._linked(id_.namespace, message),
            master=message.master,
            data=message.data,
            port=(*message.port, ("vlans", vlans)) if message.port and vlans is not None else message.port,
            min_mtu=message.min_mtu,
            max_mtu=message.max_mtu,
            altnames=message.altnames,
            speed=driver.speed or self._speeds.get(id_, UNKNOWN_SPEED),
            checksums=self._checksums.get(id_),
            addresses=tuple(each.address for addresses in families for each in addresses),
        )
