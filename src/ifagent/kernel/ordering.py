"""The kernel's own order of one link's addresses, followed without asking again. Pure.

IPv4, as in ``net/ipv4/devinet.c``: primary addresses by scope, in the order they came; secondary ones after
everything. When a primary goes and ``promote_secondaries`` is on, the first secondary of its subnet becomes
primary and moves behind the last primary before it. IPv6, as in ``net/ipv6/addrconf.c``: by scope, and within
one scope the newest first; some kernels (6.19, and stable ones of that time) put the newest last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ifagent.core.address_lists import MAX_IPV6_SCOPE, ipv6_scope
from ifagent.core.link import IFA_F_TENTATIVE
from ifagent.kernel.messages import AddressMessage
from ifagent.kernel.rtnetlink import AF_INET, IFA_F_SECONDARY

_IPV4_BITS = 32


class AddressList:
    """One link's addresses of one family in the kernel's order.

    Anybody may give a link in his namespace tens of thousands, so none of them is looked at for nothing.
    """

    __slots__ = ("_in_scope", "_messages", "_order")

    def __init__(self, messages: Iterable[AddressMessage] = ()) -> None:
        """Start with what a listing says, in its order."""
        self._messages: dict[int, AddressMessage] = {}
        self._order: list[int] = []
        self._in_scope = [0] * (MAX_IPV6_SCOPE + 1)
        for message in messages:
            self.append(message)

    def __iter__(self) -> Iterator[AddressMessage]:
        return map(self._messages.__getitem__, self._order)

    def append(self, message: AddressMessage) -> None:
        """Put an address behind all others."""
        self._put(len(self._order), message)

    def insert(self, new: AddressMessage, *, newest_first: bool) -> bool:
        """Put an address where the kernel has it; one that is there already is replaced in its place.

        False if the place is a guess: the kernel tells of an IPv6 address only when it is usable if it made it, or if
        it need not look for duplicates, and others of its scope may have come meanwhile.
        """
        if _key(new) in self._messages:
            self._messages[_key(new)] = new
            return True
        if new.family == AF_INET:
            self._put(self._ipv4_place(new), new)
            return True
        scope = _scope(new)
        sure = bool(new.address.flags & IFA_F_TENTATIVE) or not self._in_scope[scope]
        before = (n for s, n in enumerate(self._in_scope) if s > scope or (s == scope and not newest_first))
        self._put(sum(before), new)
        return sure

    def remove(self, gone: AddressMessage) -> None:
        """Take an address away, and move the one that takes its place, if any; no matter if it is not there."""
        key = _key(gone)
        have = self._messages.get(key)
        if have is None:
            return
        at = self._order.index(key)
        if gone.family == AF_INET and not have.address.flags & IFA_F_SECONDARY:
            self._promote(at)
        del self._order[at], self._messages[key]
        self._in_scope[_scope(have)] -= 1

    def _put(self, place: int, message: AddressMessage) -> None:
        key = _key(message)
        if key not in self._messages:
            self._order.insert(place, key)
            self._in_scope[_scope(message)] += 1
        self._messages[key] = message

    def _promote(self, at: int) -> None:
        """Move the first secondary address of the subnet whose primary address, at ``at``, goes.

        Without promotion the kernel has told of the secondaries' end before, so none is left here.
        """
        subnet = self._order[at] >> _IPV4_BITS
        primary = self._messages[self._order[at]]
        behind = at
        for place in range(at + 1, len(self._order)):
            have = self._messages[self._order[place]]
            if have.address.flags & IFA_F_SECONDARY:
                if self._order[place] >> _IPV4_BITS == subnet:
                    self._order.insert(behind + 1, self._order.pop(place))
                    return
            elif primary.scope <= have.scope:
                behind = place

    def _ipv4_place(self, new: AddressMessage) -> int:
        if new.address.flags & IFA_F_SECONDARY:
            return len(self._order)
        for at in range(len(self._order) - 1, -1, -1):
            have = self._messages[self._order[at]]
            if not have.address.flags & IFA_F_SECONDARY and new.scope <= have.scope:
                return at + 1
        return 0


def _key(message: AddressMessage) -> int:
    """Return what tells addresses of one family apart: IPv4 may have one in several subnets, IPv6 may not."""
    interface = message.address.interface
    if message.family != AF_INET:
        return int(interface)
    prefix = interface.network.prefixlen
    subnet = prefix << _IPV4_BITS | message.far >> (_IPV4_BITS - prefix)
    return subnet << _IPV4_BITS | int(interface)


def _scope(message: AddressMessage) -> int:
    """Return the scope by which the kernel sorts; the same for all of IPv4."""
    return 0 if message.family == AF_INET else ipv6_scope(int(message.address.interface))
