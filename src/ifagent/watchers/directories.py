"""Hearing of changes on the way to a path: in every directory on it, and on the ways of its symbolic links.

One inotify watch per directory, however many paths lead through it; of its news only the names on a way matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asyncinotify import Mask

from ifagent.filesystem.mount_types import Mount
from ifagent.filesystem.walk import Visit
from ifagent.inotify import Watches

_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.ATTRIB | Mask.ONLYDIR | Mask.EXCL_UNLINK

WatchedName = tuple[int, str]
"""A watch, and the name in its directory that matters to a path."""


@dataclass(slots=True)
class PathWatches:
    """How a path is walked: by which steps. ``unheard`` says that not every change of it will be told."""

    steps: set[WatchedName] = field(default_factory=set)
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class WalkCache:
    """The watches that several walks have in common; for walks that follow each other at once."""

    watches: dict[str, int | None] = field(default_factory=dict)


class Directories:
    """Tells which paths to look at again. ``interval`` is how often those are that it does not tell of."""

    def __init__(self, *, interval: float) -> None:
        """Open nothing yet."""
        self._watches = Watches(_MASK, interval=interval)
        self._ways: dict[str, frozenset[WatchedName]] = {}
        self._paths: dict[WatchedName, set[str]] = {}
        self._uses: Counter[int] = Counter()

    def listen(self, hear: Callable[[WatchedName | None], None]) -> None:
        """Have the running loop call ``hear`` with every step that something happened to; ``None``: to any.

        That includes names in a watched directory that do not matter to any path. To be called before each look, for
        it may not have been possible before.
        """

        def tell(watch: int | None, name: str | None) -> None:
            if watch is not None and name is not None:
                hear((watch, name))
            elif watch is None and name is None:
                hear(None)

        self._watches.ensure(tell)

    def close(self) -> None:
        """Stop watching."""
        self._watches.close()

    def visit(self, way: PathWatches, *, known: WalkCache) -> Visit:
        """Return what is to be called before each step of a walk, in a worker thread, and notes it in ``way``."""

        def visit(place: str, name: str, directory: int, mount: Mount) -> None:
            # Processes come and go in a procfs, files on a share and mounts elsewhere, without a word from inotify.
            if mount.type == "proc" or not mount.never_hangs:
                way.unheard = True
                return
            if place not in known.watches:
                try:
                    known.watches[place] = self._watches.add(f"/proc/self/fd/{directory}")
                except NotADirectoryError:
                    return
                except OSError:
                    known.watches[place] = None
            watch = known.watches[place]
            if watch is None:
                way.unheard = True
            else:
                way.steps.add((watch, name))

        return visit

    def set_ways(self, ways: Mapping[str, frozenset[WatchedName]]) -> None:
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
                if not self._uses[step[0]]:
                    del self._uses[step[0]]
            if steps:
                self._ways[path] = steps
        self._watches.keep_only(lambda watch: watch in self._uses)

    def paths_by(self, step: WatchedName) -> frozenset[str]:
        """Return the paths that a step matters to."""
        return frozenset(self._paths.get(step, ()))
