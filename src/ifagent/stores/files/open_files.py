"""Opens a file, or a directory of files, that others may write to, and checks what may be read.

Only regular files are read, and only those that whoever put them there could read as well, because their content is
disclosed to others: a symbolic link of a user other than root and the agent's must lead to a file of its owner.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOENT
from typing import Final

from ifagent.filesystem.helpers import Content, Status
from ifagent.filesystem.walk import Found, Visit, Walker

_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unusable(Exception):
    """A file is not read; the message completes a sentence that begins with its name."""


class IsDirectory(Unusable):
    """It is a directory."""


class Vanished(Exception):
    """A name that was listed is not there any more."""


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """An open directory of files, or a single file.

    ``names`` are the wanted ones in the directory, sorted; ``None`` for a single file. ``status`` is that of the
    directory or file.
    """

    walker: Walker
    found: Found
    status: Status
    names: list[str] | None
    visit: Visit | None

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[Found, Status]]:
        """Open one of the files, or the only one, and yield it with its status.

        Raises :class:`Unusable`, :class:`Vanished`, and ``OSError``.
        """
        if self.names is None:
            yield self.found, _readable(self.found, self.status)
            return
        try:
            found = self.walker.walk(name, start=self.found, visit=self.visit)
        except FileNotFoundError:
            if self._is_listed(name):
                raise Unusable("is a symbolic link that leads nowhere") from None
            raise Vanished from None
        try:
            yield found, _readable(found, self.walker.status(found), self.status)
        finally:
            found.close()

    def read(self, found: Found, size: int) -> Content:
        """Return the content of one of the files, at most ``size`` bytes. Raises ``OSError``."""
        return self.walker.read(found, size)

    def _is_listed(self, name: str) -> bool:
        if not self.found.mount.never_hangs:
            return name in self.walker.names(self.found)
        try:
            os.stat(name, dir_fd=self.found.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


@contextmanager
def open_files(
    walker: Walker, path: str, *, wanted: Callable[[str], bool], visit: Visit | None = None
) -> Iterator[OpenFiles]:
    """Open the directory or the file at a path while the block lasts. Raises ``OSError``."""
    with walker.at(path, visit=visit) as found:
        status = walker.status(found)
        names = None
        if stat.S_ISDIR(status.mode):
            if visit is not None:
                visit(found.place, "", found.fd, found.mount)
            _check_links(found, status)
            names = sorted(filter(wanted, walker.names(found)))
            if not status.names:  # it was removed while it was opened
                raise OSError(ENOENT, os.strerror(ENOENT))
        yield OpenFiles(walker, found, status, names, visit)


def _readable(found: Found, status: Status, directory: Status | None = None) -> Status:
    """Return the status of a file that may be read, in a ``directory`` if it was found in one. Raises ``Unusable``."""
    if stat.S_ISDIR(status.mode):
        raise IsDirectory("is a directory, not a regular file")
    if not stat.S_ISREG(status.mode):
        raise Unusable(f"is {_KINDS.get(stat.S_IFMT(status.mode), 'something else')}, not a regular file")
    _check_links(found, status)
    if directory is not None and status.names > 1 and status.owner != directory.owner:
        others_write = directory.owner not in _trusted() or directory.mode & (stat.S_IWGRP | stat.S_IWOTH)
        if others_write:
            raise Unusable("has another name elsewhere (a hard link), and others may write to its directory")
    return status


def _check_links(found: Found, status: Status) -> None:
    if strangers := found.link_owners - _trusted() - {status.owner}:
        raise Unusable(f"is a symbolic link of user {min(strangers)}'s to something that is not his: not followed")


def _trusted() -> set[int]:
    return {0, os.geteuid()}
