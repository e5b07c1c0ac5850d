"""Checksum offloading and speed of links, by the ``SIOCETHTOOL`` requests of ``linux/ethtool.h``.

rtnetlink does not tell of it: it says that something about a link has changed, and this has to be asked. Any socket
will do; the request is carried out in its namespace. Requests name links by name, so that is asked for first.
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

VETH_SPEED: Final = Speed(10_000_000_000, Duplex.FULL)
"""What the driver says of every veth; nothing changes it, so it need not be asked for."""

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
    """Return which directions of a link's checksums are left to be computed later. Raises ``OSError``."""
    name = _name(fd, ifindex)
    return Checksums(rx=bool(_ask(fd, name, ETHTOOL_GRXCSUM)), tx=bool(_ask(fd, name, ETHTOOL_GTXCSUM)))


def set_checksums(fd: int, ifindex: int, checksums: Checksums) -> None:
    """Switch them on or off. Raises ``OSError``; one direction may be switched by then."""
    name = _name(fd, ifindex)
    _ask(fd, name, ETHTOOL_SRXCSUM, checksums.rx)
    _ask(fd, name, ETHTOOL_STXCSUM, checksums.tx)


def get_speed(fd: int, ifindex: int) -> Speed:
    """Return how fast a link says it is. Raises ``OSError`` where its driver has no word for that."""
    name = _name(fd, ifindex)
    # Asked without masks, the kernel says how many words they have, less than zero, and nothing else.
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
    """Return the name of a link, with which the next request has to be made before it is renamed."""
    answer = fcntl.ioctl(fd, SIOCGIFNAME, _BY_INDEX.pack(b"", ifindex))
    return bytes(_BY_INDEX.unpack(answer)[0])


def _ask(fd: int, name: bytes, request: int, value: int = 0) -> int:
    buffer = ctypes.create_string_buffer(_VALUE.pack(request, value), _VALUE.size)
    fcntl.ioctl(fd, SIOCETHTOOL, _BY_NAME.pack(name, ctypes.addressof(buffer)))
    return int(_VALUE.unpack(buffer.raw)[1])
