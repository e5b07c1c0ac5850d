"""Declare interfaces by editing files, and follow their states through the agent's socket on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import anyio

from ifagent.agent_socket import fetch_states, watch_states
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.state import InterfaceState, StateEvent
from ifagent.errors import BrokenFile, SourceLost
from ifagent.formats.interface_files import (
    SUFFIXES,
    InterfaceFile,
    list_files,
    merge,
    parse_interfaces,
    read_interfaces,
    read_stored_text,
)
from ifagent.log import log
from ifagent.stores.files.edit import edit, new_text

_LONGEST_FILE_NAME = 200


class FileStore:
    """Client for the declarations in a file, or in the files of a directory, at ``path``, and for the agent's states.

    ``socket`` is the agent's. A path that does not exist is assumed to be a file if it has the suffix of one, else a
    directory, which is created when needed. Nothing is opened before it is needed.
    """

    def __init__(self, path: Path | str, *, socket: Path | str) -> None:
        self._path = Path(path).absolute()
        self._socket = Path(socket)

    async def __aenter__(self) -> Self:
        """Do nothing."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: nothing is left open."""

    async def put(self, interfaces: Iterable[Interface]) -> int:
        """Declare interfaces and return their revision, the time of the files in ns; 0 if there are none.

        An interface is replaced in the file where it counts; other fields and comments there stay. A new one
        gets a file of its own, or a place at the end if the store is one file. Every file is replaced as a
        whole, all of them at nearly one moment. Raises :class:`BrokenFile` if a file cannot be read (it may
        hold one of the interfaces), and :class:`SourceLost` if it cannot be written.
        """
        wanted = {interface.name: interface for interface in interfaces}
        return await anyio.to_thread.run_sync(self._put, wanted) if wanted else 0

    async def delete(self, names: Iterable[str]) -> frozenset[Name]:
        """Delete declarations in all files; return the names that were declared.

        In a directory, a file without interfaces left is removed. Raises as :meth:`put` does.
        """
        return await anyio.to_thread.run_sync(self._delete, frozenset(names))

    async def declarations(self) -> dict[Name, Declaration]:
        """Return all declarations, sorted by name; a file that cannot be read is logged."""
        return await anyio.to_thread.run_sync(self._declarations)

    async def states(self) -> dict[Name, InterfaceState]:
        """Return every state that the agent has. Raises :class:`SourceLost` if none answers."""
        return await fetch_states(self._socket)

    def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent has, then each change: see :func:`ifagent.agent_socket.watch_states`."""
        return watch_states(self._socket)

    def _declarations(self) -> dict[Name, Declaration]:
        files = []
        with self._source_errors():
            for path in list_files(self._path) if self._path.exists() else []:
                try:
                    files.append(read_interfaces(path, read=read_stored_text))
                except BrokenFile as error:
                    log.warning("cannot read file", problem=str(error))
        merged = merge(files)
        return {key.name: merged[key] for key in sorted(merged)}

    def _put(self, wanted: Mapping[Name, Interface]) -> int:
        with self._source_errors(), self._locked():
            found = self._read_all()
            where: dict[Name, Path] = {}
            for path, (file, _) in found.items():
                for entry in file.entries:
                    where.setdefault(entry.declaration.key.name, path)
            new = [interface for name, interface in wanted.items() if name not in where]
            texts = {path: text for path, (_, text) in found.items()}
            changes, taken = [], set(texts)
            if self._is_directory():
                for interface in new:
                    path = _free_path(self._path, interface.name, taken)
                    taken.add(path)
                    changes.append(_Change(path, new_text(interface)))
                new = []
            else:
                texts.setdefault(self._path, "")
            for path, text in texts.items():
                puts = {name: interface for name, interface in wanted.items() if where.get(name) == path}
                if puts or new:
                    changes.append(_Change(path, edit(path, text, puts=puts, adds=new)))
            newest = max((file.signature.mtime_ns for file, _ in found.values()), default=0)
            return _write(changes, max(time.time_ns(), newest + 1))

    def _delete(self, names: frozenset[Name]) -> frozenset[Name]:
        if not self._path.exists():
            return frozenset()
        with self._source_errors(), self._locked():
            gone: set[Name] = set()
            changes = []
            newest = 0
            for path, (file, text) in self._read_all().items():
                here = names & {entry.declaration.key.name for entry in file.entries}
                if here:
                    gone |= here
                    newest = max(newest, file.signature.mtime_ns)
                    changes.append(self._deletion(path, text, here))
            _write(changes, max(time.time_ns(), newest + 1))
            return frozenset(gone)

    def _deletion(self, path: Path, text: str, names: Iterable[Name]) -> _Change:
        left = edit(path, text, puts={}, deletes=frozenset(names))
        return _Change(path, None if self._is_directory() and not parse_interfaces(path, left) else left)

    def _read_all(self) -> dict[Path, tuple[InterfaceFile, str]]:
        found = {}
        for path in list_files(self._path) if self._path.exists() else []:
            text, signature = read_stored_text(path)
            entries = parse_interfaces(path, text, revision=signature.mtime_ns)
            found[path] = InterfaceFile(path, entries, signature), text
        return found

    def _is_directory(self) -> bool:
        return self._path.is_dir() or not (self._path.exists() or self._path.name.endswith(SUFFIXES))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock out other clients; creates the directory."""
        directory = self._path if self._is_directory() else self._path.parent
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _source_errors(self) -> Iterator[None]:
        """Turn errors of the file system into :class:`SourceLost`."""
        try:
            yield
        except OSError as error:
            place = f" ({error.filename})" if error.filename and str(error.filename) != str(self._path) else ""
            raise SourceLost(f"file:{self._path}", f"{error.strerror or error}{place}") from None


@dataclass(frozen=True, slots=True)
class _Change:
    """A file's new text; ``None`` removes it."""

    path: Path
    text: str | None


def _free_path(directory: Path, name: Name, taken: Iterable[Path]) -> Path:
    """Return a path for a new file; whatever the name, it stays in the directory and is not hidden."""
    safe = quote(name, safe=" +,=@:", errors="backslashreplace")
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe
    if len(safe) > _LONGEST_FILE_NAME:
        safe = f"{safe[:_LONGEST_FILE_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    path, number = directory / f"{safe}.json", 2
    while path in taken or path.exists():
        path, number = directory / f"{safe}-{number}.json", number + 1
    return path


def _write(changes: Iterable[_Change], stamp: int) -> int:
    """Write every file beside its place first, then put all in place; their time is ``stamp``, in ns."""
    changes = list(changes)
    # A symbolic link stays one.
    targets = [(change.path.resolve(), change.text) for change in changes if change.text is not None]
    ready = [
        (target.with_name(f".{target.name[:_LONGEST_FILE_NAME]}.{os.getpid()}.new"), target) for target, _ in targets
    ]
    try:
        for (temporary, _), (target, text) in zip(ready, targets, strict=True):
            _write_beside(temporary, target, text, stamp)
        for temporary, target in ready:
            temporary.replace(target)
        for change in changes:
            if change.text is None:
                change.path.unlink()
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)
    for directory in {change.path.resolve().parent for change in changes}:
        _sync_directory(directory)
    return stamp


def _write_beside(temporary: Path, target: Path, text: str, stamp: int) -> None:
    with temporary.open("w", encoding="utf-8") as file:
        with suppress(FileNotFoundError):
            before = target.stat()
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.utime(temporary, ns=(stamp, stamp))


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
