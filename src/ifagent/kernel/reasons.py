"""Why the kernel refused an address, where it does not say so itself: before Linux 6.3 it gives a number only."""

from __future__ import annotations

import errno

from ifagent.core.operations import AddAddress, DeleteAddress, Operation

_REASONS: dict[tuple[type[Operation], int, int], str] = {
    (AddAddress, 6, errno.EACCES): "ipv6: IPv6 is disabled on this device",
    (AddAddress, 6, errno.EADDRNOTAVAIL): "ipv6: Invalid address",
    (AddAddress, 6, errno.EEXIST): "ipv6: address already assigned",
    (AddAddress, 4, errno.EEXIST): "ipv4: Address already assigned",
    (DeleteAddress, 6, errno.EADDRNOTAVAIL): "ipv6: address not found",
    (DeleteAddress, 4, errno.EADDRNOTAVAIL): "ipv4: Address not found",
}
"""By operation, version of IP and errno, in the words of later kernels."""


def reason(operation: Operation, number: int) -> str:
    """Return why an operation was refused with this errno, empty where only its name says why."""
    match operation:
        case AddAddress(address=address) | DeleteAddress(address=address):
            return _REASONS.get((type(operation), address.version, number), "")
        case _:
            return ""
