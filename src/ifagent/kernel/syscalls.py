"""System calls for mounts and new network namespaces that Python 3.11 lacks."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from ifagent.nsfs import THREAD_NAMESPACE_PATH, return_home

CLONE_NEWNET: Final = 0x4000_0000
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SHARED: Final = 0x10_0000
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """Call a libc function that answers 0 for success; raise ``OSError`` with its errno otherwise."""
    if getattr(_libc(), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, *, flags: int) -> None:
    """``mount(2)`` without a file system type or data. Raises ``OSError``."""
    _call("mount", os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(flags), None)


def unmount(target: str) -> None:
    """Detach a mount at once, even while it is in use. Raises ``OSError``."""
    _call("umount2", os.fsencode(target), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW))


def mount_thread_namespace(target: str) -> None:
    """Bind-mount the calling thread's network namespace at ``target``."""
    mount(THREAD_NAMESPACE_PATH, target, flags=MS_BIND)


@contextmanager
def in_new_netns(*, home: int) -> Iterator[None]:
    """Move the calling thread to a new network namespace, and back to ``home``.

    The new namespace ends with the block unless something holds it, such as :func:`mount_thread_namespace`.
    """
    _call("unshare", ctypes.c_int(CLONE_NEWNET))
    try:
        yield
    finally:
        return_home(home)
