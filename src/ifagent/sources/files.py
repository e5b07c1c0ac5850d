"""Intent from files: a YAML or JSON file, or a directory of them.

What inotify tells only says "look again"; a look compares every file's time, inode and size with what was read
and reads what is different. A slow look at an interval finds what inotify cannot see: changes behind symbolic
links, on network file systems, and after a directory further up was moved.

The last say stands as long as something cannot be read: a file that is broken goes on saying what it said, and
if the whole path is away, so does everything. A file that was never readable makes the snapshot incomplete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from asyncinotify import Inotify, Mask

from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.interface import Name
from ifagent.errors import BrokenFile
from ifagent.formats.files import InterfaceFile, Signature, list_files, merge, read_interfaces
from ifagent.log import log

QUIET = 0.02
"""Seconds that a file must not have been written to before it is read, and that changes are collected."""

PATIENCE = 1.0
"""Most seconds that a file which is written to again and again is waited for."""

INTERVAL = 10.0
"""Seconds between two looks when nothing was told."""

_MASK = (
    Mask.CLOSE_WRITE
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE
    | Mask.MOVE_SELF
    | Mask.ATTRIB
    | Mask.ONLYDIR
)


@dataclass(frozen=True, slots=True)
class _Known:
    """One file as it was when last looked at.

    ``said`` is what it said when it could last be read, ``None`` if it never could. ``problem`` is why it
    cannot be read now.
    """

    signature: Signature | None
    said: InterfaceFile | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Picture:
    """Everything known after one look, by path in sorted order; ``problem`` is that of the path itself."""

    files: Mapping[Path, _Known] = field(default_factory=dict)
    problem: str = ""
    never_listed: bool = False
    busy: bool = False

    @property
    def problems(self) -> list[str]:
        own = [self.problem] if self.problem else []
        return own + [known.problem for known in self.files.values() if known.problem]

    @property
    def complete(self) -> bool:
        """False while something may be declared that was never read."""
        return not self.never_listed and all(known.said for known in self.files.values())

    def declarations(self) -> dict[Name, Declaration]:
        return merge(known.said for known in self.files.values() if known.said)


class FileSource:
    """What the file, or the files in the directory, at ``path`` declare; it calls itself ``name``.

    The path need not exist yet. Making one does nothing.
    """

    def __init__(self, path: Path | str, *, name: str = "file") -> None:
        self.name = name
        self._path = Path(path).absolute()
        self._picture = _Picture(never_listed=True)
        self._said: dict[Name, Declaration] = {}
        self._said_complete: bool | None = None
        self._told: list[str] = []
        self._blind = ""
        self._news = anyio.Event()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Tell ``emit`` what is declared, until cancelled.

        A :class:`SourceSnapshot` comes first, and again when it becomes complete or incomplete; else one
        :class:`Declared` for every name that changed, all of one look without an ``await`` between them.
        :class:`SourceHealth` names files that cannot be read, and is emitted when that changes. Never returns.
        """
        self._picture, self._said_complete, self._told = _Picture(never_listed=True), None, []
        with Inotify() as inotify:
            # The library means to, and passes the wrong flag.
            os.set_blocking(inotify.fd, False)
            async with anyio.create_task_group() as group:
                self._news = anyio.Event()
                group.start_soon(self._listen, inotify)
                while True:
                    self._watch(inotify)
                    await self._look()
                    self._tell(emit)
                    with anyio.move_on_after(INTERVAL):
                        await self._news.wait()
                        await anyio.sleep(QUIET)
                    self._news = anyio.Event()

    async def _listen(self, inotify: Inotify) -> None:
        async for _ in inotify:
            self._news.set()

    def _watch(self, inotify: Inotify) -> None:
        """Watch where the next change will be seen: the directory, else the nearest one above that exists."""
        watched = None
        for directory in (self._path, *self._path.parents):
            try:
                watched = inotify.add_watch(directory, _MASK)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._complain(str(error))
            break
        for watch in inotify.watches:
            if watch is not watched:
                inotify.rm_watch(watch)

    def _complain(self, problem: str) -> None:
        if problem != self._blind:
            log.warning("changes are found at an interval only", source=self.name, seconds=INTERVAL, problem=problem)
        self._blind = problem

    async def _look(self) -> None:
        """Bring the picture up to date, once the files are quiet."""
        patient_until = anyio.current_time() + PATIENCE
        while True:
            patient = anyio.current_time() < patient_until
            look = partial(_look, self._path, self._picture, patient=patient)
            picture = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
            if not picture.busy:
                self._picture = picture
                return
            await anyio.sleep(QUIET)

    def _tell(self, emit: Callable[[Event], None]) -> None:
        picture = self._picture
        self._tell_problems(emit)
        before, self._said = self._said, picture.declarations()
        if picture.complete is not self._said_complete:
            self._said_complete = picture.complete
            emit(SourceSnapshot(self.name, self._said, picture.complete))
            return
        for name in before.keys() - self._said.keys():
            emit(Declared(self.name, name, None))
        for name, declaration in self._said.items():
            if declaration != before.get(name):
                emit(Declared(self.name, name, declaration))

    def _tell_problems(self, emit: Callable[[Event], None]) -> None:
        problems = self._picture.problems
        for problem in problems:
            if problem not in self._told:
                log.warning("cannot be read, what it said before stands", source=self.name, problem=problem)
        if problems != self._told:
            if not problems:
                log.info("everything can be read again", source=self.name)
            emit(SourceHealth(self.name, "; ".join(problems)))
        self._told = problems


def _look(path: Path, before: _Picture, *, patient: bool) -> _Picture:
    """Return the picture of now. With ``patient``, it is ``busy`` while a file that is new or changed is not quiet."""
    try:
        paths = list_files(path)
    except OSError as error:
        return _Picture(before.files, f"{path}: {error.strerror or error}", before.never_listed)
    files = {}
    for file in paths:
        known = before.files.get(file)
        signature = _signature(file)
        if known is None or signature is None or known.signature != signature:
            if patient and signature and 0 <= time.time_ns() - signature.mtime_ns < QUIET * 1e9:
                return _Picture(busy=True)
            known = _read(file, known, signature)
        files[file] = known
    return _Picture(files)


def _signature(path: Path) -> Signature | None:
    try:
        return Signature.of(path.stat())
    except OSError:
        return None


def _read(path: Path, known: _Known | None, signature: Signature | None) -> _Known:
    said = known.said if known else None
    try:
        file = read_interfaces(path)
    except BrokenFile as error:
        return _Known(signature, said, str(error))
    if file.signature.size == 0 and said and said.entries:
        return _Known(
            signature, said, f"{path}: is empty; write [] into it, or remove it, to withdraw what it declared"
        )
    return _Known(file.signature, file)
