"""Checksum offloading and speed of links, by the ``SIOCETHTOOL`` requests of ``linux/ethtool.h``.

rtnetlink does not contain them: it notifies that something about a link has changed, and these have to be queried. Any
socket will do; the request is executed in its namespace. Requests refer to links by name, so that is queried first.
"""

from __future__ import annotations

import ctypes
import fcntl
from struct import Struct
from typing import Final

from ifagent.core.link import Checksums, Duplex, Speed

SIOCGIFNAME: Final = 0x8910
SIOCETHTOOL: Final = 0x8946
ETHTOOL_GRXCSUM: Final = 0x14
ETHTOOL_SRXCSUM: Final = 0x15
ETHTOOL_GTXCSUM: Final = 0x16
ETHTOOL_STXCSUM: Final = 0x17
ETHTOOL_GLINKSETTINGS: Final = 0x4C

_VALUE: Final = Struct("=II")
"""``struct ethtool_value``: request, value."""
_SETTINGS: Final = Struct("=IIB6xb32x")
"""``struct ethtool_link_settings``: request, speed in Mbit/s, duplex, words in each mask of link modes, of which three
follow."""

_DUPLEX: Final = {0: Duplex.HALF, 1: Duplex.FULL}
_SPEED_UNKNOWN: Final = 0xFFFF_FFFF

_BY_INDEX: Final = Struct("=16si20x")
_BY_NAME: Final = Struct("@16sP16x")
"""``struct ifreq`` with an ifindex, and with a pointer."""


def get_checksums(fd: int, ifindex: int) -> Checksums:
    """Return in which directions a link offloads checksums. Raises ``OSError``."""
    name = _name(fd, ifindex)
    return Checksums(rx=bool(_request(fd, name, ETHTOOL_GRXCSUM)), tx=bool(_request(fd, name, ETHTOOL_GTXCSUM)))


def set_checksums(fd: int, ifindex: int, checksums: Checksums) -> None:
    """Switch checksum offloading on or off. Raises ``OSError``; one direction may be switched by then."""
    name = _name(fd, ifindex)
    _request(fd, name, ETHTOOL_SRXCSUM, checksums.rx)
    _request(fd, name, ETHTOOL_STXCSUM, checksums.tx)


def get_speed(fd: int, ifindex: int) -> Speed:
    """Return the speed that a link reports. Raises ``OSError`` where its driver does not support that."""
    name = _name(fd, ifindex)
    # Queried without masks, the kernel returns their number of words, negated, and nothing else.
    _, _, words = _settings(fd, name, 0)
    megabits, duplex, _ = _settings(fd, name, -words)
    bits = 0 if megabits == _SPEED_UNKNOWN else megabits * 1_000_000
    return Speed(bits, _DUPLEX.get(duplex, Duplex.UNKNOWN))


def _settings(fd: int, name: bytes, words: int) -> tuple[int, int, int]:
    """Return speed, duplex and the number of words."""
    buffer = ctypes.create_string_buffer(
        _SETTINGS.pack(ETHTOOL_GLINKSETTINGS, 0, 0, words), _SETTINGS.size + 3 * 4 * max(words, 0)
    )
    fcntl.ioctl(fd, SIOCETHTOOL, _BY_NAME.pack(name, ctypes.addressof(buffer)))
    _, megabits, duplex, words = _SETTINGS.unpack_from(buffer.raw)
    return megabits, duplex, words


def _name(fd: int, ifindex: int) -> bytes:
    """Return the name of a link, to be used before the link is renamed."""
    answer = fcntl.ioctl(fd, SIOCGIFNAME, _BY_INDEX.pack(b"", ifindex))
    return bytes(_BY_INDEX.unpack(answer)[0])


def _request(fd: int, name: bytes, request: int, value: int = 0) -> int:
    buffer = ctypes.create_string_buffer(_VALUE.pack(request, value), _VALUE.size)
    fcntl.ioctl(fd, SIOCETHTOOL, _BY_NAME.pack(name, ctypes.addressof(buffer)))
    return int(_VALUE.unpack(buffer.raw)[1])
