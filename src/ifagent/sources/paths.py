"""References by file path: where they lead.

A path leads to a network namespace where one is mounted on a file, where a symbolic link leads to one, and in a
procfs while the process lives. A mount comes and goes without a word from inotify, and a symbolic link without a
change of the mount table, so both are watched; the exit of a process is told by a pidfd. Each of them only says:
look again. A way that cannot be watched is looked at at an interval.

Not heard of: that a process appears for a path into ``/proc`` which led nowhere before, that it enters another
namespace, and what happens in other processes' root directories (``/proc/<pid>/root``) and in a procfs mounted
elsewhere. References by process id are for that.

Nothing is opened but namespaces: opening any other file may block, or have effects.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from ifagent.core.events import Event, NamespaceSeen
from ifagent.core.interface import NamespaceRef, NamespaceType
from ifagent.log import log
from ifagent.mounts import MountWatch
from ifagent.nsfs import namespace_at
from ifagent.sources.directories import Directories, Round, Step, Way

SETTLE: Final = 0.01
"""Seconds that news is collected."""

INTERVAL: Final = 0.5
"""Seconds between two looks at what nothing tells of."""

_PROBLEMS: Final = {
    errno.ENOENT: "is not there",
    errno.ENOTDIR: "is not there",
    errno.ELOOP: "is a loop of symbolic links",
}
_OF_PROCESS: Final = re.compile(r"/proc/(\d+)/")


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found at one path: what to say, and the way that was walked.

    ``unsure`` says that there may be more to find, and nothing will tell when.
    """

    event: NamespaceSeen
    way: Way
    unsure: bool

    @property
    def pid(self) -> int | None:
        """The process that the namespace is seen through."""
        match = _OF_PROCESS.match(self.way.place) if self.event.id else None
        return int(match[1]) if match else None


class PathWatcher:
    """Where references by file path lead."""

    def __init__(self) -> None:
        self._wanted: frozenset[NamespaceRef] = frozenset()
        self._refs: dict[str, NamespaceRef] = {}
        self._said: dict[str, NamespaceSeen] = {}
        self._due: set[str] = set()
        self._steps: set[Step] = set()
        self._unheard: set[str] = set()
        self._processes: dict[str, tuple[int, int]] = {}
        self._looking = False
        self._complained = False
        self._news = anyio.Event()

    @property
    def types(self) -> frozenset[NamespaceType]:
        """File paths."""
        return frozenset({NamespaceType.FILE})

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Follow exactly these from now on; what is said of a reference is said again when it is wanted again."""
        for ref in self._wanted - refs:
            self._said.pop(ref.reference, None)
        self._due |= {ref.reference for ref in refs - self._wanted}
        self._wanted = refs
        self._news.set()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled. Raises ``OSError`` if there is no inotify or mount table to be had."""
        with ExitStack() as stack:
            mounts = MountWatch()
            stack.callback(mounts.close)
            directories = Directories()
            stack.callback(directories.close)
            stack.callback(self._forget)
            mounts.start(self._look_at_all)
            directories.start(partial(self._hear, directories))
            while True:
                self._news = anyio.Event()
                self._take_wanted(directories)
                await self._look(directories, emit)
                await self._wait()

    async def _wait(self) -> None:
        """Wait for news, or the time to look without; both fill what is due."""
        if self._due:  # it came up while looking
            await anyio.sleep(SETTLE)
            return
        with anyio.move_on_after(INTERVAL if self._unheard else None):
            await self._news.wait()
            await anyio.sleep(SETTLE)
            return
        self._due |= self._unheard

    def _take_wanted(self, directories: Directories) -> None:
        """Begin with what is newly wanted, and let go of the rest."""
        refs = {ref.reference: ref for ref in self._wanted}
        dropped = self._refs.keys() - refs.keys()
        self._due |= refs.keys() - self._refs.keys()
        self._refs = refs
        for path in dropped:
            self._let_go(path)
        if dropped:
            directories.set_ways(dict.fromkeys(dropped, frozenset()))
        for step in self._steps:
            self._due |= directories.paths_by(step)
        self._steps.clear()
        self._due &= refs.keys()
        self._unheard &= refs.keys()

    # Looking

    async def _look(self, directories: Directories, emit: Callable[[Event], None]) -> None:
        due, self._due = self._due, set()
        if not due:
            return
        refs = [self._refs[path] for path in due]
        self._looking = True
        looks = await anyio.to_thread.run_sync(_look_at, refs, directories)
        self._looking = False
        directories.set_ways({look.event.ref.reference: look.way.steps for look in looks})
        for look in looks:
            path = look.event.ref.reference
            self._unheard.discard(path)
            if not self._follow(path, look.pid) or look.unsure:
                self._unheard.add(path)
            if look.way.problem:
                self._complain(look.way.problem)
            if self._said.get(path) != look.event and look.event.ref in self._wanted:
                self._said[path] = look.event
                emit(look.event)

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("changes of some paths are found at an interval only", seconds=INTERVAL, problem=problem)

    # News

    def _look_at_all(self) -> None:
        self._due |= self._refs.keys()
        self._news.set()

    def _hear(self, directories: Directories, step: Step | None) -> None:
        """Note what happened; which paths it matters to is known once those that are looked at now are."""
        if step is None:
            self._look_at_all()
        elif self._looking or directories.paths_by(step):
            self._steps.add(step)
            self._news.set()

    def _follow(self, path: str, pid: int | None) -> bool:
        """Have the exit of the process tell, ``None`` for no process; return whether that can be."""
        if path in self._processes:
            if self._processes[path][0] == pid:
                return True
            self._let_go(path)
        if pid is None:
            return True
        try:
            file = os.pidfd_open(pid)
        except OSError:  # it has ended, or is a thread, or too many files are open
            return False
        self._processes[path] = (pid, file)
        asyncio.get_running_loop().add_reader(file, self._on_exit, path)
        self._due.add(path)  # the process may have ended in between, and another one have its id
        return True

    def _on_exit(self, path: str) -> None:
        self._let_go(path)
        self._due.add(path)
        self._news.set()

    def _let_go(self, path: str) -> None:
        if path in self._processes:
            _, file = self._processes.pop(path)
            asyncio.get_running_loop().remove_reader(file)
            os.close(file)

    def _forget(self) -> None:
        """Be as before the run."""
        for path in list(self._processes):
            self._let_go(path)
        for known in (self._refs, self._said, self._due, self._steps, self._unheard):
            known.clear()
        self._looking = False


def _look_at(refs: Iterable[NamespaceRef], directories: Directories) -> list[_Look]:
    """Look at several paths, in a worker thread; what changes after a path was looked at is told."""
    known = Round()
    return [_look_at_one(ref, directories.walk(ref.reference, known)) for ref in refs]


def _look_at_one(ref: NamespaceRef, way: Way) -> _Look:
    unsure = bool(way.problem)
    try:
        id = namespace_at(ref.reference)
    except OSError as error:
        problem = _PROBLEMS.get(error.errno or 0)
        event = NamespaceSeen(ref, None, problem=problem or f"cannot be opened: {error.strerror}")
        return _Look(event, way, unsure or problem is None)
    if id is None:
        return _Look(NamespaceSeen(ref, None, problem="is not a network namespace", invalid=True), way, unsure)
    return _Look(NamespaceSeen(ref, id, ref.reference), way, unsure)
