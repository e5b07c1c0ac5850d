"""Encodes operations and queries as rtnetlink requests: one message each, or several where one is not enough. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from itertools import repeat
from typing import Final

from ifagent.core.link import NsId, usual_scope
from ifagent.core.names import HostName, IPInterface
from ifagent.core.operation import Operation, Place, Target
from ifagent.core.operations import (
    AddAddress,
    ChangeLink,
    CreateLink,
    DeleteAddress,
    DeleteLink,
    LinkEnd,
    MoveLink,
    PromoteSecondaries,
    RemoveAltname,
    RenewAddress,
    ReplaceAddress,
    SetLink,
    SetPort,
)
from ifagent.errors import AgentBug
from ifagent.kernel.attributes import attribute, nested, string
from ifagent.kernel.bridge_vlans import set_port_vlans
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.netlink import request
from ifagent.kernel.rtnetlink import (
    AF_INET,
    AF_INET6,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFADDR,
    IFF_UP,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_ALT_IFNAME,
    IFLA_EXT_MASK,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INET_CONF,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    IFLA_PROP_LIST,
    IFLA_STATS_LINK_64,
    IFSTATS,
    IPV4_DEVCONF_PROMOTE_SECONDARIES,
    NETNSA_FD,
    NETNSA_NSID,
    NETNSA_NSID_NOT_ASSIGNED,
    NETNSA_TARGET_NSID,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    ROUTE,
    RTA_DST,
    RTEXT_FILTER_SKIP_STATS,
    RTGEN,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELLINKPROP,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNSID,
    RTM_GETROUTE,
    RTM_GETSTATS,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNSID,
    S32,
    U32,
)

_SEQUENCE_OFFSET: Final = 8


def encode_all(operation: Operation, *, fds: Mapping[NsId, int], ifindexes: Sequence[int] = ()) -> tuple[bytes, ...]:
    """Return the requests of one operation, to be sent in this order, as :func:`encode` does."""
    if isinstance(operation, RenewAddress):
        target, address = operation.target, operation.address
        return encode(DeleteAddress(target, address), fds=fds), encode(AddAddress(target, address), fds=fds)
    if isinstance(operation, SetPort):
        return _set_port(operation)
    return (encode(operation, fds=fds, ifindexes=ifindexes),)


def encode(  # noqa: PLR0911 one for each operation
    operation: Operation, *, fds: Mapping[NsId, int], ifindexes: Sequence[int] = (), nsid: int | None = None
) -> bytes:
    """Return one request with sequence number 0, to be sent inside the namespace of the operation's link.

    ``fds`` are open files of the namespaces that the operation names; ``ifindexes`` are those of a new link's
    ends, zero or none for the kernel's choice; ``nsid`` is the id of a lower link's namespace in that of the new link,
    where it is another one. Raises :class:`AgentBug` for an operation that is not resolved (a link without an ifindex,
    a namespace that is not in ``fds``), and for one that is not an rtnetlink request.
    """
    match operation:
        case CreateLink():
            return _create_link(operation, fds, ifindexes, nsid)
        case SetLink():
            return _set_link(operation)
        case ChangeLink():
            return _change_link(operation)
        case MoveLink(target=target, to=to, host_name=host_name):
            body = IFINFO.pack(0, 0, _ifindex(target), 0, 0)
            body += attribute(IFLA_NET_NS_FD, U32.pack(_fd(to, fds))) + string(IFLA_IFNAME, host_name)
            return request(RTM_NEWLINK, body)
        case AddAddress(target=target, address=address, peer=peer):
            return request(RTM_NEWADDR, _address(target, address, peer), flags=NLM_F_CREATE | NLM_F_EXCL)
        case ReplaceAddress(target=target, address=address):
            return request(RTM_NEWADDR, _address(target, address), flags=NLM_F_REPLACE)
        case DeleteAddress(target=target, address=address, peer=peer):
            return request(RTM_DELADDR, _address(target, address, peer))
        case RemoveAltname(target=target, altname=altname):
            properties = nested(IFLA_PROP_LIST, string(IFLA_ALT_IFNAME, altname))
            return request(RTM_DELLINKPROP, IFINFO.pack(0, 0, _ifindex(target), 0, 0) + properties)
        case PromoteSecondaries(target=target):
            setting = attribute(IPV4_DEVCONF_PROMOTE_SECONDARIES, U32.pack(1))
            family = nested(AF_INET, nested(IFLA_INET_CONF, setting))
            return request(RTM_NEWLINK, IFINFO.pack(0, 0, _ifindex(target), 0, 0) + nested(IFLA_AF_SPEC, family))
        case DeleteLink(target=target):
            return delete_link(_ifindex(target))
        case _:
            raise AgentBug(f"{operation} is not an rtnetlink request")


def remove_altnames(ifindex: int, altnames: Iterable[bytes]) -> bytes:
    """Return a request that removes altnames of a link, each with its final zero byte, whatever the link is called."""
    properties = nested(IFLA_PROP_LIST, b"".join(attribute(IFLA_ALT_IFNAME, name) for name in altnames))
    return request(RTM_DELLINKPROP, IFINFO.pack(0, 0, ifindex, 0, 0) + properties)


def set_name(ifindex: int, host_name: HostName) -> bytes:
    """Return a request that renames a link, whatever it is called."""
    return request(RTM_NEWLINK, IFINFO.pack(0, 0, ifindex, 0, 0) + string(IFLA_IFNAME, host_name))


def delete_link(ifindex: int) -> bytes:
    """Return a request that deletes a link, whatever it is called."""
    return request(RTM_DELLINK, IFINFO.pack(0, 0, ifindex, 0, 0))


def set_group(ifindex: int, group: int) -> bytes:
    """Return a request that puts a link into a group, whatever the link is called."""
    return request(RTM_NEWLINK, IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(IFLA_GROUP, U32.pack(group)))


def set_up(ifindex: int, *, up: bool) -> bytes:
    """Return a request that sets a link up or down, whatever the link is called."""
    return request(RTM_NEWLINK, IFINFO.pack(0, 0, ifindex, IFF_UP if up else 0, IFF_UP))


def delete_group(group: int) -> bytes:
    """Return a request that deletes every link of a group in one namespace, with their other ends."""
    return request(RTM_DELLINK, IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_GROUP, U32.pack(group)))


def set_alias(ifindex: int, alias: str) -> bytes:
    """Return a request that gives a link an alias, whatever the link is called."""
    return request(RTM_NEWLINK, IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(IFLA_IFALIAS, alias.encode()))


def add_address(ifindex: int, address: IPInterface) -> bytes:
    """Return a request that adds an address to a link, whatever the link is called."""
    return encode(AddAddress(Target(NsId(0), HostName(""), ifindex), address), fds={})


def restore_address(body: bytes) -> bytes:
    """Return a request that adds an address as it was listed: ``body`` is the payload of its message."""
    return request(RTM_NEWADDR, body, flags=NLM_F_CREATE | NLM_F_EXCL)


def get_link(ifindex: int) -> bytes:
    """Return a request for one link, without counters."""
    body = IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))
    return request(RTM_GETLINK, body)


def get_link_called(name: HostName) -> bytes:
    """Return a request for the link that has this host name or altname, without counters."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + string(IFLA_IFNAME, name)
    return request(RTM_GETLINK, body + attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS)))


def dump_links() -> bytes:
    """Return a request for every link of a namespace, without counters."""
    body = bytes(IFINFO.size) + attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))
    return request(RTM_GETLINK, body, flags=NLM_F_DUMP)


def dump_counters() -> bytes:
    """Return a request for the counters of every link of a namespace, and nothing else.

    An answer is a seventh of the size of a link message with counters, and is parsed in a fifth of the time.
    """
    return request(RTM_GETSTATS, IFSTATS.pack(0, 0, 1 << IFLA_STATS_LINK_64 - 1), flags=NLM_F_DUMP)


def dump_addresses() -> bytes:
    """Return a request for every address of a namespace, IPv4 first."""
    return request(RTM_GETADDR, bytes(IFADDR.size), flags=NLM_F_DUMP)


def dump_ipv6_addresses(ifindex: int) -> bytes:
    """Return a request for the IPv6 addresses of one link."""
    return request(RTM_GETADDR, IFADDR.pack(AF_INET6, 0, 0, 0, ifindex), flags=NLM_F_DUMP)


def assign_nsid(fd: int) -> bytes:
    """Return a request that assigns the namespace ``fd`` any free id in the agent's namespace."""
    body = RTGEN + attribute(NETNSA_FD, U32.pack(fd))
    return request(RTM_NEWNSID, body + attribute(NETNSA_NSID, S32.pack(NETNSA_NSID_NOT_ASSIGNED)))


def get_nsid(fd: int, *, target: int | None = None) -> bytes:
    """Return a request for the id of namespace ``fd`` in the agent's, or in the one whose id in that is ``target``."""
    body = RTGEN + attribute(NETNSA_FD, U32.pack(fd))
    return request(RTM_GETNSID, body if target is None else body + attribute(NETNSA_TARGET_NSID, S32.pack(target)))


def dump_nsids(target: int) -> bytes:
    """Return a request for all ids in the namespace whose id is ``target``, each with the id in the agent's."""
    return request(RTM_GETNSID, RTGEN + attribute(NETNSA_TARGET_NSID, S32.pack(target)), flags=NLM_F_DUMP)


def get_route(destination: IPv4Address | IPv6Address) -> bytes:
    """Return a request for the route to an address."""
    family = AF_INET if isinstance(destination, IPv4Address) else AF_INET6
    body = ROUTE.pack(family, destination.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return request(RTM_GETROUTE, body + attribute(RTA_DST, destination.packed))


def dump_routes(family: int, kind: int) -> bytes:
    """Return a request for every route of a family (``AF_*``) and type (``RTN_*``) of a namespace."""
    return request(RTM_GETROUTE, ROUTE.pack(family, 0, 0, 0, 0, 0, 0, kind, 0), flags=NLM_F_DUMP)


def set_sequence(requests: bytearray, offset: int, sequence: int) -> None:
    """Give the request that begins at ``offset`` its sequence number, in place."""
    U32.pack_into(requests, offset + _SEQUENCE_OFFSET, sequence)


def _create_link(operation: CreateLink, fds: Mapping[NsId, int], ifindexes: Sequence[int], nsid: int | None) -> bytes:
    def body(end: LinkEnd, ifindex: int) -> bytes:
        body = IFINFO.pack(0, 0, ifindex, 0, 0) + string(IFLA_IFNAME, end.host_name)
        body += attribute(IFLA_NET_NS_FD, U32.pack(_fd(end.namespace, fds)))
        body += attribute(IFLA_GROUP, U32.pack(operation.group))
        if end.mac:
            body += attribute(IFLA_ADDRESS, _mac(end.mac))
        return body + attribute(IFLA_MTU, U32.pack(end.mtu)) if end.mtu else body

    near, *far = map(body, operation.ends, ifindexes or repeat(0))
    info = string(IFLA_INFO_KIND, operation.kind)
    driver = driver_of(operation.kind)
    data = driver.creation_data(far) + driver.settings.encode(operation.data)
    if operation.lower is not None:
        ifindex = U32.pack(operation.lower.ifindex)
        if driver.lower_attributes:
            data += attribute(driver.lower_attributes[0], ifindex)
        else:
            near += attribute(IFLA_LINK, ifindex)
        if nsid is not None:
            near += attribute(IFLA_LINK_NETNSID, S32.pack(nsid))
    if data:
        info += nested(IFLA_INFO_DATA, data)
    if operation.master:
        near += attribute(IFLA_MASTER, U32.pack(operation.master))
    return request(RTM_NEWLINK, near + nested(IFLA_LINKINFO, info), flags=NLM_F_CREATE | NLM_F_EXCL)


def _change_link(operation: ChangeLink) -> bytes:
    driver = driver_of(operation.kind)
    data = driver.settings.encode(operation.data, operation.before)
    if operation.sends_by is not None:
        data += attribute(driver.lower_attributes[0], U32.pack(operation.sends_by))
    body = IFINFO.pack(0, 0, _ifindex(operation.target), 0, 0)
    if operation.mtu is not None:
        body += attribute(IFLA_MTU, U32.pack(operation.mtu))
    info = string(IFLA_INFO_KIND, operation.kind) + nested(IFLA_INFO_DATA, data)
    return request(RTM_NEWLINK, body + nested(IFLA_LINKINFO, info))


def _set_port(operation: SetPort) -> tuple[bytes, ...]:
    ifindex, messages = _ifindex(operation.target), list[bytes]()
    if settings := tuple(each for each in operation.data if each[0] != "vlans"):
        info = string(IFLA_INFO_SLAVE_KIND, operation.kind)
        info += nested(IFLA_INFO_SLAVE_DATA, driver_of(operation.kind).port_settings.encode(settings))
        messages.append(request(RTM_NEWLINK, IFINFO.pack(0, 0, ifindex, 0, 0) + nested(IFLA_LINKINFO, info)))
    vlans = dict(operation.data).get("vlans")
    return (*messages, *(set_port_vlans(ifindex, vlans) if isinstance(vlans, tuple) else ()))


def _set_link(operation: SetLink) -> bytes:
    flags = IFF_UP if operation.up else 0
    change = 0 if operation.up is None else IFF_UP
    body = IFINFO.pack(0, 0, _ifindex(operation.target), flags, change)
    if operation.host_name is not None:
        body += string(IFLA_IFNAME, operation.host_name)
    if operation.mac is not None:
        body += attribute(IFLA_ADDRESS, _mac(operation.mac))
    if operation.mtu is not None:
        body += attribute(IFLA_MTU, U32.pack(operation.mtu))
    if operation.alias is not None:
        body += attribute(IFLA_IFALIAS, operation.alias.encode())  # an empty one removes the alias
    if operation.group is not None:
        body += attribute(IFLA_GROUP, U32.pack(operation.group))
    if operation.master is not None:
        body += attribute(IFLA_MASTER, U32.pack(operation.master))
    return request(RTM_NEWLINK, body)


def _address(target: Target, address: IPInterface, peer: IPv4Address | IPv6Address | None = None) -> bytes:
    """Return the body that adds or deletes an address: no broadcast address, the scope as ``ip address`` chooses it."""
    family = AF_INET if isinstance(address, IPv4Interface) else AF_INET6
    body = IFADDR.pack(family, address.network.prefixlen, 0, usual_scope(address), _ifindex(target))
    return body + attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, (peer or address).packed)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ifindex(target: Target) -> int:
    if not target.ifindex:
        raise AgentBug(f"{target} has no ifindex yet")
    return target.ifindex


def _fd(place: Place, fds: Mapping[NsId, int]) -> int:
    fd = fds.get(place) if isinstance(place, int) else None
    if fd is None:
        raise AgentBug(f"namespace {place} is not attached")
    return fd
