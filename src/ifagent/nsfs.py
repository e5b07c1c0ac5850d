"""Which network namespace a path leads to, and the one safe way to enter it.

Every namespace is a file of the kernel's own file system, nsfs. A thread that enters a namespace does nothing else
until it has returned. If it cannot return, it would continue in the wrong namespace, so the process aborts.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from functools import cache
from pathlib import Path
from typing import Final

from ifagent.core.link import NsId

OWN_NAMESPACE_PATH: Final = "/proc/self/ns/net"
"""The namespace of the process, as its main thread has it."""

THREAD_NAMESPACE_PATH: Final = "/proc/thread-self/ns/net"
_NS_GET_USERNS: Final = 0xB701
_NS_GET_NSTYPE: Final = 0xB703
_CLONE_NEWNET: Final = 0x4000_0000


NOWHERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ESRCH, errno.ENXIO, errno.ENAMETOOLONG}
)
"""What the kernel says of a path that leads nowhere one may go. Anything else leaves the question open."""


def own_namespace() -> NsId:
    """Return the network namespace of the process."""
    fd = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return NsId(os.fstat(fd).st_ino)
    finally:
        os.close(fd)


def owns_netns() -> bool:
    """Tell whether the user namespace of the process owns its network namespace.

    If it belongs to one above instead, capabilities of the process do not count in it.
    """
    fd = os.open(OWN_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(ioctl(fd, _NS_GET_USERNS))
    except PermissionError:
        return False
    finally:
        os.close(fd)
    return True


def identify(path: str) -> NsId | None:
    """Return the network namespace that a path leads to, ``None`` if it leads to something else or nowhere.

    Raises ``OSError`` where that cannot be determined, as when the process may open no more files.
    """
    try:
        return namespace_at(path)
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return None


def namespace_at(path: str) -> NsId | None:
    """Return the network namespace that a path leads to, ``None`` if it leads to something else.

    Raises ``OSError`` if it leads nowhere, or to a namespace that may not be opened. Waits for the file systems on the
    way: paths that others chose are walked by :mod:`ifagent.filesystem.walk` instead.
    """
    opened = open_namespace_at(path)
    if opened is None:
        return None
    os.close(opened[1])
    return opened[0]


def open_namespace_at(path: str) -> tuple[NsId, int] | None:
    """Return the network namespace that a path leads to and its open file; else as :func:`namespace_at`."""
    # Without opening it at first: it may be anything, and what is looked at is then what is opened.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return open_namespace_of(place)
    finally:
        os.close(place)


def open_namespace_of(place: int) -> tuple[NsId, int] | None:
    """Return the network namespace that an ``O_PATH`` descriptor stands for and its open file, ``None`` for others.

    Raises ``OSError`` for a namespace that may not be opened. Never waits, unless for a file system to say what is
    there.
    """
    # Opening is for nsfs files only: opening any other file may block, or have effects.
    if os.fstat(place).st_dev != namespace_device():
        return None
    fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _is_network_namespace(fd):
            return NsId(os.fstat(fd).st_ino), fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def open_thread_namespace() -> int:
    """Open the calling thread's network namespace. Raises ``OSError``."""
    return os.open(THREAD_NAMESPACE_PATH, os.O_RDONLY | os.O_CLOEXEC)


def open_from_inside(namespace: int) -> int:
    """Return another open file of a network namespace, one that holds no mount; in a worker thread.

    A file that was opened at a mount point prevents unmounting that. Raises ``OSError``.
    """
    home = open_thread_namespace()
    try:
        with in_netns(namespace, home=home):
            return open_thread_namespace()
    finally:
        os.close(home)


@contextmanager
def in_netns(namespace: int, *, home: int) -> Iterator[None]:
    """Move the calling thread to the namespace of the open file ``namespace``, and back to ``home``.

    Raises ``OSError`` if it may not be entered.
    """
    _set_netns(namespace)
    try:
        yield
    finally:
        return_home(home)


@contextmanager
def in_netns_at(path: str) -> Iterator[None]:
    """Move the calling thread to the network namespace at ``path``, and back. Raises ``OSError``."""
    with ExitStack() as opened:
        home = open_thread_namespace()
        opened.callback(os.close, home)
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, namespace)
        with in_netns(namespace, home=home):
            yield


def return_home(home: int) -> None:
    """Move the calling thread back to the namespace of the open file ``home``, or abort the process."""
    try:
        _set_netns(home)
    except OSError as error:
        os.write(2, f"ifagent: cannot return to the own network namespace: {error}\n".encode())
        os.abort()


def _is_network_namespace(fd: int) -> bool:
    """Tell whether an open nsfs file is a network namespace, not one of another type."""
    return ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET


@cache
def namespace_device() -> int:
    """Return the device number of nsfs; there is one, as long as the kernel runs."""
    return Path(OWN_NAMESPACE_PATH).stat().st_dev


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _set_netns(namespace: int) -> None:
    # os.setns exists from Python 3.12.
    if _libc().setns(ctypes.c_int(namespace), ctypes.c_int(_CLONE_NEWNET)):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
