"""Which network namespace a path leads to: every namespace is a file of the kernel's own file system, nsfs."""

from __future__ import annotations

import os
from fcntl import ioctl
from pathlib import Path
from typing import Final

from ifagent.core.link import NsId

OWN_NAMESPACE_PATH: Final = "/proc/self/ns/net"
"""The namespace of the process, as its main thread has it."""

_NS_GET_NSTYPE: Final = 0xB703
_CLONE_NEWNET: Final = 0x4000_0000


def own_namespace() -> NsId:
    """Return the network namespace of the process."""
    fd = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return NsId(os.fstat(fd).st_ino)
    finally:
        os.close(fd)


def identify(path: str) -> NsId | None:
    """Return the network namespace that a path leads to, ``None`` if it leads to something else or nowhere."""
    try:
        # Opening is for nsfs files only: opening any other file may block, or have effects.
        if Path(path).stat().st_dev != Path(OWN_NAMESPACE_PATH).stat().st_dev:
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return NsId(os.fstat(fd).st_ino) if _is_network_namespace(fd) else None
    except OSError:
        return None
    finally:
        os.close(fd)


def _is_network_namespace(fd: int) -> bool:
    """Tell whether an open nsfs file is a network namespace, not one of another type."""
    return ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
