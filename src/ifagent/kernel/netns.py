"""Lists, creates and removes named network namespaces.

A named namespace is a file in a directory, ``/run/netns``, with the namespace mounted over it, as with ``ip netns``.
Listing never creates anything. What is created here can be told from what others created, at every instant:
the file under the mount is created with the agent's mark in it, and the namespace carries the mark as the alias
of its ``lo`` before it gets its name.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from ifagent.core.link import LOOPBACK_IFINDEX, NsId
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.requests import set_alias
from ifagent.kernel.sockets import RequestSocket
from ifagent.kernel.syscalls import (
    MS_BIND,
    MS_REC,
    MS_SHARED,
    in_new_netns,
    mount,
    mount_thread_namespace,
    unmount,
)
from ifagent.nsfs import NOWHERE, identify, open_namespace_at

_DIRECTORY_MODE: Final = 0o755
_FILE_MODE: Final = 0o444
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def open_namespace(namespace: NsId, path: str) -> int:
    """Open a namespace's file. Raises :class:`NamespaceUnavailable` if ``path`` does not lead to it."""
    try:
        opened = open_namespace_at(path)
    except OSError as error:
        raise NamespaceUnavailable(f"{path}: {error.strerror}") from error
    if opened is None:
        raise NamespaceUnavailable(f"{path} is not the network namespace {namespace}")
    found, fd = opened
    if found != namespace:
        os.close(fd)
        raise NamespaceUnavailable(f"{path} is not the network namespace {namespace}")
    return fd


def list_namespaces(directory: str) -> dict[NamespaceRef, tuple[NsId, str]]:
    """Return the named namespaces in a directory with their paths; none if there is no such directory.

    Raises ``OSError`` where that is not known, as when the process may open no more files.
    """
    try:
        paths = sorted(Path(directory).iterdir())
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return {}
    found = {}
    for path in paths:
        namespace = identify(str(path))
        if namespace is not None:
            with suppress(ValidationError):  # a name that cannot be declared
                found[named(path.name)] = (namespace, str(path))
    return found


def create_namespace(directory: str, name: str, *, mark: str, home: int) -> None:
    """Create a named namespace with ``mark``, in the calling thread. ``home`` is the namespace to return to.

    A file that a killed agent with this mark left behind is reused. Raises
    ``FileExistsError`` for any other file of this name, and ``OSError`` for what the kernel refuses; then
    nothing is left.
    """
    _prepare(directory)
    path = f"{directory}/{name}"
    _claim(directory, path, mark)
    try:
        with in_new_netns(home=home):
            _mark(mark)
            mount_thread_namespace(path)
    except OSError:
        with suppress(OSError):
            Path(path).unlink()
        raise


def remove_namespace(directory: str, name: str, namespace: NsId) -> None:
    """Remove the name of a namespace, which ends when nothing else holds it.

    Raises ``FileNotFoundError`` if the name does not lead to it, and ``OSError`` for what the kernel refuses.
    """
    path = f"{directory}/{name}"
    if identify(path) != namespace:
        raise FileNotFoundError(errno.ENOENT, f"{path} is not the network namespace {namespace}")
    unmount(path)
    Path(path).unlink()


def remove_left_overs(directory: str, mark: str) -> list[str]:
    """Remove the files that a killed agent with this mark left behind; return their paths."""
    removed = []
    with suppress(FileNotFoundError):
        for path in sorted(Path(directory).iterdir()):
            if _is_marked(str(path), mark):
                path.unlink(missing_ok=True)
                removed.append(str(path))
    return removed


def _prepare(directory: str) -> None:
    """Create the directory and make it a shared mount, so that namespaces mounted in it are seen everywhere."""
    Path(directory).mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(fd, LOCK_EX)  # as ip does: two at a time would mount the directory twice
        try:
            mount("", directory, flags=MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a mount point yet
                raise
            mount(directory, directory, flags=MS_BIND | MS_REC)
            mount("", directory, flags=MS_SHARED | MS_REC)
    finally:
        os.close(fd)


def _mark(mark: str) -> None:
    """Mark the calling thread's namespace."""
    socket = RequestSocket()
    try:
        (ack,) = socket.request([set_alias(LOOPBACK_IFINDEX, mark)])
    finally:
        socket.close()
    if ack.errno:
        raise OSError(ack.errno, f"cannot mark the new namespace: {os.strerror(ack.errno)} {ack.text}".rstrip())


def _content(mark: str) -> bytes:
    return f"ifagent {mark}\n".encode()


def _claim(directory: str, path: str, mark: str) -> None:
    """Create a plain file with the mark at ``path`` atomically. Raises ``FileExistsError``."""
    fd = directory_fd = -1
    try:
        try:
            fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
            os.write(fd, _content(mark))
            return
        os.write(fd, _content(mark))
        # Python follows the link, as it has to, only if a directory is given too.
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory_fd, follow_symlinks=True)
    except FileExistsError:
        if _is_marked(path, mark):
            return
        what = "a namespace of this name" if identify(path) else "a file that this agent did not make"
        raise FileExistsError(errno.EEXIST, f"there is {what}: {path}") from None
    finally:
        for each in (fd, directory_fd):
            if each >= 0:
                os.close(each)


def _is_marked(path: str, mark: str) -> bool:
    """Tell whether ``path`` is a plain file with the mark, without a namespace mounted over it."""
    expected = _content(mark)
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(expected):  # the size of an nsfs file is 0
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, len(expected) + 1) == expected
    finally:
        os.close(fd)
