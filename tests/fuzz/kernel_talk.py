"""What the kernel says, where it only hands on what others chose: names, aliases, addresses; see :mod:`fuzz.targets`.

Whoever is root in a container can do with the links there what he likes, and the agent listens.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_interface

from ifagent.core.desired import Desired
from ifagent.core.drift import DriftHistory
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, Existing, Loopback, Veth
from ifagent.core.link import Link, NsId, OperState
from ifagent.core.namespace_ref import named
from ifagent.core.observed import Observed
from ifagent.core.operation import Operation
from ifagent.core.operations import CreateNamespace, RemoveNamespace, SetChecksums
from ifagent.core.ownership import Owner
from ifagent.core.plan import Verdict
from ifagent.core.planner import plan
from ifagent.core.report import Beside, Findings, build_state
from ifagent.core.resources import interface_key
from ifagent.errors import AgentBug
from ifagent.formats.state import MAX_STATE_BYTES, encode_state_json
from ifagent.kernel.attributes import MalformedMessage
from ifagent.kernel.link_cache import LinkCache, NamespaceDump, Notification
from ifagent.kernel.messages import (
    AddressMessage,
    LinkMessage,
    parse_address,
    parse_counters,
    parse_link,
    parse_nsid,
    parse_route,
)
from ifagent.kernel.netlink import Message, parse_ack, split
from ifagent.kernel.requests import encode_all
from ifagent.kernel.rtnetlink import (
    AF_INET,
    AF_INET6,
    ATTRIBUTE,
    HEADER,
    IFA_ADDRESS,
    IFA_FLAGS,
    IFA_LOCAL,
    IFADDR,
    IFF_UP,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MTU,
    IFLA_OPERSTATE,
    IFLA_STATS_LINK_64,
    IFSTATS,
    NETNSA_CURRENT_NSID,
    NETNSA_NSID,
    NLM_F_ACK_TLVS,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNSID,
    RTM_NEWSTATS,
)
from ifagent.watchers.process_connector import named_pids

# Messages by themselves


def check_netlink(data: bytes) -> None:
    """A datagram, each message read as everything that it could be."""
    with suppress(MalformedMessage):
        for message in split(data):
            assert 0 <= message.start <= message.end <= len(data)
            for parse in (parse_link, parse_address, parse_counters, parse_nsid, parse_route, parse_ack):
                with suppress(MalformedMessage):
                    _check_said(parse(data, message))


def _check_said(said: object) -> None:
    repr(said).encode()
    if isinstance(said, LinkMessage):
        assert said.host_name


def check_process_news(data: bytes) -> None:
    """A message of the process connector."""
    assert all(0 <= pid < 2**32 for pid in named_pids(data))


def samples_process_news() -> Sequence[bytes]:
    head = struct.pack("=IHHII", 76, 3, 0, 0, 0) + struct.pack("=IIIIHH", 1, 1, 0, 0, 40, 0)
    return [head + struct.pack("=IIQ", what, 0, 1) + struct.pack("=IIII", 10, 10, 11, 11) for what in (1, 2, 4)]


# Messages and what the agent would do about them

OWNER = Owner("fuzz", b"seed")
OWN, THERE = NsId(101), NsId(102)
INTERFACES = {
    interface.name: interface
    for interface in (
        Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True, ip_addresses=(ip_interface("10.0.0.1/24"),)),
        Interface(name="b", kind=Veth(peer_if_name="a"), namespace=named("there"), host_if_name="b0", mtu=1400),
        Interface(name="t", kind=AutoTap(temp_if_name="made"), namespace=named("there")),
        Interface(name="e", kind=Existing(), namespace=named("there"), ip_addresses=(ip_interface("10.0.0.5/24"),)),
        Interface(name="l", kind=Loopback(), namespace=named("there"), enabled=True),
        Interface(name="u", kind=AutoTap(), phys_address="02:00:00:00:00:07"),
    )
}


def check_plan(data: bytes) -> None:
    """A datagram about links of both namespaces, odd sequence numbers for the other one; planned, encoded, told."""
    cache = LinkCache(lambda _, nsid: {0: OWN, 1: THERE}.get(nsid), newest_first=True)
    for namespace in (OWN, THERE):
        cache.replace(namespace, NamespaceDump.of([], []), ())
    try:
        messages = split(data)
    except MalformedMessage:
        return
    links: dict[NsId, dict[int, Link]] = {OWN: {}, THERE: {}}
    for message in messages:
        with suppress(MalformedMessage):
            _take(cache, data, message)
        for seen in cache.changed():
            if seen.link is None:
                links[seen.id.namespace].pop(seen.id.ifindex, None)
            else:
                links[seen.id.namespace][seen.id.ifindex] = seen.link
    observed = Observed(OWN, {named("there"): THERE}, links)
    planned = plan(Desired(INTERFACES), observed, OWNER)
    for operation in planned.steps:
        _check_operation(operation)
    assert sum(map(len, planned.waves())) == len(planned.steps)
    for name, interface in INTERFACES.items():
        _check_report(interface, planned.verdicts.get(interface_key(name), Verdict()), observed)


def _take(cache: LinkCache, data: bytes, message: Message) -> None:
    said: LinkMessage | AddressMessage | None = None
    if message.type in {RTM_NEWLINK, RTM_DELLINK}:
        said = parse_link(data, message)
    elif message.type in {RTM_NEWADDR, RTM_DELADDR}:
        said = parse_address(data, message)
    if said is not None:
        gone = message.type in {RTM_DELLINK, RTM_DELADDR}
        cache.apply((OWN, THERE)[message.sequence & 1], Notification(said, gone=gone))


def _check_operation(operation: Operation) -> None:
    str(operation).encode()
    if isinstance(operation, CreateNamespace | RemoveNamespace | SetChecksums):
        return
    with suppress(AgentBug):  # what it is about is made by an operation before it
        encode_all(operation, fds={OWN: 3, THERE: 4})


def _check_report(interface: Interface, verdict: Verdict, observed: Observed) -> None:
    link = observed.link(verdict.link)
    findings = Findings(
        key=interface_key(interface.name),
        declaration=Declaration.of(interface),
        interface=interface,
        verdict=verdict,
        link=link,
        beside=Beside.of(link, observed),
        namespace_id=None,
        refusals=(),
        drift=DriftHistory(),
    )
    assert len(encode_state_json(build_state(findings, None, now=0.0, clock=0.0))) <= MAX_STATE_BYTES


# Samples


def attribute(kind: int, payload: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(kind: int, body: bytes, *, sequence: int = 0, flags: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def link_message(
    ifindex: int,
    name: str,
    kind: str,
    *,
    alias: str = "",
    sequence: int = 0,
    group: int = 0,
    peer: tuple[int, int] | None = None,
) -> bytes:
    number = struct.Struct("=I").pack
    body = IFINFO.pack(0, 1, ifindex, IFF_UP, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
    body += attribute(IFLA_ADDRESS, bytes.fromhex("020000000001")) + attribute(IFLA_MTU, number(1500))
    body += attribute(IFLA_OPERSTATE, bytes([OperState.UP])) + attribute(IFLA_GROUP, number(group))
    body += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode() + b"\0"))
    if alias:
        body += attribute(IFLA_IFALIAS, alias.encode())
    if peer:
        body += attribute(IFLA_LINK, number(peer[0])) + attribute(IFLA_LINK_NETNSID, struct.pack("=i", peer[1]))
    return message(RTM_NEWLINK, body, sequence=sequence)


def address_message(ifindex: int, text: str, *, sequence: int = 0, flags: int = 0) -> bytes:
    address = ip_interface(text)
    family = AF_INET if address.version == 4 else AF_INET6
    body = IFADDR.pack(family, address.network.prefixlen, 0, 0, ifindex)
    body += attribute(IFA_ADDRESS, address.packed) + attribute(IFA_LOCAL, address.packed)
    return message(RTM_NEWADDR, body + attribute(IFA_FLAGS, struct.pack("=I", flags)), sequence=sequence)


def _realised() -> Iterable[bytes]:
    """Yield both ends of the pair, and the adopted TAP, as they would be."""
    group = OWNER.group
    yield link_message(5, "a", "veth", alias=OWNER.alias("a"), group=group, peer=(6, 1))
    yield link_message(6, "b0", "veth", alias=OWNER.alias("b"), group=group, peer=(5, 0), sequence=1)
    yield address_message(5, "10.0.0.1/24")
    yield address_message(6, "2001:db8::1/64", sequence=1)
    alias = f"ifagent-tap/fuzz/made/02:00:00:00:00:09/1500/{'t'}"
    yield link_message(7, "t", "tun", alias=alias, sequence=1)


def samples_netlink() -> Sequence[bytes]:
    realised = list(_realised())
    given_back = link_message(8, "x", "tun", alias="ifagent-tap/fuzz/old/02:00:00:00:00:09/1400/gone", sequence=1)
    moved = link_message(7, "made", "tun")
    left_over = link_message(9, "left", "veth", alias=OWNER.alias("left"), group=OWNER.group, sequence=1)
    request = HEADER.pack(20, RTM_NEWLINK, 0, 1, 0)
    refused = struct.pack("=i", -22) + request + attribute(NLMSGERR_ATTR_MSG, b"no\0")
    ids = bytes(4) + attribute(NETNSA_NSID, struct.pack("=i", 3)) + attribute(NETNSA_CURRENT_NSID, struct.pack("=i", 0))
    loopback = link_message(1, "lo", "", alias=OWNER.configured_alias("l", OWNER.namespace_mark), sequence=1)
    theirs = link_message(11, "e", "bridge", alias=OWNER.configured_alias("e", "a%b/c"), sequence=1)
    gone = realised[0][:4] + struct.pack("=H", RTM_DELLINK) + realised[0][6:]
    return [
        b"".join(realised),
        *realised,
        given_back,
        moved + b"".join(realised[:4]),
        left_over + given_back,
        realised[0] + gone,
        loopback + address_message(1, "127.0.0.1/8", sequence=1) + theirs,
        message(NLMSG_ERROR, refused, flags=NLM_F_ACK_TLVS),
        message(RTM_NEWNSID, ids),
        message(RTM_NEWSTATS, IFSTATS.pack(0, 2, 1) + attribute(IFLA_STATS_LINK_64, bytes(200))),
    ]
