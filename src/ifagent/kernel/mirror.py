"""What the kernel has said of all attached namespaces, put together to complete links. Pure.

The kernel speaks of links and of addresses in messages of their own, and of a veth's peer in the words of
the link's namespace. The mirror keeps the newest of each and tells which links are different now. What is said in one
namespace is taken in as it was said; what is said in several may come in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, assert_never

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import LOOPBACK_IFINDEX, UNKNOWN_SPEED, Checksums, Link, LinkId, NsId, Speed
from ifagent.kernel.ethtool import VETH_SPEED
from ifagent.kernel.messages import AddressMessage, LinkMessage
from ifagent.kernel.ordering import AddressList
from ifagent.kernel.pairs import Pairs
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
    """Everything in one namespace at one time; the addresses by ifindex and family, in the kernel's order."""

    links: Sequence[LinkMessage]
    addresses: Mapping[tuple[int, int], AddressList]

    @classmethod
    def of(cls, links: Iterable[LinkMessage], addresses: Iterable[AddressMessage] = ()) -> Self:
        """Put together what a namespace has listed."""
        lists: dict[tuple[int, int], AddressList] = {}
        for address in addresses:
            lists.setdefault((address.ifindex, address.family), AddressList()).append(address)
        return cls(list(links), lists)


@dataclass(slots=True)
class _Namespace:
    links: dict[int, LinkMessage] = field(default_factory=dict)
    addresses: dict[tuple[int, int], AddressList] = field(default_factory=dict)
    told: dict[int, Link] = field(default_factory=dict)


def _as_before(
    listed: Mapping[tuple[int, int], AddressList], before: Mapping[tuple[int, int], AddressList]
) -> dict[tuple[int, int], AddressList]:
    """Return the addresses of each link and family: the lists from ``before``, where they say the same."""
    return {
        key: known if (known := before.get(key)) is not None and list(known) == list(addresses) else addresses
        for key, addresses in listed.items()
    }


class Mirror:
    """The links of all attached namespaces."""

    def __init__(self, resolve: Resolve, *, newest_first: bool) -> None:
        """Start empty; ``newest_first`` is this kernel's order of IPv6 addresses."""
        self._resolve = resolve
        self._newest_first = newest_first
        self._namespaces: dict[NsId, _Namespace] = {}
        self._pairs = Pairs()
        self._touched: dict[NsId, set[int]] = {}
        self._gone: dict[NsId, set[int]] = {}
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
        new.addresses = _as_before(listing.addresses, old.addresses)
        for ifindex in old.links.keys() - new.links.keys():
            self._end(LinkId(namespace, ifindex))
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
            self._end(LinkId(namespace, ifindex))
        self._unsure.discard(namespace)
        self._touched.pop(namespace, None)
        self._gone.pop(namespace, None)

    def touched(self) -> list[NsId]:
        """Return the namespaces that :meth:`changed_in` has something to look at in."""
        return list(self._touched)

    def changed(self) -> list[LinkSeen]:
        """Return the links that are different from what was told of them last."""
        return [seen for namespace in self.touched() for seen in self.changed_in(namespace)]

    def changed_in(self, namespace: NsId) -> list[LinkSeen]:
        """Return the links of a namespace that are different from what was told of them last.

        One with the ifindex of another one that has gone is told of after the end of that.
        """
        seen = []
        state, gone = self._namespaces.get(namespace, _Namespace()), self._gone.pop(namespace, set())
        for ifindex in self._touched.pop(namespace, ()):
            id_ = LinkId(namespace, ifindex)
            link = self._link(state, id_) if ifindex in state.links else None
            if link is not None and ifindex in gone and state.told.pop(ifindex, None) is not None:
                seen.append(LinkSeen(id_, None))
            if state.told.get(ifindex) == link:
                continue
            if link is None:
                del state.told[ifindex]
            else:
                state.told[ifindex] = link
                if link.peer is not None and self._pairs.peer(link.peer) != id_:
                    self._unsure.add(namespace)  # old words all round: a listing has none
            seen.append(LinkSeen(id_, link))
        return seen

    def take_unsure(self) -> set[NsId]:
        """Return, once, the namespaces where a peer, or the place of an address, is a guess: list them anew."""
        unsure, self._unsure = self._unsure, set()
        return unsure

    def in_group(self, namespace: NsId, group: int) -> set[int]:
        """Return the links of a group in a namespace."""
        known = self._namespaces.get(namespace, _Namespace())
        return {ifindex for ifindex, link in known.links.items() if link.group == group}

    def inspect(self, links: Collection[LinkId]) -> set[LinkId]:
        """Tell of the checksum offloading of these links only; return those of which it is not known."""
        self._touch(self._checksums.keys() - links)
        self._checksums = {id_: self._checksums.get(id_) for id_ in links}
        return {id_ for id_, known in self._checksums.items() if known is None}

    def know_checksums(self, id_: LinkId, checksums: Checksums) -> None:
        """Take note of a link's checksum offloading, if anybody asked about it."""
        if id_ in self._checksums:
            self._checksums[id_] = checksums
            self._touch((id_,))

    def take_stirred(self) -> set[LinkId]:
        """Return, once, the inspected links of which something was said: their checksum offloading may be different."""
        stirred, self._stirred = self._stirred, set()
        return stirred

    def know_speeds(self, found: Mapping[LinkId, Speed]) -> None:
        """Take note of how fast links say they are."""
        for id_, speed in found.items():
            if self.link(id_) is not None:
                self._speeds[id_] = speed
                self._touch((id_,))

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
                self._touch((id_,))
                if change.gone:
                    self._gone.setdefault(namespace, set()).add(link.ifindex)
                    state.links.pop(link.ifindex, None)
                    for family in (AF_INET, AF_INET6):
                        state.addresses.pop((link.ifindex, family), None)
                    self._end(id_)
                else:
                    self._doubt_speed(namespace, link, state.links.get(link.ifindex))
                    state.links[link.ifindex] = link
                    self._pair(namespace, link)
            case AddressMessage() as address:
                if address.ifindex not in state.links:
                    return
                self._touch((LinkId(namespace, address.ifindex),))
                addresses = state.addresses.setdefault((address.ifindex, address.family), AddressList())
                if change.gone:
                    addresses.remove(address)
                elif not addresses.insert(address, newest_first=self._newest_first):
                    self._unsure.add(namespace)
            case _:
                assert_never(change.said)

    def _pair(self, namespace: NsId, link: LinkMessage) -> None:
        """Note the peer that a link names; one that names none has been seen before its other end was there."""
        id_ = LinkId(namespace, link.ifindex)
        if link.kind != "veth":
            self._touch(self._pairs.end(id_))
            return
        self._touch(self._pairs.say(id_, self._referred_to(namespace, link)))

    def _referred_to(self, namespace: NsId, link: LinkMessage) -> LinkId | None:
        """Return the link that a message names as peer or lower one, ``None`` where its namespace is not known."""
        if not link.link_ifindex:
            return None
        there = namespace if link.link_nsid is None else self._resolve(namespace, link.link_nsid)
        return None if there is None else LinkId(there, link.link_ifindex)

    def _end(self, id_: LinkId) -> None:
        """Forget what was known of a link that is gone, but for what was told of it."""
        self._touch(self._pairs.end(id_))
        self._speeds.pop(id_, None)

    def _touch(self, links: Iterable[LinkId]) -> None:
        """Have links looked at that may be different now."""
        for namespace, ifindex in links:
            if namespace in self._namespaces:
                self._touched.setdefault(namespace, set()).add(ifindex)

    def _link_since(self, before: _Namespace, namespace: _Namespace, id_: LinkId) -> Link:
        """Return all that is known of a link: what was told ``before``, if nothing was heard and it is listed so."""
        told = before.told.get(id_.ifindex)
        keys = (id_.ifindex, AF_INET), (id_.ifindex, AF_INET6)
        if (
            told is not None
            and id_.ifindex not in self._touched.get(id_.namespace, ())
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
            peer=self._pairs.peer(id_),
            lower=None if said.kind in {"", "veth"} else self._referred_to(id_.namespace, said),
            master=said.master,
            min_mtu=said.min_mtu,
            max_mtu=said.max_mtu,
            altnames=said.altnames,
            speed=VETH_SPEED if said.kind == "veth" else self._speeds.get(id_, UNKNOWN_SPEED),
            checksums=self._checksums.get(id_),
            addresses=tuple(message.address for messages in families for message in messages),
        )
