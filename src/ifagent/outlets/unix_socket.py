"""Creates an agent's unix socket, so that two agents starting together do not remove each other's."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from ifagent.errors import InvalidSettings
from ifagent.log import log
from ifagent.passed_files import refuse_files

MODE: Final = 0o660
"""The socket's mode: its owner and group may talk to the agent."""

DIRECTORY_MODE: Final = 0o750
"""The mode of its directory, if the agent creates it."""

LOCK_TIME: Final = 5.0
"""Seconds to wait for another agent that creates a socket in the same directory."""

_RETRY: Final = 0.02
_BACKLOG: Final = 128


async def listen(path: Path, *, group: int | None) -> tuple[socket.socket, os.stat_result]:
    """Return a socket that listens at ``path``, and the status of its file.

    Creates the directory, and replaces the socket of a dead agent. ``group`` is that of the file and the directory;
    ``None`` leaves the one that the kernel gives new files. Raises :class:`InvalidSettings` if a live agent answers
    there, or if the socket cannot be created.
    """
    try:
        _make_directory(path.parent, group)
        async with _locked(path.parent):
            return _bind(path, group)
    except OSError as error:
        raise InvalidSettings(f"cannot create the socket {path}: {error.strerror or error}") from None


def remove(path: Path, inode: int) -> None:
    """Remove the file of a socket, unless it has been replaced by another one."""
    try:
        if path.stat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("cannot remove the socket", path=str(path), problem=str(error))


@asynccontextmanager
async def _locked(directory: Path) -> AsyncIterator[None]:
    """Keep other agents from probing a socket in the directory while it is bound but not listening yet."""
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with anyio.move_on_after(LOCK_TIME):
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await anyio.sleep(_RETRY)
        # Anyone who may read the directory can hold the lock for ever; go on without it then.
        yield
    finally:
        os.close(lock)


def _bind(path: Path, group: int | None) -> tuple[socket.socket, os.stat_result]:
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise InvalidSettings(f"{path} exists and is not a socket")
        if _is_live(path):
            raise InvalidSettings(f"another agent answers at {path}; give this one another label or socket")
        path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        # Clients cannot connect before it listens, so none sees it with another group or mode.
        status = _set_access(path, group)
        refuse_files(bound)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound, status


def _set_access(path: Path, group: int | None) -> os.stat_result:
    """Set the group and mode of a new socket's file, and return its status.

    Anyone who may write to the directory can replace the file by a link to something else, so it is opened, checked
    and changed through one descriptor. Raises ``OSError``, also if it is not a socket of this user.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, "it was replaced by something else")
        itself = Path(f"/proc/self/fd/{fd}")
        if group is not None:
            os.chown(itself, -1, group)
        itself.chmod(MODE)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _make_directory(directory: Path, group: int | None) -> None:
    """Create the directory; an existing one is left as it is."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        return
    if group is not None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, -1, group)
        finally:
            os.close(fd)


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass  # its backlog is full, so it is alive
        return True
