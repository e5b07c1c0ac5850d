"""Kernel features that the version number does not tell, because distributions backport changes.

They are probed in an unnamed network namespace that is gone afterwards.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv6Interface

from ifagent.core.link import LOOPBACK_IFINDEX, NsId
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import AddAddress, SetLink
from ifagent.kernel.messages import parse_address
from ifagent.kernel.requests import dump_addresses, encode
from ifagent.kernel.sockets import RequestSocket
from ifagent.kernel.syscalls import in_new_netns

_FIRST, _SECOND = IPv6Interface("2001:db8::1/128"), IPv6Interface("2001:db8::2/128")


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """``newest_first``: how IPv6 addresses are listed. ``has_ifa_proto``: addresses carry ``IFA_PROTO``."""

    newest_first: bool = True
    has_ifa_proto: bool = True


def probe(*, home: int) -> KernelFeatures:
    """Probe this kernel, in a worker thread; ``home`` is an open file of the agent's namespace.

    Where IPv6 is disabled or new namespaces are forbidden, the defaults are assumed.
    """
    try:
        with in_new_netns(home=home), closing(RequestSocket()) as socket:
            loopback = Target(NsId(0), HostName("lo"), LOOPBACK_IFINDEX)
            requests = (SetLink(target=loopback, up=True), AddAddress(loopback, _FIRST), AddAddress(loopback, _SECOND))
            socket.request([encode(operation, fds={}) for operation in requests])
            listed = [parse_address(data, message) for data, message in socket.dump(dump_addresses())]
    except OSError:
        return KernelFeatures()
    addresses = [message.address for message in listed if message]
    order = [address.interface for address in addresses if address.interface in {_FIRST, _SECOND}]
    # Setting lo up gave it addresses that the kernel made.
    has_ifa_proto = any(address.made_by_kernel for address in addresses) or not addresses
    return KernelFeatures(newest_first=order != [_FIRST, _SECOND], has_ifa_proto=has_ifa_proto)
