"""Numbers and structures of rtnetlink, by the names that the kernel's headers give them.

From ``linux/netlink.h``, ``linux/rtnetlink.h``, ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/veth.h`` and
``linux/net_namespace.h``. Numbers are in the machine's byte order, addresses in network order.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNSID: Final = 88
RTM_DELNSID: Final = 89
RTM_GETNSID: Final = 90
RTM_NEWSTATS: Final = 92
RTM_GETSTATS: Final = 94
RTM_DELLINKPROP: Final = 109

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSGERR_ATTR_MSG: Final = 1
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

AF_INET: Final = 2
AF_BRIDGE: Final = 7
AF_INET6: Final = 10
IFF_UP: Final = 0x1

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_WIRELESS: Final = 11
IFLA_OPERSTATE: Final = 16
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_CARRIER: Final = 33
IFLA_LINK_NETNSID: Final = 37
IFLA_MIN_MTU: Final = 50
IFLA_MAX_MTU: Final = 51
IFLA_PROP_LIST: Final = 52
IFLA_ALT_IFNAME: Final = 53
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
RTEXT_FILTER_BRVLAN_COMPRESSED: Final = 0x4
RTEXT_FILTER_SKIP_STATS: Final = 0x8
IFLA_INET_CONF: Final = 1
IPV4_DEVCONF_PROMOTE_SECONDARIES: Final = 20

IFLA_STATS_LINK_64: Final = 1

RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_MULTIPATH: Final = 9
RTA_VIA: Final = 18
RTPROT_KERNEL: Final = 2
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RTN_ANYCAST: Final = 4
RTN_BLACKHOLE: Final = 6
RTN_UNREACHABLE: Final = 7
RTN_PROHIBIT: Final = 8

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_CACHEINFO: Final = 6
IFA_FLAGS: Final = 8
IFA_RT_PRIORITY: Final = 9
IFA_PROTO: Final = 11
IFA_F_SECONDARY: Final = 0x01
IFA_F_TEMPORARY: Final = 0x01
IFA_F_PERMANENT: Final = 0x80
IFA_F_MANAGETEMPADDR: Final = 0x100

NETNSA_NSID: Final = 1
NETNSA_FD: Final = 3
NETNSA_TARGET_NSID: Final = 4
NETNSA_CURRENT_NSID: Final = 5
NETNSA_NSID_NOT_ASSIGNED: Final = -1

HEADER: Final = Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, sequence, port."""

IFINFO: Final = Struct("=BxHiII")
"""``struct ifinfomsg``: family, hardware type, ifindex, flags, which flags change."""

IFADDR: Final = Struct("=BBBBi")
"""``struct ifaddrmsg``: family, prefix length, flags, scope, ifindex."""

NEXT_HOP: Final = Struct("=HBBi")
"""``struct rtnexthop``: length, flags, weight less one, ifindex."""

ROUTE: Final = Struct("=BBBBBBBBI")
"""``struct rtmsg``: family, prefix lengths of destination and source, TOS, table, protocol, scope, type, flags."""

IFA_LIFETIMES: Final = Struct("=II")
"""What ``struct ifa_cacheinfo`` begins with: the preferred and the valid lifetime in seconds."""

INFINITY_LIFE_TIME: Final = 0xFFFFFFFF

IFSTATS: Final = Struct("=BxxxII")
"""``struct if_stats_msg``: family, ifindex, which statistics as bits."""

LINK_STATS: Final = Struct("=8Q")
"""What ``struct rtnl_link_stats64`` begins with: packets, bytes, errors, drops, each received and sent."""

RTGEN: Final = bytes(4)
"""``struct rtgenmsg`` without a family, padded."""

ATTRIBUTE: Final = Struct("=HH")
"""``struct nlattr``: length with this header and without padding, type."""

U32: Final = Struct("=I")
S32: Final = Struct("=i")
