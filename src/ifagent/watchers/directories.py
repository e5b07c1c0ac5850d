"""Watches all directories that a path leads through, including those of its symbolic links, for changes.

There is one inotify watch per directory, however many paths lead through it; only events of names on a path matter.
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
    """The steps of a path that are watched. ``unheard`` says that some changes of the path cause no event."""

    steps: set[WatchedName] = field(default_factory=set)
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class WalkCache:
    """Watches shared by several walks that follow each other immediately."""

    watches: dict[str, int | None] = field(default_factory=dict)


class Directories:
    """Watches the directories of paths. ``interval`` is that of polling if inotify is unavailable, for the log."""

    def __init__(self, *, interval: float) -> None:
        """Open nothing yet."""
        self._watches = Watches(_MASK, interval=interval)
        self._ways: dict[str, frozenset[WatchedName]] = {}
        self._paths: dict[WatchedName, set[str]] = {}
        self._uses: Counter[int] = Counter()

    def listen(self, hear: Callable[[WatchedName | None], None]) -> None:
        """Make the running loop call ``hear`` with every step that has an event, or with ``None`` if events were lost.

        That includes names in a watched directory that matter to no path. Call it before each walk, because inotify may
        have been unavailable before.
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
        """Return a callback for the steps of a walk, in a worker thread; it watches them and adds them to ``way``."""

        def visit(place: str, name: str, directory: int, mount: Mount) -> None:
            # inotify reports neither processes in procfs nor changes that other machines make on a network share.
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
        """Set the steps of paths, none for those no longer wanted; remove watches that are not needed any more."""
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
        """Return the paths that include a step."""
        return frozenset(self._paths.get(step, ()))
