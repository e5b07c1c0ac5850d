"""References by file path: where they lead.

A path leads to a network namespace where one is mounted on a file, where a symbolic link leads to one, and in a
procfs while the process lives. A mount comes and goes without a word from inotify, and a symbolic link without a
change of the mount table, so both are watched; the exit of a process is told by a pidfd. Each of them only says:
look again. What nothing tells of is looked at at an interval: a process that appears below ``/proc``, or enters another
namespace, file systems that others may change, mounts in other mount namespaces, and whatever cannot be watched.

Whoever chose a path may be hostile. It is walked as :mod:`ifagent.filesystem` does, and nothing is opened but
namespaces. A way that may hang is walked by itself, a few at a time, in bounded time, and again with back-off. The
namespace that was found is held by a descriptor, and whoever enters it does so through that, not by the path.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ifagent.core.events import Event, NamespaceSeen
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.filesystem.helpers import DoesNotAnswer
from ifagent.filesystem.walk import Found, MayHang, Visit, Walker
from ifagent.limits import in_words
from ifagent.log import log
from ifagent.mounts import MountWatch
from ifagent.nsfs import NOWHERE, namespace_at, namespace_device, open_from_inside, open_namespace_of
from ifagent.watchers.directories import Directories, PathWatches, WalkCache, WatchedName

SETTLE: Final = 0.01
"""Seconds that news is collected."""

INTERVAL: Final = 0.5
"""Seconds between two looks at what nothing tells of."""

LONGEST_PAUSE: Final = 30.0
"""Most seconds between two looks at a path whose file system does not answer."""

FLAPS: Final = 20
"""Changes of one path after which it is looked at no more than once in :data:`FLAP_PAUSE` seconds."""

FLAP_PAUSE: Final = 1.0
"""Seconds; until it was not looked at for twice as long."""

AT_A_TIME: Final = 4
"""Most paths that are walked at one time on file systems that may hang."""

_PROBLEMS: Final = {
    errno.ENOENT: "is not there",
    errno.ENOTDIR: "is not there",
    errno.ELOOP: "is a loop of symbolic links",
}
_OF_PROCESS: Final = re.compile(r"/proc/(\d+)/")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """What was found at one path: the namespace with a file that is open, or why there is none, and the way there."""

    ref: NamespaceRef
    way: PathWatches
    place: str = ""
    namespace: NsId | None = None
    file: int = -1
    problem: str = ""
    invalid: bool = False
    open_question: bool = False
    """That there may be a namespace, which cannot be told now: what was known stands."""

    @property
    def pid(self) -> int | None:
        """The process that the namespace is seen through."""
        match = _OF_PROCESS.match(self.place) if self.namespace else None
        return int(match[1]) if match else None


@dataclass(slots=True)
class _Known:
    """What is known of one wanted path: what was ``seen``, and whether that was ``told``.

    ``file`` keeps the namespace open. ``process`` is the one that it is seen through, with its pidfd. ``unheard``: not
    every change is told. ``walking``: it is being walked by itself. ``pause`` is how long to wait until it is again,
    which is not before ``not_before``. ``flaps`` counts looks in a row that found something else.
    """

    ref: NamespaceRef
    seen: NamespaceSeen | None = None
    told: bool = False
    place: str = ""
    file: int = -1
    process: tuple[int, int] | None = None
    unheard: bool = False
    walking: bool = False
    pause: float = 0.0
    not_before: float = 0.0
    flaps: int = 0
    looked: float = 0.0

    def may_look(self, now: float) -> bool:
        """Tell whether it is time to look; if not, it is looked at again later."""
        if self.flaps < FLAPS or now >= self.looked + FLAP_PAUSE:
            return True
        self.unheard = True
        return False

    def note_change(self, now: float, *, different: bool) -> None:
        """Count looks at the path that found something else soon after the one before."""
        if now >= self.looked + 2 * FLAP_PAUSE:
            self.flaps = 0
        self.flaps += different
        self.looked = now


class PathWatcher:
    """Where references by file path lead."""

    def __init__(self) -> None:
        self._wanted: frozenset[NamespaceRef] = frozenset()
        self._again: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._due: set[str] = set()
        self._steps: set[WatchedName] = set()
        self._looking = False
        self._news = anyio.Event()
        self._limit: anyio.CapacityLimiter | None = None

    @property
    def types(self) -> frozenset[NamespaceType]:
        """File paths."""
        return frozenset({NamespaceType.FILE})

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Follow exactly these from now on; what is said of a reference is said again when it is wanted again."""
        self._again |= {ref.reference for ref in refs - self._wanted}
        self._wanted = refs
        self._news.set()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled. Where the limits of the host leave no room for it, it waits for some."""
        self._limit = anyio.CapacityLimiter(AT_A_TIME)
        told = False
        while True:
            try:
                with ExitStack() as stack:
                    walker = Walker()
                    stack.callback(walker.close)
                    mounts = MountWatch()
                    stack.callback(mounts.close)
                    directories = Directories(interval=INTERVAL)
                    stack.callback(directories.close)
                    stack.callback(self._forget)
                    mounts.start(self._look_at_all)
                    await self._follow(walker, directories, emit)
            except OSError as error:
                if not told:
                    log.warning("cannot follow namespace paths now", problem=in_words(error))
                told = True
            await anyio.sleep(INTERVAL)

    async def _follow(self, walker: Walker, directories: Directories, emit: Callable[[Event], None]) -> None:
        async with anyio.create_task_group() as group:
            while True:
                self._news = anyio.Event()
                directories.listen(partial(self._hear, directories))
                self._take_wanted(directories)
                await self._look(walker, directories, emit, group)
                await self._wait()

    async def _wait(self) -> None:
        """Wait for news, or the time to look without; both fill what is due."""
        if self._due:  # it came up while looking
            await anyio.sleep(SETTLE)
            return
        unheard = [known for known in self._known.values() if known.unheard and not known.walking]
        with anyio.move_on_after(INTERVAL if unheard else None):
            await self._news.wait()
            await anyio.sleep(SETTLE)
            return
        self._due |= await anyio.to_thread.run_sync(_changed, unheard, anyio.current_time())

    def _take_wanted(self, directories: Directories) -> None:
        """Begin with what is newly wanted, and let go of the rest."""
        refs = {ref.reference: ref for ref in self._wanted}
        dropped = self._known.keys() - refs.keys()
        for path in dropped:
            self._let_go(self._known.pop(path))
        if dropped:
            directories.set_ways(dict.fromkeys(dropped, frozenset()))
        for path in refs.keys() - self._known.keys():
            self._known[path] = _Known(refs[path])
            self._due.add(path)
        for path in self._again & self._known.keys():
            self._known[path].told = False
            self._due.add(path)
        self._again.clear()
        for step in self._steps:
            self._due |= directories.paths_by(step)
        self._steps.clear()
        self._due &= refs.keys()

    # Looking

    async def _look(
        self, walker: Walker, directories: Directories, emit: Callable[[Event], None], group: TaskGroup
    ) -> None:
        now = anyio.current_time()
        due = {path for path in self._due if not self._known[path].walking and self._known[path].may_look(now)}
        self._due.clear()
        if not due:
            return
        refs = [self._known[path].ref for path in due]
        self._looking = True
        looks, slow = await anyio.to_thread.run_sync(_look_at, refs, walker, directories)
        self._looking = False
        self._take(looks, directories, emit)
        for ref in slow:
            known = self._known.get(ref.reference)
            if known is not None:
                known.walking = known.unheard = True
                group.start_soon(self._walk, known, walker, directories, emit)

    async def _walk(
        self, known: _Known, walker: Walker, directories: Directories, emit: Callable[[Event], None]
    ) -> None:
        """Look at one path on a way that may hang, and see to it that it is not looked at too often."""
        look = await anyio.to_thread.run_sync(_look_at_one, known.ref, walker, None, limiter=self._limit)
        known.walking = False
        known.pause = min(LONGEST_PAUSE, 2 * known.pause or INTERVAL) if look.open_question else 0.0
        known.not_before = anyio.current_time() + known.pause
        self._take([look], directories, emit)
        self._news.set()

    def _take(self, looks: Iterable[_Lookup], directories: Directories, emit: Callable[[Event], None]) -> None:
        """Take in what was found, and say what is not as it was said."""
        looks = list(looks)
        directories.set_ways({look.ref.reference: frozenset(look.way.steps) for look in looks})
        for look in looks:
            known = self._known.get(look.ref.reference)
            if known is None or look.ref not in self._wanted:
                _close(look.file)
                continue
            known.unheard = look.way.unheard or look.open_question
            event = self._event(known, look)
            if not self._hold_process(known, look.pid):
                known.unheard = True
            known.note_change(anyio.current_time(), different=known.seen is not None and event != known.seen)
            if event != known.seen or not known.told:
                known.seen, known.told = event, True
                emit(event)

    def _event(self, known: _Known, look: _Lookup) -> NamespaceSeen:
        """Return what is to be said, and keep the namespace open through the file of the first look that found it."""
        before = known.seen
        if look.open_question and before is not None and before.id is not None:
            return before
        known.place = look.place
        if before is not None and look.namespace is not None and before.id == look.namespace:
            _close(look.file)
            return before
        _close(known.file)
        known.file = look.file
        if look.namespace is None:
            return NamespaceSeen(look.ref, None, problem=look.problem, invalid=look.invalid)
        return NamespaceSeen(look.ref, look.namespace, f"/proc/self/fd/{look.file}")

    # News

    def _look_at_all(self) -> None:
        self._due |= self._known.keys()
        self._news.set()

    def _hear(self, directories: Directories, step: WatchedName | None) -> None:
        """Note what happened; which paths it matters to is known once those that are looked at now are."""
        if step is None:
            self._look_at_all()
        elif self._looking or directories.paths_by(step):
            self._steps.add(step)
            self._news.set()

    def _hold_process(self, known: _Known, pid: int | None) -> bool:
        """Have the exit of the process tell, ``None`` for no process; return whether that can be."""
        if known.process is not None:
            if known.process[0] == pid:
                return True
            self._let_process_go(known)
        if pid is None:
            return True
        try:
            file = os.pidfd_open(pid)
        except OSError:  # it has ended, or is a thread, or too many files are open
            return False
        known.process = (pid, file)
        asyncio.get_running_loop().add_reader(file, self._on_exit, known)
        self._due.add(known.ref.reference)  # it may have ended in between, and another process have its id
        return True

    def _on_exit(self, known: _Known) -> None:
        self._let_process_go(known)
        self._due.add(known.ref.reference)
        self._news.set()

    def _let_process_go(self, known: _Known) -> None:
        if known.process is not None:
            _, file = known.process
            known.process = None
            asyncio.get_running_loop().remove_reader(file)
            os.close(file)

    def _let_go(self, known: _Known) -> None:
        self._let_process_go(known)
        _close(known.file)
        known.file = -1

    def _forget(self) -> None:
        """Be as before the run."""
        for known in self._known.values():
            self._let_go(known)
        for each in (self._known, self._due, self._steps):
            each.clear()
        self._looking = False


def _changed(unheard: Iterable[_Known], now: float) -> set[str]:
    """Return the paths to look at again, of those that nothing tells of; in a worker thread."""
    due = set()
    for known in unheard:
        if now < known.not_before:
            continue
        if known.seen is not None and known.seen.id is not None and known.process is not None and not known.pause:
            # Seen in a procfs, which answers: a fraction of the work of a whole walk.
            with suppress(OSError):
                if namespace_at(known.place) == known.seen.id:
                    continue
        due.add(known.ref.reference)
    return due


def _look_at(
    refs: Iterable[NamespaceRef], walker: Walker, directories: Directories
) -> tuple[list[_Lookup], list[NamespaceRef]]:
    """Look at several paths, in a worker thread; return what was found, and which are on ways that may hang."""
    known, looks, slow = WalkCache(), [], []
    for ref in refs:
        try:
            looks.append(_look_at_one(ref, walker, partial(directories.visit, known=known)))
        except MayHang:
            slow.append(ref)
    return looks, slow


def _look_at_one(ref: NamespaceRef, walker: Walker, visit: Callable[[PathWatches], Visit] | None) -> _Lookup:
    """Look at a path; what changes after that is told, unless its way is ``unheard``.

    Without ``visit`` it may lead over file systems that do not answer; else there is :class:`MayHang` then.
    """
    way = PathWatches(unheard=visit is None)
    try:
        with walker.at(ref.reference, visit=visit and visit(way), patient=visit is None) as found:
            return _identify(ref, way, found)
    except DoesNotAnswer as error:
        return _Lookup(ref, way, problem=f"cannot be looked at: {error.strerror}", open_question=True)
    except OSError as error:
        problem = _PROBLEMS.get(error.errno or 0)
        return _Lookup(
            ref,
            way,
            problem=problem or f"cannot be opened: {in_words(error)}",
            open_question=error.errno not in NOWHERE,
        )


def _identify(ref: NamespaceRef, way: PathWatches, found: Found) -> _Lookup:
    plain = _Lookup(ref, way, found.place, problem="is not a network namespace", invalid=True)
    # By what the walk has seen of it: asking here could mean to wait.
    if found.status is None or found.status.device != namespace_device():
        return plain
    opened = open_namespace_of(found.fd)
    if opened is None:
        return plain
    id, file = opened
    try:
        return _Lookup(ref, way, found.place, namespace=id, file=open_from_inside(file))
    finally:
        os.close(file)


def _close(file: int) -> None:
    if file >= 0:
        os.close(file)
