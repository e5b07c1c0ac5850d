"""Files of interfaces: YAML or JSON, each with one interface, a list of them, or ``{interfaces: [...]}``.

An interface has the fields of the ligato v1.4.1 message, in any spelling that
:func:`ifagent.formats.ligato_v1.decode_fields` takes; enums may be names. A directory of such files is its
``*.json``, ``*.yaml`` and ``*.yml``, hidden ones left out, in the order of their names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ifagent.core.events import Declaration
from ifagent.core.resources import Key, interface_key
from ifagent.errors import BrokenFile, InvalidInterface
from ifagent.formats.fields import JsonObject, first_of
from ifagent.formats.ligato_v1 import decode_fields
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.formats.yaml import BrokenYaml, read_yaml

SUFFIXES = (".json", ".yaml", ".yml")
"""What the names of files in a directory end in."""

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Largest file that is read."""

MAX_INTERFACES = 20_000
"""Most interfaces in one file."""

LIST_KEY = "interfaces"
"""Under this key a file that is an object has its interfaces."""


class Signature(NamedTuple):
    """What tells that a file is not the one that was read: time in ns, inode and size in bytes."""

    mtime_ns: int
    inode: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """Take it from what ``stat`` says."""
        return cls(status.st_mtime_ns, status.st_ino, status.st_size)


@dataclass(frozen=True, slots=True)
class Entry:
    """One interface in a file, or what is wrong with it.

    ``index`` counts from 0. ``line`` is where it begins, from 1, and 0 where that is not known (JSON). The
    declaration's revision is the file's modification time in ns; one without a usable name is called
    ``FILE[INDEX]``.
    """

    declaration: Declaration
    index: int
    line: int

    @property
    def place(self) -> str:
        """``line 3``, or ``entry 1`` (from 1) where the line is not known."""
        return f"line {self.line}" if self.line else f"entry {self.index + 1}"


@dataclass(frozen=True, slots=True)
class InterfaceFile:
    """What one file says, and which state of the file that was."""

    path: Path
    entries: tuple[Entry, ...]
    signature: Signature


def list_files(path: Path) -> list[Path]:
    """Return the files that are meant by ``path``: itself, or those in the directory, in sorted order.

    Raises ``OSError`` if it does not exist or cannot be listed.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    with os.scandir(path) as found:
        names = [entry.name for entry in found if is_file_name(entry.name) and entry.is_file()]
    return [path / name for name in sorted(names)]


def is_file_name(name: str) -> bool:
    """Tell whether a file of this name in a directory is one of interfaces."""
    return not name.startswith(".") and name.endswith(SUFFIXES)


def read_text(path: Path) -> tuple[str, Signature]:
    """Read a file as UTF-8, with the state it was in before. Raises :class:`BrokenFile`, and nothing else.

    It may be a pipe, for which it waits: it is what somebody has named, see :func:`read_stored_text` for others.
    """
    return _read_text(path, lambda _: None)


def read_stored_text(path: Path) -> tuple[str, Signature]:
    """Read a file that somebody else may have put there: as :func:`read_text`, but no pipe and no device.

    Nor a symbolic link that is neither root's nor the reader's, unless to a file of the same owner's.
    """

    def check(status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise BrokenFile(path, "is not a regular file")
        here = path.lstat()
        if not stat.S_ISLNK(here.st_mode):
            if (here.st_dev, here.st_ino) != (status.st_dev, status.st_ino):
                raise BrokenFile(path, "has just been replaced")
        elif here.st_uid not in {0, os.geteuid(), status.st_uid}:
            raise BrokenFile(path, f"is a symbolic link of user {here.st_uid} to a file of another owner")

    return _read_text(path, check, flags=os.O_NONBLOCK | os.O_NOCTTY)


def _read_text(path: Path, check: Callable[[os.stat_result], None], *, flags: int = 0) -> tuple[str, Signature]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags), "rb") as file:
            status = os.fstat(file.fileno())
            check(status)
            signature = Signature.of(status)
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BrokenFile(path, error.strerror or str(error)) from None
    return decode_text(path, data), signature


def read_interfaces(path: Path, *, read: Callable[[Path], tuple[str, Signature]] = read_text) -> InterfaceFile:
    """Read one file; JSON if its name ends so, else YAML. Interfaces with errors do not stop the others.

    Raises :class:`BrokenFile`, and nothing else, when the file as a whole cannot be used.
    """
    text, signature = read(path)
    return InterfaceFile(path, parse_interfaces(path, text, revision=signature.mtime_ns), signature)


def decode_text(path: Path, data: bytes) -> str:
    """Return what is in a file as text. Raises :class:`BrokenFile` if it is no UTF-8, or too much."""
    if len(data) > MAX_FILE_BYTES:
        raise BrokenFile(path, f"has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile(path, f"is not UTF-8 text: {error.reason}", line=line) from None


def parse_interfaces(path: Path, text: str, *, revision: int = 0) -> tuple[Entry, ...]:
    """Read the text of the file at ``path``. Raises :class:`BrokenFile`, and nothing else."""
    items, lines = _split(path, text)
    lines = lines if len(lines) == len(items) else [0] * len(items)
    return tuple(
        Entry(_declare(path, index, fields, revision), index, line)
        for index, (fields, line) in enumerate(zip(items, lines, strict=True))
    )


def _split(path: Path, text: str) -> tuple[Sequence[object], list[int]]:
    """Return the objects that should be interfaces, and, for YAML, the lines they begin in."""
    if path.suffix == ".json":
        return _items(path, _parse_json(path, text)), []
    try:
        document, lines = read_yaml(text, items=LIST_KEY)
    except BrokenYaml as error:
        where = f"column {error.column}: " if error.column else ""
        raise BrokenFile(path, where + error.problem, line=error.line) from None
    return _items(path, document), lines


def merge(files: Iterable[InterfaceFile]) -> dict[Key, Declaration]:
    """Return what the files declare together: of one name the first counts, with a warning that names the others."""
    first: dict[Key, Path] = {}
    merged: dict[Key, Declaration] = {}
    others: dict[Key, list[str]] = {}
    for file in files:
        for entry in file.entries:
            key = entry.declaration.key
            if key not in merged:
                merged[key], first[key] = entry.declaration, file.path
                continue
            others.setdefault(key, []).append(f"is also declared in {_shown(file.path.name)}, {entry.place}")
    for key, told in others.items():
        counts = f"the one in {_shown(first[key].name)} takes precedence"
        warnings = (f"{again}; {counts}" for again in first_of(told))
        merged[key] = replace(merged[key], warnings=(*merged[key].warnings, *warnings))
    return merged


def _parse_json(path: Path, text: str) -> object:
    if not text.strip():
        return None
    try:
        return read_json(text, pairs=JsonObject)
    except BrokenJson as error:
        where = f"column {error.column}: " if error.column else ""
        raise BrokenFile(path, where + error.problem, line=error.line) from None


def _items(path: Path, document: object) -> Sequence[object]:
    items: object = document
    if isinstance(document, JsonObject | Mapping):
        items = dict(document.items()).get(LIST_KEY, [document])
        items = [] if items is None else items
    elif document is None:
        items = []
    if not isinstance(items, list):
        raise BrokenFile(path, f"must hold an interface, a list of them, or an object with a list under {LIST_KEY!r}")
    if len(items) > MAX_INTERFACES:
        raise BrokenFile(path, f"has {len(items)} interfaces, at most {MAX_INTERFACES} are allowed in one file")
    return items


def _shown(name: str) -> str:
    """Return a file's name as text, whatever its bytes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _declare(path: Path, index: int, fields: object, revision: int) -> Declaration:
    try:
        decoded = decode_fields(fields, name=None)
    except InvalidInterface as error:
        usable = error.name and all(wrong.field != "name" for wrong in error.errors)
        name = error.name if usable else f"{_shown(path.name)}[{index}]"
        return Declaration(key=interface_key(name), errors=error.errors, revision=revision)
    return Declaration.of(decoded.interface, warnings=decoded.warnings, revision=revision)
