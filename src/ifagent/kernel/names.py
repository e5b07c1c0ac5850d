"""Hearing that named namespaces may have come or gone.

A namespace gets its name by a mount, of which inotify says nothing, or by a symbolic link, of which the mount
table says nothing. So both are watched, and either one only says: list them again. Where there is no inotify to be had
they are listed at an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from asyncinotify import Mask

from ifagent.inotify import Watches
from ifagent.mounts import MountWatch

INTERVAL: Final = 1.0
"""Seconds between two listings where not every change is told."""

_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR


class NameWatch:
    """Calls when something happened in a directory, or to it; the directory need not be there."""

    def __init__(self, directory: str) -> None:
        """Open what is needed, in a worker thread. Raises ``OSError``."""
        self._directory = Path(directory)
        self._watch: int | None = None
        self._watches = Watches(_MASK, interval=INTERVAL, directory=directory)
        self._mounts = MountWatch()
        self._wake: Callable[[], None] | None = None

    @property
    def interval(self) -> float | None:
        """Seconds after which to look again though nothing was told, ``None`` if everything is told."""
        return INTERVAL if self._watch is None else None

    def start(self, wake: Callable[[], None]) -> None:
        """Have the running loop call ``wake`` from now on, whenever names may have changed."""
        self._wake = wake
        self._mounts.start(wake)

    def listen(self) -> None:
        """Listen to the directory if that is possible now; on the event loop, before each :meth:`follow`."""
        self._watches.ensure(self._hear)

    def follow(self) -> None:
        """Watch the directory, or while it is missing the nearest one above, for it to appear.

        To be called in a worker thread before the names are listed, at the start and after each wake.
        """
        before: Path | None = None
        while (path := self._add_watch()) not in {self._directory, before, None}:
            # Whatever was made before the watch began is seen now, or was seen above.
            if not _nearer(path, self._directory).is_dir():
                return
            before = path  # and if it is no nearer next time, it cannot be: there may be no more watches

    def close(self) -> None:
        """Stop watching."""
        self._watches.close()
        self._mounts.close()

    def _hear(self, _watch: int | None, _name: str | None) -> None:
        if self._wake is not None:
            self._wake()

    def _add_watch(self) -> Path | None:
        """Watch the directory or the nearest one above that can be watched, and return it."""
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
    """Return the next path on the way from an ancestor down to a directory."""
    return ancestor / directory.relative_to(ancestor).parts[0]
