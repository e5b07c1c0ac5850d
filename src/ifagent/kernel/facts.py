"""What differs between kernels and cannot be told by their version, because distributions port changes back.

Found out by trying, in a network namespace without a name that ends at once.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv6Interface

from ifagent.core.interface import HostName
from ifagent.core.link import LOOPBACK_IFINDEX, NsId
from ifagent.core.operations import AddAddress, SetLink, Target
from ifagent.kernel.messages import parse_address
from ifagent.kernel.requests import dump_addresses, encode
from ifagent.kernel.sockets import RequestSocket
from ifagent.kernel.syscalls import inside_new

_FIRST, _SECOND = IPv6Interface("2001:db8::1/128"), IPv6Interface("2001:db8::2/128")


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """``newest_first``: how IPv6 addresses are listed. ``tells_maker``: addresses carry ``IFA_PROTO``."""

    newest_first: bool = True
    tells_maker: bool = True


def find_facts(*, home: int) -> KernelFacts:
    """Try this kernel, from a worker thread; ``home`` is a file of the agent's namespace.

    Where IPv6 is off, or new namespaces are forbidden, the answers are those of most kernels.
    """
    try:
        with inside_new(home=home), closing(RequestSocket()) as socket:
            loopback = Target(NsId(0), HostName("lo"), LOOPBACK_IFINDEX)
            requests = (SetLink(target=loopback, up=True), AddAddress(loopback, _FIRST), AddAddress(loopback, _SECOND))
            socket.request([encode(operation, fds={}) for operation in requests])
            listed = [parse_address(data, message) for data, message in socket.dump(dump_addresses())]
    except OSError:
        return KernelFacts()
    addresses = [message.address for message in listed if message]
    order = [address.interface for address in addresses if address.interface in {_FIRST, _SECOND}]
    # lo has got its own addresses by being set up.
    tells = any(address.made_by_kernel for address in addresses) or not addresses
    return KernelFacts(newest_first=order != [_FIRST, _SECOND], tells_maker=tells)
