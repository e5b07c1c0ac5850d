"""Hearing that named namespaces may have come or gone.

A namespace gets its name by a mount, of which inotify says nothing, or by a symbolic link, of which the mount
table says nothing. So both are watched, and either one only says: list them again.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask, Watch

_MOUNTS: Final = "/proc/self/mountinfo"
_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR


class NameWatch:
    """Readable when something happened in a directory, or to it; the directory need not be there."""

    def __init__(self, directory: str) -> None:
        """Begin to watch. Raises ``OSError``."""
        self._directory = Path(directory)
        self._watch: Watch | None = None
        self._inotify = Inotify(sync_timeout=0)
        self._mounts = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        # The mount table is always readable and says "changed" out of band, which an event loop does not
        # ask for; an epoll of its own does, and is readable itself then.
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(self._mounts, select.EPOLLPRI)
        self._epoll.register(self._inotify.fd, select.EPOLLIN)
        self._follow()

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._epoll.fileno()

    def clear(self) -> None:
        """Take note of what happened so far; whoever lists the names now knows it all."""
        self._epoll.poll(0)
        while self._inotify.sync_get() is not None:
            pass
        self._follow()

    def close(self) -> None:
        """Stop watching."""
        self._epoll.close()
        self._inotify.close()
        os.close(self._mounts)

    def _follow(self) -> None:
        """Watch the directory, or while it is missing the nearest one above, for it to appear."""
        while True:
            for path in (self._directory, *self._directory.parents):
                with suppress(OSError):
                    watch = self._inotify.add_watch(path, _MASK)
                    break
            else:
                return
            old, self._watch = self._watch, watch
            if old is not None and old.wd != watch.wd:
                with suppress(OSError):  # it went with what it watched
                    self._inotify.rm_watch(old)
            # Whatever was made before the watch began is seen now, or was seen above.
            if path == self._directory or not _nearer(path, self._directory).is_dir():
                return


def _nearer(ancestor: Path, directory: Path) -> Path:
    """Return the next path on the way from an ancestor down to a directory."""
    return ancestor / directory.relative_to(ancestor).parts[0]
