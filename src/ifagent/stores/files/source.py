"""Intent from files: a YAML or JSON file, or a directory of them.

What inotify and the mount table tell only says "look again"; a look compares every file's time, inode and size with
what was read and reads what is different. A slow look at an interval finds what they do not tell: changes on network
file systems, and whatever cannot be watched.

The last say stands until there is a new whole one. A file that is broken, away, no regular file, on a file system that
does not answer, or still open for writing goes on saying what it said; if the whole path is away, so does everything;
and so it does if the path is suddenly another directory, until that has files in it and is quiet. A file that was never
readable makes the snapshot incomplete.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import anyio
from asyncinotify import Mask

from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key
from ifagent.errors import BrokenFile
from ifagent.filesystem.helpers import Status
from ifagent.filesystem.mount_types import Mount
from ifagent.filesystem.walk import Found, Walker
from ifagent.formats.interface_files import (
    MAX_FILE_BYTES,
    InterfaceFile,
    Signature,
    decode_text,
    is_file_name,
    merge,
    parse_interfaces,
)
from ifagent.inotify import Watches
from ifagent.limits import in_words
from ifagent.log import log
from ifagent.mounts import MountWatch
from ifagent.stores.files.open_files import IsDirectory, OpenFiles, Unusable, Vanished, open_files

REPLACED: Final = 1.0
"""Seconds that a directory which has taken the place of another must not have changed before it counts."""

PATIENCE: Final = 1.0
"""Seconds after which it is told that a file is still being written."""

MOUNTS: Final = 0.2
"""Seconds that mounts which come and go are collected."""

MAX_NAMED: Final = 20
"""Most files that cannot be read which are named; others are counted."""

REST: Final = 3
"""A look is followed by a pause of so many times as long as it took: others may change files all the time."""

_MASK: Final = (
    Mask.CLOSE_WRITE
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE
    | Mask.MOVE_SELF
    | Mask.ATTRIB
    | Mask.ONLYDIR
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """When files are looked at, in seconds.

    A file is read once it has not been written to for ``quiet``, for which changes are collected too; or for
    ``settle``, where the kernel does not say whether somebody still has it open for writing. ``interval`` is the time
    between two looks when nothing was told, and ``blind`` where inotify cannot be had.
    """

    quiet: float = 0.02
    settle: float = 0.5
    interval: float = 10.0
    blind: float = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    """One file as it was when last looked at.

    ``said`` is what it said when it could last be read, ``None`` if it never could. ``problem`` is why it
    cannot be read now. ``busy_since`` is from when on it has been seen to be written, by the monotonic clock, and
    ``again`` after how many seconds to look again though nothing was told.
    """

    signature: Signature | None = None
    said: InterfaceFile | None = None
    problem: str = ""
    busy_since: float | None = None
    again: float = math.inf


@dataclass(frozen=True, slots=True)
class _Picture:
    """Everything known after one look, by path in sorted order; ``problem`` is that of the path itself.

    ``directory`` is the device and inode of the directory, ``again`` after how many seconds to look again.
    """

    files: Mapping[Path, _Known] = field(default_factory=dict)
    problem: str = ""
    never_listed: bool = False
    again: float = math.inf
    directory: tuple[int, int] | None = None

    @property
    def problems(self) -> list[str]:
        own = [self.problem] if self.problem else []
        return own + [known.problem for known in self.files.values() if known.problem]

    @property
    def complete(self) -> bool:
        """False while something may be declared that was never read."""
        return not self.never_listed and not any(k.problem and k.said is None for k in self.files.values())

    @property
    def begins(self) -> bool:
        """Whether files are still being written that were never read: nothing is said yet at the start."""
        return any(known.said is None and not known.problem for known in self.files.values())

    def declarations(self) -> dict[Key, Declaration]:
        return merge(known.said for known in self.files.values() if known.said)


class FileSource:
    """What the file, or the files in the directory, at ``path`` declare; it calls itself ``name``.

    The path need not exist yet. Making one does nothing.
    """

    def __init__(self, path: Path | str, *, name: str = "file", timings: Timings = Timings()) -> None:
        self.name = name
        self._path = Path(path).absolute()
        self._timings = timings
        self._picture = _Picture(never_listed=True)
        self._said: dict[Key, Declaration] = {}
        self._said_complete: bool | None = None
        self._reported: frozenset[str] = frozenset()
        self._woken = False
        self._news = anyio.Event()
        self._matters: dict[int, set[str]] = {}

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Tell ``emit`` what is declared, until cancelled.

        A :class:`SourceSnapshot` comes first, and again when it becomes complete or incomplete; else one
        :class:`Declared` for every name that changed, all of one look without an ``await`` between them.
        :class:`SourceHealth` names files that cannot be read, and is emitted when that changes. Never returns.
        """
        self._picture, self._said_complete, self._reported = _Picture(never_listed=True), None, frozenset()
        while True:
            try:
                with ExitStack() as stack:
                    walker = Walker()
                    stack.callback(walker.close)
                    mounts = MountWatch()
                    stack.callback(mounts.close)
                    watches = Watches(_MASK, interval=self._timings.blind, source=self.name)
                    stack.callback(watches.close)
                    mounts.start(self._wake)
                    looker = _Looker(self._path, walker, watches, self._timings)
                    await self._follow(looker, watches, emit)
            except OSError as error:  # no more files may be opened
                self._picture = replace(self._picture, problem=f"{self._path}: {in_words(error)}")
                self._tell(emit)
            await anyio.sleep(1.0)

    async def _follow(self, looker: _Looker, watches: Watches, emit: Callable[[Event], None]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(looker.stop_when_cancelled)
            while True:
                self._news = anyio.Event()
                watches.ensure(self._hear)
                began = anyio.current_time()
                self._picture = await anyio.to_thread.run_sync(looker.look, self._picture)
                took = anyio.current_time() - began
                self._matters = looker.matters
                watches.keep_only(lambda watch: watch in self._matters)
                if self._said_complete is not None or not self._picture.begins:
                    self._tell(emit)
                await anyio.sleep(REST * took)
                interval = self._timings.blind if watches.problem else self._timings.interval
                with anyio.move_on_after(min(interval, self._picture.again)):
                    await self._news.wait()
                    await anyio.sleep(self._timings.quiet)

    def _wake(self) -> None:
        """Look again, for something was mounted or unmounted; there may be thousands of those in a second."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_later(MOUNTS, self._look_at_mounts)

    def _look_at_mounts(self) -> None:
        self._woken = False
        self._news.set()

    def _hear(self, watch: int | None, name: str | None) -> None:
        names = self._matters.get(watch, set()) if watch is not None else None
        if names is None or name is None or name in names or "" in names:
            self._news.set()

    def _tell(self, emit: Callable[[Event], None]) -> None:
        picture = self._picture
        self._tell_problems(emit)
        before, self._said = self._said, picture.declarations()
        if picture.complete is not self._said_complete:
            self._said_complete = picture.complete
            emit(SourceSnapshot(self.name, self._said, picture.complete))
            return
        for key in before.keys() - self._said.keys():
            emit(Declared(self.name, key, None))
        for key, declaration in self._said.items():
            if declaration != before.get(key):
                emit(Declared(self.name, key, declaration))

    def _tell_problems(self, emit: Callable[[Event], None]) -> None:
        problems, reported = self._picture.problems, self._reported
        self._reported = frozenset(problems)
        if self._reported == reported:
            return
        new = [problem for problem in problems if problem not in reported]
        for problem in new[:MAX_NAMED]:
            log.warning("cannot read file, keeping its previous contents", source=self.name, problem=problem)
        if len(new) > MAX_NAMED:
            log.warning("cannot read files, keeping their previous contents", source=self.name, files=len(new))
        if not problems:
            log.info("all files can be read again", source=self.name)
        more = [f"and {len(problems) - MAX_NAMED} more"] if len(problems) > MAX_NAMED else []
        emit(SourceHealth(self.name, "; ".join([*problems[:MAX_NAMED], *more])))


class _Looker:
    """Looks at the files, in worker threads, one look at a time."""

    def __init__(self, path: Path, walker: Walker, watches: Watches, timings: Timings) -> None:
        self.matters: dict[int, set[str]] = {}
        self._path = path
        self._walker = walker
        self._watches = watches
        self._timings = timings
        self._stop = threading.Event()

    async def stop_when_cancelled(self) -> None:
        """Have a look that is under way end early once this is cancelled."""
        try:
            await anyio.sleep_forever()
        finally:
            self._stop.set()

    def look(self, before: _Picture) -> _Picture:
        """Return the picture of now; afterwards ``matters`` has the watches, and the names that matter in each."""
        self.matters = {}
        try:
            with open_files(self._walker, str(self._path), wanted=is_file_name, visit=self._visit) as opened:
                return self._look_into(opened, before)
        except Unusable as error:
            return replace(before, problem=f"{self._path}: {error}", again=math.inf)
        except OSError as error:
            return replace(before, problem=f"{self._path}: {in_words(error)}", again=math.inf)

    def _visit(self, _place: str, name: str, directory: int, mount: Mount) -> None:
        """Watch a directory on the way, for a name in it; the directory of the files for any."""
        if mount.type == "proc" or not mount.never_hangs:
            return
        try:
            watch = self._watches.add(f"/proc/self/fd/{directory}")
        except OSError:  # it is told if a limit is the reason
            return
        self.matters.setdefault(watch, set()).add(name)

    def _look_into(self, opened: OpenFiles, before: _Picture) -> _Picture:
        if opened.names is None:
            known = self._examine(opened, "", self._path, before.files.get(self._path))
            if known is None or (known.signature is None and self._path not in before.files and known.problem):
                return replace(before, problem=known.problem if known else "", again=math.inf)
            return _Picture({self._path: known}, again=known.again)
        directory = (opened.status.device, opened.status.inode)
        if held := self._hold_back(opened, before, directory):
            return held
        files: dict[Path, _Known] = {}
        for name in opened.names:
            path = self._path / name
            if self._stop.is_set():
                return before
            known = self._examine(opened, name, path, before.files.get(path))
            if known is not None:
                files[path] = known
        again = min((known.again for known in files.values()), default=math.inf)
        return _Picture(files, again=again, directory=directory)

    def _hold_back(self, opened: OpenFiles, before: _Picture, directory: tuple[int, int]) -> _Picture | None:
        """Return the picture of before if the directory is another one, which does not have all that was there, yet."""
        names = {self._path / name for name in opened.names or ()}
        if before.directory in {None, directory} or before.files.keys() <= names:
            return None
        if not names:
            return replace(
                before,
                again=math.inf,
                problem=f"{self._path}: is another directory than before, and empty; "
                "put a file with [] into it to withdraw what was declared",
            )
        quiet_for = time.time_ns() - opened.status.mtime_ns
        if 0 <= quiet_for < REPLACED * 1e9:
            return replace(before, again=REPLACED)
        return None

    def _examine(self, opened: OpenFiles, name: str, path: Path, known: _Known | None) -> _Known | None:
        """Return what is known of a file now, ``None`` if there is none."""
        try:
            with opened.file(name) as (found, status):
                if known is not None and known.signature == _signature(status):
                    return known
                return self._read(opened, found, status, path, known)
        except Vanished:
            return None
        except IsDirectory as error:
            return known and _Known(None, known.said, f"{path}: {error}")
        except Unusable as error:
            problem = f"{path}: {error}"
        except OSError as error:
            problem = f"{path}: {in_words(error)}"
        return _Known(None, known.said if known else None, problem)

    def _read(self, opened: OpenFiles, found: Found, status: Status, path: Path, known: _Known | None) -> _Known:
        said = known.said if known else None
        quiet, settle = self._timings.quiet, self._timings.settle
        if _written_within(status, quiet):
            return self._busy(path, known, again=quiet)
        content = opened.read(found, MAX_FILE_BYTES + 1)
        if content.written:
            return self._busy(path, known, again=quiet)
        if content.written is None and _written_within(content.status, settle):
            return self._busy(path, known, again=settle)
        signature = _signature(content.status)
        try:
            text = decode_text(path, content.data)
            file = InterfaceFile(path, parse_interfaces(path, text, revision=signature.mtime_ns), signature)
        except BrokenFile as error:
            return _Known(signature, said, str(error))
        if signature.size == 0 and said and said.entries:
            problem = f"{path}: is empty; write [] into it, or remove it, to withdraw what it declared"
            return _Known(signature, said, problem)
        return _Known(signature, file)

    def _busy(self, path: Path, known: _Known | None, *, again: float) -> _Known:
        """Return what is known of a file that is being written: what was known, and for how long it has been so."""
        known = known or _Known()
        since = time.monotonic() if known.busy_since is None else known.busy_since
        told = time.monotonic() - since > PATIENCE
        problem = f"{path}: is still open for writing" if told else known.problem
        # Whoever goes on and on is looked at less often.
        again = max(again, self._timings.settle) if told else again
        return replace(known, signature=None, busy_since=since, problem=problem, again=again)


def _written_within(status: Status, seconds: float) -> bool:
    return 0 <= time.time_ns() - status.mtime_ns < seconds * 1e9


def _signature(status: Status) -> Signature:
    return Signature(status.mtime_ns, status.inode, status.size)
