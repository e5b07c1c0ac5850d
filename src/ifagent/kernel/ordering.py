"""The kernel's own order of one link's addresses, maintained without listing again. Pure.

IPv4, as in ``net/ipv4/devinet.c``: primary addresses by scope, in the order they came; secondary ones after
everything. When a primary goes and ``promote_secondaries`` is on, the first secondary of its subnet becomes
primary and moves behind the last primary before it. IPv6, as in ``net/ipv6/addrconf.c``: by scope, and within
one scope the newest first; some kernels (6.19, and stable ones of that time) put the newest last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ifagent.core.address_lists import ipv6_scope
from ifagent.core.link import IFA_F_TENTATIVE
from ifagent.kernel.messages import AddressMessage
from ifagent.kernel.rtnetlink import AF_INET, IFA_F_SECONDARY

_IPV4_BITS = 32


class _Run:
    """Addresses of one scope, next to each other. New ones become the first, or the last."""

    __slots__ = ("first", "last", "scope")

    def __init__(self, scope: int) -> None:
        self.scope = scope
        self.first: dict[int, AddressMessage] = {}
        self.last: dict[int, AddressMessage] = {}

    def __iter__(self) -> Iterator[AddressMessage]:
        yield from reversed(self.first.values())
        yield from self.last.values()

    def __len__(self) -> int:
        return len(self.first) + len(self.last)


class AddressList:
    """One link's addresses of one family in the kernel's order.

    Anybody may add and delete tens of thousands in a namespace, so there is no linear search.
    """

    __slots__ = ("_held_by", "_in_subnet", "_runs", "_secondary")

    def __init__(self, messages: Iterable[AddressMessage] = ()) -> None:
        """Start with the addresses of a dump, in its order."""
        self._runs: list[_Run] = []
        self._secondary: dict[int, AddressMessage] = {}
        self._held_by: dict[int, dict[int, AddressMessage]] = {}
        self._in_subnet: dict[int, dict[int, None]] = {}
        for message in messages:
            self.append(message)

    def __iter__(self) -> Iterator[AddressMessage]:
        for run in self._runs:
            yield from run
        yield from self._secondary.values()

    def append(self, message: AddressMessage) -> None:
        """Append an address behind all others of its sort, as in a dump."""
        key = _key(message)
        if key in self._held_by:
            self._held_by[key][key] = message
        elif _is_secondary(message):
            self._add_secondary(key, message)
        else:
            scope = _scope(message)
            if not self._runs or self._runs[-1].scope != scope:
                self._runs.append(_Run(scope))
            self._put(self._runs[-1].last, key, message)

    def insert(self, new: AddressMessage, *, newest_first: bool) -> bool:
        """Insert an address where the kernel has it; one that exists already is replaced in its position.

        False if the position is a guess: the kernel notifies of an IPv6 address that it made itself, or that needs no
        duplicate detection, only when it is usable, and others of its scope may have come meanwhile.
        """
        key = _key(new)
        if key in self._held_by:
            self._held_by[key][key] = new
            return True
        if _is_secondary(new):
            self._add_secondary(key, new)
            return True
        scope = _scope(new)
        if new.family == AF_INET:
            self._insert_behind(scope, key, new)
            return True
        alone = all(run.scope != scope for run in self._runs)
        if newest_first:
            self._insert_before(scope, key, new)
        else:
            self._insert_behind(scope, key, new)
        return alone or bool(new.address.flags & IFA_F_TENTATIVE)

    def remove(self, gone: AddressMessage) -> None:
        """Remove an address, if it exists, and promote the secondary one that replaces it, if any.

        When a primary address goes, the first secondary one of its subnet becomes primary. Without promotion the
        kernel has notified of the deletion of the secondaries before, so none is left.
        """
        key = _key(gone)
        holder = self._held_by.pop(key, None)
        if holder is None:
            return
        have = holder.pop(key)
        if holder is self._secondary:
            self._leave_subnet(key)
            return
        if gone.family == AF_INET and (secondaries := self._in_subnet.get(key >> _IPV4_BITS)):
            promoted = next(iter(secondaries))
            self._leave_subnet(promoted)
            self._insert_behind(have.scope, promoted, self._secondary.pop(promoted))
        self._runs = [run for run in self._runs if len(run)]

    def _put(self, holder: dict[int, AddressMessage], key: int, message: AddressMessage) -> None:
        holder[key] = message
        self._held_by[key] = holder

    def _add_secondary(self, key: int, message: AddressMessage) -> None:
        self._put(self._secondary, key, message)
        self._in_subnet.setdefault(key >> _IPV4_BITS, {})[key] = None

    def _leave_subnet(self, key: int) -> None:
        subnet = key >> _IPV4_BITS
        del self._in_subnet[subnet][key]
        if not self._in_subnet[subnet]:
            del self._in_subnet[subnet]

    def _insert_behind(self, scope: int, key: int, message: AddressMessage) -> None:
        """Put an address behind all others of this scope, or of higher ones."""
        place = next((at for at in range(len(self._runs), 0, -1) if self._runs[at - 1].scope >= scope), 0)
        if not place or self._runs[place - 1].scope != _scope(message):
            self._runs.insert(place, _Run(_scope(message)))
            place += 1
        self._put(self._runs[place - 1].last, key, message)

    def _insert_before(self, scope: int, key: int, message: AddressMessage) -> None:
        """Put an address before all others of its scope, or of lower ones."""
        place = next((at for at, run in enumerate(self._runs) if run.scope <= scope), len(self._runs))
        if place == len(self._runs) or self._runs[place].scope != scope:
            self._runs.insert(place, _Run(scope))
        self._put(self._runs[place].first, key, message)


def _key(message: AddressMessage) -> int:
    """Return what tells addresses of one family apart: IPv4 may have one in several subnets, IPv6 may not."""
    interface = message.address.interface
    if message.family != AF_INET:
        return int(interface)
    prefix = interface.network.prefixlen
    subnet = prefix << _IPV4_BITS | message.far >> (_IPV4_BITS - prefix)
    return subnet << _IPV4_BITS | int(interface)


def _is_secondary(message: AddressMessage) -> bool:
    return message.family == AF_INET and bool(message.address.flags & IFA_F_SECONDARY)


def _scope(message: AddressMessage) -> int:
    """Return the scope by which the kernel sorts: the higher comes first."""
    return message.scope if message.family == AF_INET else ipv6_scope(int(message.address.interface))
