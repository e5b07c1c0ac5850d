"""Checksum offloading of links, by the ``SIOCETHTOOL`` requests of ``linux/ethtool.h``.

rtnetlink does not tell of it: it says that something about a link has changed, and this has to be asked. Any socket
will do; the request is carried out in its namespace. Requests name links by name, so that is asked for first.
"""

from __future__ import annotations

import ctypes
import fcntl
from struct import Struct
from typing import Final

from ifagent.core.link import Checksums

SIOCGIFNAME: Final = 0x8910
SIOCETHTOOL: Final = 0x8946
ETHTOOL_GRXCSUM: Final = 0x14
ETHTOOL_SRXCSUM: Final = 0x15
ETHTOOL_GTXCSUM: Final = 0x16
ETHTOOL_STXCSUM: Final = 0x17

_VALUE: Final = Struct("=II")
"""``struct ethtool_value``: request, value."""
_BY_INDEX: Final = Struct("=16si20x")
_BY_NAME: Final = Struct("@16sP16x")
"""``struct ifreq`` with an ifindex, and with a pointer."""


def get_checksums(fd: int, ifindex: int) -> Checksums:
    """Return which directions of a link's checksums are left to be computed later. Raises ``OSError``."""
    name = _name(fd, ifindex)
    return Checksums(rx=bool(_ask(fd, name, ETHTOOL_GRXCSUM)), tx=bool(_ask(fd, name, ETHTOOL_GTXCSUM)))


def set_checksums(fd: int, ifindex: int, checksums: Checksums) -> None:
    """Switch them on or off. Raises ``OSError``; one direction may be switched by then."""
    name = _name(fd, ifindex)
    _ask(fd, name, ETHTOOL_SRXCSUM, checksums.rx)
    _ask(fd, name, ETHTOOL_STXCSUM, checksums.tx)


def _name(fd: int, ifindex: int) -> bytes:
    """Return the name of a link, with which the next request has to be made before it is renamed."""
    answer = fcntl.ioctl(fd, SIOCGIFNAME, _BY_INDEX.pack(b"", ifindex))
    return bytes(_BY_INDEX.unpack(answer)[0])


def _ask(fd: int, name: bytes, request: int, value: int = 0) -> int:
    buffer = ctypes.create_string_buffer(_VALUE.pack(request, value), _VALUE.size)
    fcntl.ioctl(fd, SIOCETHTOOL, _BY_NAME.pack(name, ctypes.addressof(buffer)))
    return int(_VALUE.unpack(buffer.raw)[1])
