"""Hearing that the mount table has changed: a mount comes and goes without a word from inotify."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Final

_MOUNTS: Final = "/proc/self/mountinfo"


class MountWatch:
    """Calls whenever something was mounted or unmounted in the mount namespace of the process."""

    def __init__(self) -> None:
        """Open the mount table; whatever changes from now on is told. Raises ``OSError``."""
        self._mounts = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        # The mount table is always readable and says "changed" out of band, which an event loop does not
        # ask for; an epoll of its own does, and is readable itself then.
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(self._mounts, select.EPOLLPRI)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Have the running loop call ``wake`` from now on, after every change.

        The loop is to wait for the mount table all the time: it tells of a change once, to whoever asks, and
        beginning to wait is asking.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._on_change, wake)

    def close(self) -> None:
        """Stop watching."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._mounts)

    def _on_change(self, wake: Callable[[], None]) -> None:
        self._epoll.poll(0)
        wake()
