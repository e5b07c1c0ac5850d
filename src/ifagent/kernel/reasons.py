"""Why the kernel refused an operation, where its answer does not say.

It never says which link has a name that is taken, and before Linux 6.3 it refuses addresses with an errno only.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ifagent.core.link import NsId
from ifagent.core.names import HostName
from ifagent.core.operation import Operation
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress
from ifagent.kernel.messages import LinkMessage

_NO_KIND = "Unknown device type"
"""What the kernel says of a link whose kind it does not have, and has no module for."""

_REASONS: dict[tuple[type[Operation], int, int], str] = {
    (AddAddress, 6, errno.EACCES): "ipv6: IPv6 is disabled on this device",
    (AddAddress, 6, errno.EADDRNOTAVAIL): "ipv6: Invalid address",
    (AddAddress, 6, errno.EEXIST): "ipv6: address already assigned",
    (AddAddress, 4, errno.EEXIST): "ipv4: Address already assigned",
    (DeleteAddress, 6, errno.EADDRNOTAVAIL): "ipv6: address not found",
    (DeleteAddress, 4, errno.EADDRNOTAVAIL): "ipv4: Address not found",
}
"""By operation, version of IP and errno, in the words of later kernels."""


def reason(operation: Operation, number: int, text: str = "") -> str:
    """Return why an operation was refused with this errno; ``text`` is what the kernel says.

    Empty where only the errno says why.
    """
    match operation:
        case CreateLink(kind=kind) if number == errno.EOPNOTSUPP and text == _NO_KIND:
            return f"this kernel has no {kind} links"
        case _ if text:
            return text
        case AddAddress(address=address) | DeleteAddress(address=address):
            return _REASONS.get((type(operation), address.version, number), "")
        case _:
            return ""


def names_asked_for(operation: Operation) -> Iterator[tuple[NsId, HostName]]:
    """Yield the host names that an operation gives to links, and in which namespaces."""
    return ((NsId(place), name) for place, name in operation.names if isinstance(place, int))


def name_taken(name: HostName, link: LinkMessage) -> str:
    """Return which link has a name that is taken."""
    if link.host_name == name:
        return f"{name}, ifindex {link.ifindex}, is there"
    return f"{name} is another name of {link.host_name}, ifindex {link.ifindex}"
