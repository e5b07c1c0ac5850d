"""Renaming a link that is up, on a kernel that renames only links that are down (before Linux 6.2).

There the link is set down for a moment. What that removes is restored at once: being up, and the IPv6 addresses, which
are deleted when a link goes down. Other programs' routes over the link are lost, as after any ``ip link set down``.
"""

from __future__ import annotations

import errno

from ifagent.core.operation import Operation
from ifagent.core.operations import MoveLink, SetLink
from ifagent.kernel.messages import parse_address, parse_link
from ifagent.kernel.netlink import Ack
from ifagent.kernel.requests import dump_ipv6_addresses, get_link, restore_address, set_up
from ifagent.kernel.rtnetlink import IFA_F_SECONDARY
from ifagent.kernel.sockets import RequestSocket


def needs_link_down(operation: Operation, ack: Ack) -> bool:
    """Tell whether an operation was refused because its link cannot be renamed while it is up."""
    match operation:
        case SetLink(host_name=str()):
            return ack.errno == errno.EBUSY
        case MoveLink(target=target, to=to):
            return ack.errno == errno.EBUSY and to == target.namespace
        case _:
            return False


def rename_while_down(socket: RequestSocket, ifindex: int, request: bytes, *, up: bool | None = None) -> Ack:
    """Repeat a request with the link down, and set the link up again if it was up, unless ``up`` is False.

    Return the answer to the request, or to setting the link up if that is what failed. Raises ``OSError``.
    """
    link = parse_link(*socket.ask(get_link(ifindex)))
    if link is None or not link.up:
        return Ack(errno.EBUSY, "")
    if up is False:
        _, ack = socket.request([set_up(ifindex, up=False), request])
        return ack
    # A temporary address (IFA_F_TEMPORARY is the same bit) is made again by the kernel, as are all of its own.
    lost = [
        data[message.start : message.end]
        for data, message in socket.dump(dump_ipv6_addresses(ifindex))
        if (found := parse_address(data, message)) and found.ifindex == ifindex
        if not (found.address.made_by_kernel or found.address.flags & IFA_F_SECONDARY)
    ]
    # They are listed with the newest first, and each one added is the newest.
    back = [restore_address(body) for body in reversed(lost)]
    _, ack, set_up_again, *_ = socket.request([set_up(ifindex, up=False), request, set_up(ifindex, up=True), *back])
    return ack if ack.errno else set_up_again
