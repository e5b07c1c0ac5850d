"""What the kernel has said of all attached namespaces, put together to complete links. Pure.

The kernel speaks of links and of addresses in messages of their own, and of a veth's peer in the words of
the link's namespace. The mirror keeps the newest of each and tells which links are different now.

A pair of a veth is for life, so what one end says is true of both, and it ends only with one of them: when
a link goes, moves away, or its namespace is no longer listened to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import LOOPBACK_IFINDEX, UNKNOWN_SPEED, Checksums, Link, LinkId, NsId, Speed
from ifagent.kernel.ethtool import VETH_SPEED
from ifagent.kernel.messages import AddressMessage, LinkMessage
from ifagent.kernel.ordering import AddressList
from ifagent.kernel.rtnetlink import AF_INET, AF_INET6

Resolve = Callable[[NsId, int], NsId | None]
"""Which attached namespace an id means in a namespace; ``None`` if it is none of them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One notification: a link or an address is as said, or it is ``gone``."""

    said: LinkMessage | AddressMessage
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything in one namespace at one time; addresses in the kernel's order."""

    links: Sequence[LinkMessage]
    addresses: Sequence[AddressMessage]


@dataclass(slots=True)
class _Namespace:
    links: dict[int, LinkMessage] = field(default_factory=dict)
    addresses: dict[tuple[int, int], AddressList] = field(default_factory=dict)
    told: dict[int, Link] = field(default_factory=dict)


def _sorted(
    addresses: Iterable[AddressMessage], before: Mapping[tuple[int, int], AddressList]
) -> dict[tuple[int, int], AddressList]:
    """Return the addresses of each link and family: the lists from ``before``, where they say the same."""
    listed: dict[tuple[int, int], list[AddressMessage]] = {}
    for address in addresses:
        listed.setdefault((address.ifindex, address.family), []).append(address)
    return {
        key: known if (known := before.get(key)) is not None and list(known) == messages else AddressList(messages)
        for key, messages in listed.items()
    }


class Mirror:
    """The links of all attached namespaces."""

    def __init__(self, resolve: Resolve, *, newest_first: bool) -> None:
        """Start empty; ``newest_first`` is this kernel's order of IPv6 addresses."""
        self._resolve = resolve
        self._newest_first = newest_first
        self._namespaces: dict[NsId, _Namespace] = {}
        self._peers: dict[LinkId, LinkId] = {}
        self._touched: dict[LinkId, None] = {}
        self._unsure: set[NsId] = set()
        self._checksums: dict[LinkId, Checksums | None] = {}
        self._stirred: set[LinkId] = set()
        self._speeds: dict[LinkId, Speed] = {}
        self._speed_doubtful: set[LinkId] = set()

    def __contains__(self, namespace: NsId) -> bool:
        return namespace in self._namespaces

    def link(self, id_: LinkId) -> LinkMessage | None:
        """Return what was said last of a link."""
        namespace = self._namespaces.get(id_.namespace)
        return namespace.links.get(id_.ifindex) if namespace else None

    def apply(self, namespace: NsId, change: Change) -> None:
        """Take in one notification; it is ignored if the namespace was never listed."""
        if namespace in self._namespaces:
            self._apply(self._namespaces[namespace], namespace, change)

    def replace(self, namespace: NsId, listing: Listing, since: Iterable[Change]) -> LinksListed:
        """Take a listing and what changed since it was asked for instead of all that was known before."""
        old = self._namespaces.get(namespace, _Namespace())
        new = self._namespaces[namespace] = _Namespace()
        self._unsure.discard(namespace)
        new.links = {link.ifindex: link for link in listing.links}
        new.addresses = _sorted(listing.addresses, old.addresses)
        for ifindex in old.links.keys() - new.links.keys():
            self._part(LinkId(namespace, ifindex))
            self._speeds.pop(LinkId(namespace, ifindex), None)
        for link in listing.links:
            self._pair(namespace, link)
            self._doubt_speed(namespace, link)
        for change in since:
            self._apply(new, namespace, change)
        new.told = {ifindex: self._link_since(old, new, LinkId(namespace, ifindex)) for ifindex in new.links}
        return LinksListed(namespace, dict(new.told))

    def drop(self, namespace: NsId) -> None:
        """Forget a namespace."""
        for ifindex in self._namespaces.pop(namespace, _Namespace()).links:
            self._part(LinkId(namespace, ifindex))
            self._speeds.pop(LinkId(namespace, ifindex), None)
        self._unsure.discard(namespace)

    def changed(self) -> list[LinkSeen]:
        """Return the links that are different from what was told of them last."""
        seen = []
        for id_ in self._touched:
            namespace = self._namespaces.get(id_.namespace)
            if namespace is None:
                continue
            link = self._link(namespace, id_) if id_.ifindex in namespace.links else None
            if namespace.told.get(id_.ifindex) == link:
                continue
            if link is None:
                del namespace.told[id_.ifindex]
            else:
                namespace.told[id_.ifindex] = link
            seen.append(LinkSeen(id_, link))
        self._touched.clear()
        return seen

    def take_unsure(self) -> set[NsId]:
        """Return, once, the namespaces where the place of an address is a guess: list them anew."""
        unsure, self._unsure = self._unsure, set()
        return unsure

    def in_group(self, namespace: NsId, group: int) -> set[int]:
        """Return the links of a group in a namespace."""
        known = self._namespaces.get(namespace, _Namespace())
        return {ifindex for ifindex, link in known.links.items() if link.group == group}

    def inspect(self, links: Collection[LinkId]) -> set[LinkId]:
        """Tell of the checksum offloading of these links only; return those of which it is not known."""
        self._touched.update(dict.fromkeys(self._checksums.keys() - links))
        self._checksums = {id_: self._checksums.get(id_) for id_ in links}
        return {id_ for id_, known in self._checksums.items() if known is None}

    def know_checksums(self, id_: LinkId, checksums: Checksums) -> None:
        """Take note of a link's checksum offloading, if anybody asked about it."""
        if id_ in self._checksums:
            self._checksums[id_] = checksums
            self._touched[id_] = None

    def take_stirred(self) -> set[LinkId]:
        """Return, once, the inspected links of which something was said: their checksum offloading may be different."""
        stirred, self._stirred = self._stirred, set()
        return stirred

    def know_speeds(self, found: Mapping[LinkId, Speed]) -> None:
        """Take note of how fast links say they are."""
        for id_, speed in found.items():
            if self.link(id_) is not None:
                self._speeds[id_] = speed
                self._touched[id_] = None

    def take_speed_doubtful(self) -> set[LinkId]:
        """Return, once, the links whose speed may be different; that of a veth never is."""
        speed_doubtful, self._speed_doubtful = self._speed_doubtful, set()
        return speed_doubtful

    def _doubt_speed(self, namespace: NsId, link: LinkMessage, before: LinkMessage | None = None) -> None:
        """Have a link that is new, or has got or lost its carrier, asked how fast it is."""
        if link.kind == "veth" or link.ifindex == LOOPBACK_IFINDEX:
            return
        if before is None or before.carrier != link.carrier:
            self._speed_doubtful.add(LinkId(namespace, link.ifindex))

    def _apply(self, state: _Namespace, namespace: NsId, change: Change) -> None:
        match change.said:
            case LinkMessage() as link:
                id_ = LinkId(namespace, link.ifindex)
                if id_ in self._checksums:
                    self._stirred.add(id_)
                self._touched[id_] = None
                if change.gone:
                    state.links.pop(link.ifindex, None)
                    for family in (AF_INET, AF_INET6):
                        state.addresses.pop((link.ifindex, family), None)
                    self._part(id_)
                    self._speeds.pop(id_, None)
                else:
                    self._doubt_speed(namespace, link, state.links.get(link.ifindex))
                    state.links[link.ifindex] = link
                    self._pair(namespace, link)
            case AddressMessage() as address:
                if address.ifindex not in state.links:
                    return
                self._touched[LinkId(namespace, address.ifindex)] = None
                addresses = state.addresses.setdefault((address.ifindex, address.family), AddressList())
                if change.gone:
                    addresses.remove(address)
                elif not addresses.insert(address, newest_first=self._newest_first):
                    self._unsure.add(namespace)
            case _:
                assert_never(change.said)

    def _pair(self, namespace: NsId, link: LinkMessage) -> None:
        """Note the peer that a link names, if it is known; a link that names none keeps what its peer said."""
        id_ = LinkId(namespace, link.ifindex)
        if link.kind != "veth":
            self._part(id_)
            return
        peer = self._referred_to(namespace, link)
        if peer is None or peer.namespace not in self._namespaces:
            return
        if peer.ifindex not in self._namespaces[peer.namespace].links:
            return
        if self._peers.get(id_) != peer:
            self._part(id_)
            self._part(peer)
            self._peers[id_], self._peers[peer] = peer, id_
            self._touched[id_] = self._touched[peer] = None

    def _referred_to(self, namespace: NsId, link: LinkMessage) -> LinkId | None:
        """Return the link that a message names as peer or lower one, ``None`` where its namespace is not known."""
        if not link.link_ifindex:
            return None
        there = namespace if link.link_nsid is None else self._resolve(namespace, link.link_nsid)
        return None if there is None else LinkId(there, link.link_ifindex)

    def _part(self, id_: LinkId) -> None:
        peer = self._peers.pop(id_, None)
        if peer is not None:
            self._peers.pop(peer, None)
            self._touched[id_] = self._touched[peer] = None

    def _link_since(self, before: _Namespace, namespace: _Namespace, id_: LinkId) -> Link:
        """Return all that is known of a link: what was told ``before``, if nothing was heard and it is listed so."""
        told = before.told.get(id_.ifindex)
        keys = (id_.ifindex, AF_INET), (id_.ifindex, AF_INET6)
        if (
            told is not None
            and id_ not in self._touched
            and before.links[id_.ifindex] == namespace.links[id_.ifindex]
            and all(before.addresses.get(key) is namespace.addresses.get(key) for key in keys)
        ):
            return told
        return self._link(namespace, id_)

    def _link(self, namespace: _Namespace, id_: LinkId) -> Link:
        said = namespace.links[id_.ifindex]
        families = (namespace.addresses.get((id_.ifindex, family), ()) for family in (AF_INET, AF_INET6))
        return Link(
            id=id_,
            host_name=said.host_name,
            kind=said.kind,
            mac=said.mac,
            mtu=said.mtu,
            up=said.up,
            carrier=said.carrier,
            operstate=said.operstate,
            group=said.group,
            alias=said.alias,
            peer=self._peers.get(id_),
            lower=None if said.kind in {"", "veth"} else self._referred_to(id_.namespace, said),
            master=said.master,
            min_mtu=said.min_mtu,
            max_mtu=said.max_mtu,
            speed=VETH_SPEED if said.kind == "veth" else self._speeds.get(id_, UNKNOWN_SPEED),
            checksums=self._checksums.get(id_),
            addresses=tuple(message.address for messages in families for message in messages),
        )
