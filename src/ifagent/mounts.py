"""The mount table: hearing that it has changed, of which inotify says nothing, and whom one's mounts reach."""

from __future__ import annotations

import asyncio
import os
import re
import select
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_TABLE: Final = "mountinfo"
_MOUNTS: Final = f"/proc/self/{_TABLE}"
WHY_SECLUDED: Final = (
    "the agent has a mount namespace of its own, as under ip netns exec, unshare -m or with PrivateMounts=, "
    "which is not shared with that of process 1"
)
"""How it comes that mounts do not reach the host."""

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class MountWatch:
    """Calls whenever something was mounted or unmounted in the mount namespace of the process."""

    def __init__(self) -> None:
        """Open the mount table; changes from now on are reported. Raises ``OSError``."""
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


def seclusion(directory: str, proc_root: str = "/proc", *, own_table: str = _MOUNTS) -> str:
    """Say why mounts in a directory do not reach the host, that is process 1's mount namespace; empty if they do.

    Empty too where it cannot be told, as where that process may not be looked into. The directory need not exist.
    ``own_table`` is the mount table of the agent.
    """
    try:
        id, shared = _mount_at(os.path.realpath(directory), own_table)
        others = list(_mounts(f"{proc_root}/1/{_TABLE}"))
    except OSError:
        return ""
    # A mount has one number in all of the mount namespaces, so it is that of the same or of another one.
    if any(mount.id == id or mount.groups & shared for mount in others):
        return ""
    return f"mounts under {directory} do not reach the host"


class _Mount(NamedTuple):
    """One line of a mount table: ``shared`` has the peer group that it is in, ``groups`` those it receives from too."""

    id: int
    point: str
    shared: frozenset[str]
    groups: frozenset[str]


def _mount_at(place: str, table: str) -> tuple[int, frozenset[str]]:
    """Return the number and the peer group, if any, of the mount that a path without symbolic links is on."""
    on = [mount for mount in _mounts(table) if _is_below(place, mount.point)]
    topmost = max(enumerate(on), key=lambda each: (len(each[1].point), each[0]))[1]
    return topmost.id, topmost.shared


def _is_below(place: str, point: str) -> bool:
    return place == point or place.startswith(point.rstrip("/") + "/")


def _mounts(table: str) -> Iterator[_Mount]:
    with open(table, "rb") as lines:  # noqa: PTH123 making a Path of it adds nothing
        for line in lines:
            fields = line.split(b" - ", 1)[0].split()
            point = os.fsdecode(_ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), fields[4]))
            tags = [os.fsdecode(tag).partition(":") for tag in fields[6:]]
            shared = frozenset(group for kind, _, group in tags if kind == "shared")
            received = frozenset(group for kind, _, group in tags if kind == "master")
            yield _Mount(int(fields[0]), point, shared, shared | received)
