"""Hearing of changes on the way to a path: in every directory on it, and on the ways of its symbolic links.

One inotify watch per directory, however many paths lead through it; of its news only the names on a way matter.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from asyncinotify import Inotify, Mask, Watch

_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.ATTRIB | Mask.ONLYDIR | Mask.DONT_FOLLOW | Mask.EXCL_UNLINK
_BATCH: Final = 1000
_MAX_LINKS: Final = 40
"""As many symbolic links does the kernel follow."""

_MAGIC: Final = re.compile(r"\w+:\[\d+\]")
"""The text of a link that leads to no path but to a thing itself, such as ``net:[4026531833]``."""

_NO_DIRECTORY: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

Step = tuple[int, str]
"""A watch, and the name in its directory that matters to a path."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a path is walked: by which steps, and to which place without symbolic links in it.

    It ends where nothing is. ``problem`` says why changes of it will not be heard, empty if they will.
    """

    steps: frozenset[Step]
    place: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """What several walks find in common: the watch on a directory, and where a place leads as a symbolic link.

    For walks that follow each other at once, for both may be different the next time.
    """

    watches: dict[str, int | OSError] = field(default_factory=dict)
    targets: dict[str, str | None] = field(default_factory=dict)


class Directories:
    """Tells which paths to look at again."""

    def __init__(self) -> None:
        """Open what is needed. Raises ``OSError``."""
        self._inotify = Inotify()
        os.set_blocking(self._inotify.fd, False)  # the library means to, and passes the wrong flag
        self._ways: dict[str, frozenset[Step]] = {}
        self._paths: dict[Step, set[str]] = {}
        self._uses: Counter[int] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, hear: Callable[[Step | None], None]) -> None:
        """Have the running loop call ``hear`` with every step that something happened to; ``None``: to any.

        That includes names in a watched directory that do not matter to any path.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._on_news, hear)

    def close(self) -> None:
        """Stop watching."""
        if self._loop is not None:
            self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def walk(self, path: str, known: Round) -> Way:
        """Watch every directory on the way to a path; to be called in a worker thread, before the path is looked at."""
        steps: set[Step] = set()
        todo = path.split("/")[::-1]
        place, links, problem = "/", 0, ""
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                place = _above(place)
                continue
            match self._watch(place, known.watches):
                case OSError(errno=number) if number in _NO_DIRECTORY:
                    break
                case OSError() as error:
                    problem = f"{place}: {error.strerror}"
                case watch:
                    steps.add((watch, name))
            place = f"{place.rstrip('/')}/{name}"
            if place not in known.targets:
                known.targets[place] = _target_of(place)
            target = known.targets[place]
            if target is None or _MAGIC.fullmatch(target):
                continue
            links += 1
            if links > _MAX_LINKS:
                break
            place = "/" if target.startswith("/") else _above(place)
            todo += target.split("/")[::-1]
        return Way(frozenset(steps), place, problem)

    def set_ways(self, ways: Mapping[str, frozenset[Step]]) -> None:
        """Note how paths were walked, no steps for those that no longer matter; drop the watches nobody needs."""
        for path, steps in ways.items():
            old = self._ways.pop(path, frozenset())
            for step in steps - old:
                self._paths.setdefault(step, set()).add(path)
                self._uses[step[0]] += 1
            for step in old - steps:
                self._paths[step].discard(path)
                if not self._paths[step]:
                    del self._paths[step]
                self._uses[step[0]] -= 1
            if steps:
                self._ways[path] = steps
        for watch in self._inotify.watches:
            if self._uses[watch.wd] <= 0:
                self._drop(watch)

    def paths_by(self, step: Step) -> frozenset[str]:
        """Return the paths that a step matters to."""
        return frozenset(self._paths.get(step, ()))

    def _drop(self, watch: Watch) -> None:
        del self._uses[watch.wd]
        with suppress(OSError):  # it went with what it watched
            self._inotify.rm_watch(watch)

    def _watch(self, directory: str, watches: dict[str, int | OSError]) -> int | OSError:
        if directory not in watches:
            try:
                watches[directory] = self._inotify.add_watch(directory, _MASK).wd
            except OSError as error:
                watches[directory] = error
        return watches[directory]

    def _on_news(self, hear: Callable[[Step | None], None]) -> None:
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                event = self._inotify.sync_get()
                if event is None or Mask.Q_OVERFLOW in event.mask:
                    hear(None)
                elif event.watch is not None and event.name is not None:
                    hear((event.watch.wd, str(event.name)))


def _above(directory: str) -> str:
    return directory.rpartition("/")[0] or "/"


def _target_of(path: str) -> str | None:
    """Return where a symbolic link leads, ``None`` if there is none."""
    try:
        return os.readlink(path)  # noqa: PTH115 making a Path of each takes longer than the call
    except OSError:
        return None
