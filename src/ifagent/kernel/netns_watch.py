"""Watches for named namespaces that may have come or gone.

A namespace gets its name by a mount, which inotify does not report, or by a symbolic link, which the mount table does
not contain. So both are watched, and either of them only says that the directory has to be listed again. Where inotify
is unavailable, it is listed at an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from asyncinotify import Mask

from ifagent.inotify import Watches
from ifagent.mounts import MountWatch

INTERVAL: Final = 1.0
"""Seconds between two listings where changes may go unnoticed."""

_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR


class NetnsWatch:
    """Calls back when something has happened in a directory, or to it; the directory need not exist."""

    def __init__(self, directory: str) -> None:
        """Open the watches, in a worker thread. Raises ``OSError``."""
        self._directory = Path(directory)
        self._watch: int | None = None
        self._watches = Watches(_MASK, interval=INTERVAL, directory=directory)
        self._mounts = MountWatch()
        self._wake: Callable[[], None] | None = None

    @property
    def interval(self) -> float | None:
        """Seconds after which to list again without a wake, ``None`` if every change wakes."""
        return INTERVAL if self._watch is None else None

    def start(self, wake: Callable[[], None]) -> None:
        """Have the running loop call ``wake`` from now on, whenever names may have changed."""
        self._wake = wake
        self._mounts.start(wake)

    def listen(self) -> None:
        """Listen to the directory if that is possible now; on the event loop, before each :meth:`follow`."""
        self._watches.ensure(self._hear)

    def follow(self) -> None:
        """Watch the directory, or while it is missing its nearest existing ancestor.

        For a worker thread, before the names are listed, at the start and after each wake.
        """
        before: Path | None = None
        while (path := self._add_watch()) not in {self._directory, before, None}:
            # What was created before the watch began is found by the listing, or the watch above has seen it.
            if not _nearer(path, self._directory).is_dir():
                return
            before = path  # if it is no nearer next time, it cannot be: there may be no more watches

    def close(self) -> None:
        """Stop watching."""
        self._watches.close()
        self._mounts.close()

    def _hear(self, _watch: int | None, _name: str | None) -> None:
        if self._wake is not None:
            self._wake()

    def _add_watch(self) -> Path | None:
        """Watch the directory or its nearest ancestor that can be watched, and return that."""
        for path in (self._directory, *self._directory.parents):
            try:
                self._watch = self._watches.add(path)  # the same again, if it is watched already
            except OSError:
                continue
            self._watches.keep_only(lambda watch: watch == self._watch)
            return path
        self._watch = None
        return None


def _nearer(ancestor: Path, directory: Path) -> Path:
    """Return the next path on the way down from an ancestor to a directory."""
    return ancestor / directory.relative_to(ancestor).parts[0]
