"""inotify as far as its limits allow: where they are reached, its users fall back to polling."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask

from ifagent.limits import inotify_in_words
from ifagent.log import log

RETRY: Final = 5.0
"""Seconds between two attempts to have inotify where its limits are reached."""

_BATCH: Final = 200
_LONG: Final = 0.002
_SHARE: Final = 10

Hear = Callable[[int | None, str | None], None]
"""Called with a watch and a name in what it watches, ``None`` if that is not known: anything may have happened."""


class Watches:
    """Watches on files and directories; ``mask`` is what of. ``interval`` is how often its user polls without.

    ``about`` are fields that say in the log what it is about.
    """

    def __init__(self, mask: Mask, *, interval: float, **about: object) -> None:
        """Open nothing yet."""
        self._mask = mask
        self._interval = interval
        self._about = about
        self._inotify: Inotify | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again = 0.0
        self._problems: dict[str, float] = {}

    @property
    def problem(self) -> str:
        """Why changes may not be heard, empty if they are; of the last :data:`RETRY` seconds."""
        now = time.monotonic()
        return next((problem for problem, until in self._problems.items() if now < until), "")

    def ensure(self, hear: Hear) -> None:
        """Open inotify and have the running loop call ``hear``, if that is possible now; call it before each poll."""
        if self._inotify is not None or time.monotonic() < self._again:
            return
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._again = time.monotonic() + RETRY
            self._complain(error)
            return
        os.set_blocking(self._inotify.fd, False)  # the library means to, and passes the wrong flag
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._on_news, hear)
        self._recover()

    def add(self, path: str | Path) -> int:
        """Watch something and return the watch, the same again if it is watched already. Raises ``OSError``.

        In worker threads, one at a time. A missing path is not a problem here; a limit is.
        """
        if self._inotify is None:
            raise OSError(errno.EMFILE, "inotify is not available")
        try:
            return self._inotify.add_watch(path, self._mask).wd
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
                self._complain(error)
            raise

    def keep_only(self, wanted: Callable[[int], bool]) -> None:
        """Drop all watches but those that are wanted."""
        if self._inotify is None:
            return
        for watch in self._inotify.watches:
            if not wanted(watch.wd):
                with suppress(OSError):  # it went with what it watched, and the news of that is not read yet
                    self._inotify.rm_watch(watch)

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None
        self._again = 0.0

    def _complain(self, error: OSError) -> None:
        problem = inotify_in_words(error)
        if problem not in self._problems:
            log.warning(
                "inotify unavailable, falling back to polling", seconds=self._interval, problem=problem, **self._about
            )
        self._problems[problem] = time.monotonic() + 2 * RETRY

    def _recover(self) -> None:
        if self._problems:
            self._problems.clear()
            log.info("inotify available again", **self._about)

    def _on_news(self, hear: Hear) -> None:
        if self._inotify is None or self._loop is None:
            return
        began = time.monotonic()
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                event = self._inotify.sync_get()
                if event is None or Mask.Q_OVERFLOW in event.mask:
                    hear(None, None)
                else:
                    hear(event.watch.wd if event.watch else None, str(event.name) if event.name is not None else None)
        took = time.monotonic() - began
        if took > _LONG:  # others may make events without end; what the kernel cannot keep it says
            self._loop.remove_reader(self._inotify.fd)
            self._loop.call_later(_SHARE * took, self._listen_again, self._inotify, hear)

    def _listen_again(self, inotify: Inotify, hear: Hear) -> None:
        if inotify is self._inotify and self._loop is not None:
            self._loop.add_reader(inotify.fd, self._on_news, hear)
