"""Hearing that named namespaces may have come or gone.

A namespace gets its name by a mount, of which inotify says nothing, or by a symbolic link, of which the mount
table says nothing. So both are watched, and either one only says: list them again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask, Watch

from ifagent.mounts import MountWatch

_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
_READ_SIZE: Final = 65536


class NameWatch:
    """Calls when something happened in a directory, or to it; the directory need not be there."""

    def __init__(self, directory: str) -> None:
        """Open what is needed, in a worker thread. Raises ``OSError``."""
        self._directory = Path(directory)
        self._watch: Watch | None = None
        self._inotify = Inotify()
        os.set_blocking(self._inotify.fd, False)
        self._mounts = MountWatch()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Have the running loop call ``wake`` from now on, whenever names may have changed."""
        self._loop = asyncio.get_running_loop()
        self._mounts.start(wake)
        self._loop.add_reader(self._inotify.fd, self._on_files, wake)

    def follow(self) -> None:
        """Watch the directory, or while it is missing the nearest one above, for it to appear.

        To be called in a worker thread before the names are listed, at the start and after each wake.
        """
        before: Path | None = None
        while (path := self._add_watch()) not in {self._directory, before}:
            # Whatever was made before the watch began is seen now, or was seen above.
            if not _nearer(path, self._directory).is_dir():
                return
            before = path  # and if it is no nearer next time, it cannot be: there may be no more watches

    def close(self) -> None:
        """Stop watching."""
        if self._loop is not None:
            self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()
        self._mounts.close()

    def _on_files(self, wake: Callable[[], None]) -> None:
        with suppress(BlockingIOError):
            os.read(self._inotify.fd, _READ_SIZE)  # what happened does not matter
        wake()

    def _add_watch(self) -> Path:
        """Watch the directory or the nearest one above that can be watched, and return it."""
        for path in (self._directory, *self._directory.parents):
            with suppress(OSError):
                watch = self._inotify.add_watch(path, _MASK)  # the same again, if it is watched already
                break
        else:
            return self._directory
        old, self._watch = self._watch, watch
        if old is not None and old.wd != watch.wd:
            with suppress(OSError):  # it went with what it watched
                self._inotify.rm_watch(old)
        return path


def _nearer(ancestor: Path, directory: Path) -> Path:
    """Return the next path on the way from an ancestor down to a directory."""
    return ancestor / directory.relative_to(ancestor).parts[0]
