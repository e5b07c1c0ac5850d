"""Makes and changes TAPs and TUNs: ``linux/if_tun.h``. rtnetlink only tells of them.

A device is in the namespace in which ``/dev/net/tun`` was opened, and goes when that file is closed, unless it was made
persistent. That is done last: a device of an agent that ends meanwhile goes with it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from fcntl import ioctl
from typing import Final

from ifagent.core.link import Scalar
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import ChangeLink, CreateLink, SetLink
from ifagent.errors import AgentBug
from ifagent.kernel.messages import LinkMessage, parse_link
from ifagent.kernel.netlink import Ack
from ifagent.kernel.requests import encode, get_link, get_link_called
from ifagent.kernel.sockets import RequestSocket

DEVICE: Final = "/dev/net/tun"

TUNSETIFF: Final = 0x4004_54CA
TUNSETPERSIST: Final = 0x4004_54CB
TUNSETOWNER: Final = 0x4004_54CC
TUNSETGROUP: Final = 0x4004_54CE

IFF_TUN: Final = 0x0001
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_TUN_EXCL: Final = 0x8000

_IFREQ: Final = struct.Struct("=16sH22x")
"""``struct ifreq`` with flags."""

OpenDevice = Callable[[], int]
"""Opens :data:`DEVICE` in the namespace that is meant, and returns the file. Raises ``OSError``."""


def open_device() -> int:
    """Open :data:`DEVICE` in the thread's namespace. Raises ``OSError``."""
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)


def create_device(socket: RequestSocket, operation: CreateLink, open_in_place: OpenDevice) -> Ack:
    """Make a TAP or TUN in the namespace of ``socket``; nothing is left where something is refused.

    Raises ``OSError``.
    """
    end, data = operation.ends[0], dict(operation.data)
    file = open_in_place()
    try:
        attach(file, end.host_name, flags_of(data) | IFF_TUN_EXCL)
        link = _asked(socket, get_link_called(end.host_name))
        if link is None or not isinstance(end.namespace, int):
            return Ack(errno.ENODEV, "")
        attributes = SetLink(
            target=Target(end.namespace, end.host_name, link.ifindex),
            mac=end.mac or None,
            mtu=end.mtu or None,
            group=operation.group,
            master=operation.master or None,
        )
        (ack,) = socket.request([encode(attributes, fds={})])
        if not ack.errno:
            _set(file, {name: value for name, value in data.items() if name != "persist"})
            _set(file, {"persist": True})
        return ack
    finally:
        os.close(file)


def change_device(socket: RequestSocket, operation: ChangeLink, open_in_place: OpenDevice) -> Ack:
    """Change what of a TAP or TUN can be changed. Raises ``OSError``."""
    link = _asked(socket, get_link(operation.target.ifindex or 0))
    if link is None:
        return Ack(errno.ENODEV, "")
    file = open_in_place()
    try:
        attach(file, link.host_name, flags_of(dict(link.data)))
        attached = _asked(socket, get_link_called(link.host_name))
        if attached is None or attached.ifindex != link.ifindex:  # somebody has renamed it meanwhile
            return Ack(errno.ENODEV, "")
        _set(file, dict(operation.data))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return Ack(errno.EBUSY, "a program has the device open; it can be changed once that has closed it")
    finally:
        os.close(file)
    return Ack(0, "")


def flags_of(data: dict[str, Scalar]) -> int:
    """Return the flags with which a device of these settings is made and opened."""
    flags = IFF_TAP if data.get("tun_type") == "tap" else IFF_TUN
    flags |= 0 if data.get("packet_info") else IFF_NO_PI
    flags |= IFF_VNET_HDR if data.get("vnet_hdr") else 0
    return flags | (IFF_MULTI_QUEUE if data.get("multi_queue") else 0)


def attach(file: int, name: HostName, flags: int) -> None:
    """Make the device of a file that was just opened, or attach the file to one. Raises ``OSError``."""
    ioctl(file, TUNSETIFF, _IFREQ.pack(name.encode(), flags))


def _set(file: int, data: dict[str, Scalar]) -> None:
    requests = {"owner": TUNSETOWNER, "group": TUNSETGROUP, "persist": TUNSETPERSIST}
    for name, value in data.items():
        if name in requests:
            if not isinstance(value, int):
                raise AgentBug(f"{name} {value!r} is no number")
            if value >= 0:
                # The same bits: Python takes no larger ones.
                ioctl(file, requests[name], int.from_bytes(value.to_bytes(4, "little"), "little", signed=True))


def _asked(socket: RequestSocket, request: bytes) -> LinkMessage | None:
    return parse_link(*socket.ask(request))
