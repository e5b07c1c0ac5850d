"""Parses rtnetlink messages from the kernel. Pure.

Only what a :class:`~ifagent.core.link.Link` needs is read, as thousands of messages may arrive at once. Whatever the
bytes are, nothing but :class:`MalformedMessage` is raised.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from itertools import islice
from typing import Final, NamedTuple

from ifagent.core.address_values import interned
from ifagent.core.counters import LinkCounters
from ifagent.core.link import LOOPBACK_ADDRESSES, LOOPBACK_IFINDEX, Address, LinkData, OperState, usual_scope
from ifagent.core.names import MAX_HOST_NAME_BYTES, HostName, IPInterface
from ifagent.kernel.attributes import AttributeReader, MalformedMessage, each_payload
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.kinds.contract import LinkDriver
from ifagent.kernel.netlink import Message, text
from ifagent.kernel.rtnetlink import (
    AF_INET,
    AF_INET6,
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_CACHEINFO,
    IFA_F_MANAGETEMPADDR,
    IFA_F_PERMANENT,
    IFA_F_TEMPORARY,
    IFA_FLAGS,
    IFA_LIFETIMES,
    IFA_LOCAL,
    IFA_PROTO,
    IFA_RT_PRIORITY,
    IFADDR,
    IFF_UP,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_ALT_IFNAME,
    IFLA_CARRIER,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MAX_MTU,
    IFLA_MIN_MTU,
    IFLA_MTU,
    IFLA_OPERSTATE,
    IFLA_PROP_LIST,
    IFLA_STATS_LINK_64,
    IFLA_WIRELESS,
    IFSTATS,
    INFINITY_LIFE_TIME,
    LINK_STATS,
    NETNSA_CURRENT_NSID,
    NETNSA_NSID,
    NETNSA_NSID_NOT_ASSIGNED,
    ROUTE,
    RTA_OIF,
    RTGEN,
    S32,
    U32,
)

_OPERSTATES: Final = {bytes([state]): state for state in OperState}
_ADDRESS_SIZES: Final = {AF_INET: (4, 4), AF_INET6: (16, 6)}
"""Bytes of an address, and the version of IP."""

_KERNEL_MADE: Final = frozenset({b"\1", b"\2", b"\3"})
"""``IFA_PROTO``: ``IFAPROT_KERNEL_LO``, ``IFAPROT_KERNEL_RA`` and ``IFAPROT_KERNEL_LL``; higher ones are programs'."""
_LINK: Final = AttributeReader(
    {
        IFLA_ADDRESS,
        IFLA_CARRIER,
        IFLA_GROUP,
        IFLA_IFALIAS,
        IFLA_IFNAME,
        IFLA_LINK,
        IFLA_LINKINFO,
        IFLA_LINK_NETNSID,
        IFLA_MASTER,
        IFLA_MAX_MTU,
        IFLA_MIN_MTU,
        IFLA_MTU,
        IFLA_OPERSTATE,
        IFLA_PROP_LIST,
        IFLA_WIRELESS,
    }
)
_INFO: Final = AttributeReader({IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND})
_ANY: Final = AttributeReader()

MAX_ALTNAMES: Final = 32
"""Most altnames of one link that are kept."""


class LinkMessage(NamedTuple):
    """One link as a message describes it.

    ``link_ifindex`` is the other end of a pair, or the lower link of others, 0 where the message names none;
    ``link_nsid`` is the id of its namespace relative to the link's own one, ``None`` if that is the same.
    """

    ifindex: int
    host_name: HostName
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    operstate: OperState
    group: int
    alias: str
    master: int
    link_ifindex: int
    link_nsid: int | None
    min_mtu: int = 0
    max_mtu: int = 0
    altnames: tuple[HostName, ...] = ()
    data: LinkData = ()
    port: LinkData = ()


class AddressMessage(NamedTuple):
    """One address as a message describes it; ``far`` is ``IFA_ADDRESS``, to which the prefix applies."""

    ifindex: int
    family: int
    address: Address
    far: int
    scope: int


class NsIdMessage(NamedTuple):
    """A namespace's id in the queried namespace, and in the agent's (-1: none)."""

    nsid: int
    current: int


def parse_link(data: bytes, message: Message) -> LinkMessage | None:
    """Return the link of an ``RTM_NEWLINK`` or ``RTM_DELLINK``.

    ``None`` where the message is not about a link as such: bridge ports and wireless events travel under the
    same type. Raises :class:`MalformedMessage`.
    """
    offset, end = message.start, message.end
    if end - offset < IFINFO.size:
        raise MalformedMessage("link message without its header")
    family, _, ifindex, flags, _ = IFINFO.unpack_from(data, offset)
    if family:
        return None
    found = _LINK.read(data, offset + IFINFO.size, end)
    if IFLA_WIRELESS in found:
        return None
    name = text(found.get(IFLA_IFNAME, b""))
    if not name:
        raise MalformedMessage(f"link without a name, ifindex {ifindex}")
    kind, settings, port = _info(found.get(IFLA_LINKINFO, b""))
    driver = driver_of(kind)
    return LinkMessage(
        ifindex=ifindex,
        host_name=HostName(name),
        kind=kind,
        mac=_mac(found.get(IFLA_ADDRESS, b"")),
        mtu=_number(found.get(IFLA_MTU)),
        up=bool(flags & IFF_UP),
        carrier=any(found.get(IFLA_CARRIER, b"")),
        operstate=_OPERSTATES.get(found.get(IFLA_OPERSTATE, b""), OperState.UNKNOWN),
        group=_number(found.get(IFLA_GROUP)),
        alias=text(found.get(IFLA_IFALIAS, b"")),
        master=_number(found.get(IFLA_MASTER)),
        link_ifindex=_number(found[IFLA_LINK] if IFLA_LINK in found else _lower(driver, settings)) if kind else 0,
        link_nsid=_id(found[IFLA_LINK_NETNSID]) if kind and IFLA_LINK_NETNSID in found else None,
        min_mtu=_number(found.get(IFLA_MIN_MTU)),
        max_mtu=_number(found.get(IFLA_MAX_MTU)),
        altnames=_altnames(found[IFLA_PROP_LIST]) if IFLA_PROP_LIST in found else (),
        data=driver.settings.decode(settings) if driver.settings else (),
        port=port,
    )


def _mac(payload: bytes) -> str:
    """Return a link-layer address; of a tunnel in IP it is the IP address of its end, which is none."""
    return "" if len(payload) in {4, 16} else payload.hex(":")


def _altnames(payload: bytes) -> tuple[HostName, ...]:
    """Return the first altnames that can be host names too; nobody refers to others, and there may be hundreds."""
    names = (name for name in each_payload(payload, IFLA_ALT_IFNAME) if len(name) <= MAX_HOST_NAME_BYTES + 1)
    return tuple(HostName(text(name)) for name in islice(names, MAX_ALTNAMES))


def parse_altnames(data: bytes, message: Message) -> tuple[int, list[bytes]]:
    """Return the ifindex and all altnames of an ``RTM_NEWLINK``, however many. Raises :class:`MalformedMessage`."""
    if message.end - message.start < IFINFO.size:
        raise MalformedMessage("link message without its header")
    ifindex = IFINFO.unpack_from(data, message.start)[2]
    found = _LINK.read(data, message.start + IFINFO.size, message.end)
    return ifindex, list(each_payload(found.get(IFLA_PROP_LIST, b""), IFLA_ALT_IFNAME))


def parse_counters(data: bytes, message: Message) -> tuple[int, LinkCounters]:
    """Return the ifindex and the counters of an ``RTM_NEWSTATS``. Raises :class:`MalformedMessage`."""
    offset, end = message.start, message.end
    if end - offset < IFSTATS.size:
        raise MalformedMessage("statistics message without its header")
    _, ifindex, _ = IFSTATS.unpack_from(data, offset)
    counts = _ANY.read(data, offset + IFSTATS.size, end).get(IFLA_STATS_LINK_64, b"")
    if len(counts) < LINK_STATS.size:
        raise MalformedMessage(f"statistics of {len(counts)} bytes")
    return ifindex, LinkCounters._make(LINK_STATS.unpack_from(counts))


def parse_address(data: bytes, message: Message, *, has_ifa_proto: bool = True) -> AddressMessage | None:
    """Return the address of an ``RTM_NEWADDR`` or ``RTM_DELADDR``; ``None`` for a family that is not IP.

    ``has_ifa_proto`` says whether this kernel has ``IFA_PROTO`` (5.18). On older ones a link-local IPv6 address with
    prefix length 64 counts as made by the kernel, and one with ``mngtmpaddr`` and a lifetime as made from a router
    advertisement. Temporary addresses are the kernel's in any case, and so are the two usual ones of ``lo``, whoever
    added them. Raises :class:`MalformedMessage`.
    """
    if message.end - message.start < IFADDR.size:
        raise MalformedMessage("address message without its header")
    family, prefix, flags, scope, ifindex = IFADDR.unpack_from(data, message.start)
    if family not in _ADDRESS_SIZES:
        return None
    size, version = _ADDRESS_SIZES[family]
    attributes = _ANY.read(data, message.start + IFADDR.size, message.end)
    local = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, b"")
    # The kernel leaves out the far address of IPv4 where that is 0.0.0.0.
    far = attributes.get(IFA_ADDRESS) or (bytes(size) if family == AF_INET else local)
    if len(far) != size or len(local) != size or prefix > size * 8:
        raise MalformedMessage(f"address of {len(local)} bytes with prefix length {prefix}")
    if IFA_FLAGS in attributes:
        flags = _number(attributes[IFA_FLAGS])
    interface = interned(version, int.from_bytes(local), prefix)
    if family == AF_INET6:
        automatic = _is_automatic(interface, flags, attributes.get(IFA_PROTO, b""), has_ifa_proto=has_ifa_proto)
    else:
        automatic = attributes.get(IFA_PROTO, b"") in _KERNEL_MADE
    address = Address(
        interface,
        flags,
        made_by_kernel=automatic or (ifindex == LOOPBACK_IFINDEX and interface in LOOPBACK_ADDRESSES),
        peer=None if far == local else ip_address(far),
        scope=None if family == AF_INET6 or scope == usual_scope(interface) else scope,
        broadcast=_unusual_broadcast(attributes.get(IFA_BROADCAST), far, prefix),
        lasts=_lasts(attributes.get(IFA_CACHEINFO)),
        metric=_number(attributes.get(IFA_RT_PRIORITY)),
    )
    return AddressMessage(ifindex, family, address, int.from_bytes(far), scope)


def _is_automatic(interface: IPInterface, flags: int, ifa_proto: bytes, *, has_ifa_proto: bool) -> bool:
    """Tell whether the kernel made an IPv6 address, by itself or from a router advertisement."""
    if ifa_proto in _KERNEL_MADE or flags & IFA_F_TEMPORARY:
        return True
    if has_ifa_proto:
        return False
    advertised = flags & IFA_F_MANAGETEMPADDR and not flags & IFA_F_PERMANENT
    return bool(advertised) or (interface.ip.is_link_local and interface.network.prefixlen == 64)


def _unusual_broadcast(payload: bytes | None, far: bytes, prefix: int) -> IPv4Address | None:
    """Return a broadcast address unless it is the last one of the subnet."""
    if payload is None or len(far) != 4:
        return None
    if len(payload) != len(far):
        raise MalformedMessage(f"broadcast address of {len(payload)} bytes")
    last = int.from_bytes(far) | (1 << 32 - prefix) - 1
    return None if int.from_bytes(payload) == last else IPv4Address(payload)


def _lasts(payload: bytes | None) -> bool:
    """Tell whether both lifetimes of an address are infinite."""
    if payload is None:
        return True
    if len(payload) < IFA_LIFETIMES.size:
        raise MalformedMessage(f"lifetimes of {len(payload)} bytes")
    return all(seconds == INFINITY_LIFE_TIME for seconds in IFA_LIFETIMES.unpack_from(payload))


def parse_nsid(data: bytes, message: Message) -> NsIdMessage:
    """Return the ids of an ``RTM_NEWNSID`` or ``RTM_DELNSID``. Raises :class:`MalformedMessage`."""
    attributes = _ANY.read(data, min(message.start + len(RTGEN), message.end), message.end)
    nsid, current = attributes.get(NETNSA_NSID), attributes.get(NETNSA_CURRENT_NSID)
    none = NETNSA_NSID_NOT_ASSIGNED
    return NsIdMessage(none if nsid is None else _id(nsid), none if current is None else _id(current))


def parse_route(data: bytes, message: Message) -> int:
    """Return the ifindex that an ``RTM_NEWROUTE`` leads out of, 0 for none. Raises :class:`MalformedMessage`."""
    return _number(_ANY.read(data, min(message.start + ROUTE.size, message.end), message.end).get(RTA_OIF))


@lru_cache(maxsize=256)
def _info(info: bytes) -> tuple[str, bytes, LinkData]:
    """Return the kind in an ``IFLA_LINKINFO``, the payload of its settings, and its settings as a port.

    Cached: most links have the same.
    """
    attributes = _INFO.read(info, 0, len(info))
    master = driver_of(text(attributes.get(IFLA_INFO_SLAVE_KIND, b"")))
    port = master.port_settings.decode(attributes.get(IFLA_INFO_SLAVE_DATA, b"")) if master.port_settings else ()
    return text(attributes.get(IFLA_INFO_KIND, b"")), attributes.get(IFLA_INFO_DATA, b""), port


def _lower(driver: LinkDriver, settings: bytes) -> bytes | None:
    """Return the ifindex of the lower link where only the settings of a kind tell it."""
    if not driver.lower_attributes:
        return None
    found = _ANY.read(settings, 0, len(settings))
    return next((found[each] for each in driver.lower_attributes if each in found), None)


def _number(payload: bytes | None) -> int:
    """Decode a 32 bit number, 0 where there is none."""
    if payload is None:
        return 0
    if len(payload) != U32.size:
        raise MalformedMessage(f"number of {len(payload)} bytes")
    return int(U32.unpack(payload)[0])


def _id(payload: bytes) -> int:
    """Decode a namespace id, which may be -1."""
    if len(payload) != S32.size:
        raise MalformedMessage(f"namespace id of {len(payload)} bytes")
    return int(S32.unpack(payload)[0])
