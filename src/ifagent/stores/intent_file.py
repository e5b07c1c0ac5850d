"""A file that keeps what one source declared to the agent of one label, for the day when the source is away.

JSON, in ASCII::

    {"version": 1, "written": "2026-01-31T12:00:00Z", "checksum": "<SHA-256 in hex>",
     "content": {"source": ..., "label": ..., "interfaces": [
        {"name": ..., "revision": ..., "warnings": [...], "value": {an interface as ligato v1.4.1 has it}},
        {"name": ..., "revision": ..., "warnings": [...], "errors": [{"field": ..., "message": ...}, ...]}]}}

The checksum covers version, time and content. A reader finds a whole old file or a whole new one, whatever happened
to the writer or the machine. What is not such a file, or could have been written by somebody else, is damaged: it is
set aside under the name ``NAME.damaged-TIME`` and never acted on.

Everything here blocks.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ifagent.core.events import Declaration
from ifagent.core.resources import Key, interface_key
from ifagent.errors import FieldError, InvalidInterface
from ifagent.formats import ligato_v1
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.log import log

VERSION: Final = 1
"""The version of the format that is written, and the only one that is read."""

MAX_BYTES: Final = 256 * 1024 * 1024
"""Largest file that is written or read; a hundred thousand interfaces need a quarter of it."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_REGULAR: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Damaged(Exception):
    """The file is not what was written; the message says why."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a source declared, as it was ``written`` (UTC, in whole seconds)."""

    written: datetime
    declarations: Mapping[Key, Declaration]


@dataclass(frozen=True, slots=True)
class _Document:
    written: datetime
    entries: list[Any]
    digest: bytes


class IntentFile:
    """The file in ``folder`` for one source and one label; making one does nothing.

    Used by one thread at a time. Two programs that write it take turns file by file, and the last one counts. A file
    that has been in writing for more than ``left_over`` seconds is one whose writer was killed.
    """

    def __init__(self, folder: Path, *, source: str, label: str, left_over: float = 60.0) -> None:
        self._left_over = left_over
        self._source = source
        self._label = label
        readable = re.sub(r"[^A-Za-z0-9_-]", "_", label)[:64]
        self.path: Path = (
            folder.absolute() / f"{readable}-{sha256(json.dumps([source, label]).encode()).hexdigest()[:16]}.json"
        )
        self._digest: bytes | None = None
        self._looked = False
        self._texts: dict[Key, tuple[Declaration, str]] = {}

    def read(self) -> Intent | None:
        """Return what was written last; ``None`` if there is no file, or it was damaged and is now set aside."""
        document = self._look()
        if document is None:
            return None
        try:
            declarations = map(_declaration, document.entries)
            return Intent(document.written, {declaration.key: declaration for declaration in declarations})
        except _Damaged as problem:
            self._set_aside(problem)
            return None

    def write(self, declarations: Mapping[Key, Declaration]) -> bool:
        """Keep these from now on; return whether there was anything to write.

        The folder is made if it is not there. On return the new file would survive a power cut. Raises ``OSError``;
        the old file is then untouched.
        """
        if not self._looked:
            self._look()
            self._remove_left_overs()
        content = self._content(declarations)
        digest = sha256(content).digest()
        if digest == self._digest and self.path.exists():
            return False
        written = datetime.now(UTC).strftime(_TIME)
        head = _dump({"version": VERSION, "written": written, "checksum": _checksum(written, content)})
        self._replace(head.removesuffix(b"}") + b',"content":' + content + b"}\n")
        self._digest = digest
        return True

    # Reading

    def _look(self) -> _Document | None:
        """Return what is there as far as it can be told without looking at the interfaces."""
        self._looked = True
        self._digest = None
        try:
            document = self._parse(_read(self.path))
        except FileNotFoundError:
            return None
        except (_Damaged, OSError) as problem:
            self._set_aside(problem)
            return None
        self._digest = document.digest
        return document

    def _parse(self, data: bytes) -> _Document:
        try:
            found = read_json(data)
        except BrokenJson as error:
            raise _Damaged(str(error)) from None
        match found:
            case {"version": version} if version != VERSION:
                raise _Damaged(f"has version {version!r:.20}, this program reads {VERSION}")
            case {
                "version": int(),
                "written": str(written),
                "checksum": str(checksum),
                "content": {"interfaces": [*entries], **rest},
            }:
                when = _moment(written)
                content = _dump(found["content"])
                if checksum != _checksum(written, content):
                    raise _Damaged("has a wrong checksum")
                if rest != {"source": self._source, "label": self._label}:
                    raise _Damaged("is that of another source or label")
                return _Document(when, entries, sha256(content).digest())
        raise _Damaged("does not have what it has to have")

    def _set_aside(self, problem: Exception) -> None:
        self._digest = None
        text = (problem.strerror if isinstance(problem, OSError) else "") or str(problem)
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        try:
            self.path.rename(aside)
        except OSError as error:
            text = f"{text}; it cannot be set aside: {error.strerror}"
            aside = self.path
        log.warning("last known intent is damaged, ignoring it", source=self._source, path=aside, problem=text)

    # Writing

    def _content(self, declarations: Mapping[Key, Declaration]) -> bytes:
        texts: dict[Key, tuple[Declaration, str]] = {}
        for key, declaration in declarations.items():
            known = self._texts.get(key)
            # Whoever declares a lot and changes little pays for what changed.
            same = known is not None and (known[0] is declaration or known[0] == declaration)
            texts[key] = known if known and same else (declaration, _dump(_entry(declaration)).decode())
        self._texts = texts
        # As _dump would write the whole, which is how a reader checks it.
        entries = ",".join(texts[key][1] for key in sorted(texts))
        head = _dump({"source": self._source, "label": self._label}).decode()
        return f'{head.removesuffix("}")},"interfaces":[{entries}]}}'.encode()

    def _replace(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Readable by its owner only.
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".new", dir=folder)
        new = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            new.replace(self.path)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _remove_left_overs(self) -> None:
        for path in self.path.parent.glob(f".{self.path.name}.*.new"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > self._left_over:
                    path.unlink()


def _read(path: Path) -> bytes:
    """Return what is in a file that nobody else can have written. Raises ``OSError`` and :class:`_Damaged`."""
    descriptor = os.open(path, _REGULAR)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Damaged("is not a regular file")
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _Damaged("could have been written by somebody else")
        if status.st_size > MAX_BYTES:
            raise _Damaged(f"has more than {MAX_BYTES} bytes")
        return file.read(status.st_size)


def _moment(written: str) -> datetime:
    try:
        return datetime.strptime(written, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise _Damaged("does not say when it was written") from None


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _checksum(written: str, content: bytes) -> str:
    return sha256(f"{VERSION} {written} ".encode() + content).hexdigest()


def _entry(declaration: Declaration) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": declaration.key.name,
        "revision": declaration.revision,
        "warnings": declaration.warnings,
    }
    if declaration.interface is not None:
        return {**entry, "value": json.loads(ligato_v1.encode(declaration.interface))}
    return {**entry, "errors": [{"field": error.field, "message": error.message} for error in declaration.errors]}


def _declaration(entry: Any) -> Declaration:
    match entry:
        case {"name": str(name), "revision": int(revision), "warnings": [*warnings], "value": {**value}}:
            texts = tuple(map(str, warnings))
            try:
                interface = ligato_v1.decode_fields(value, name=name).interface
            except InvalidInterface as error:  # the rules have become stricter since
                return Declaration(key=interface_key(name), errors=error.errors, warnings=texts, revision=revision)
            return Declaration.of(interface, warnings=texts, revision=revision)
        case {"name": str(name), "revision": int(revision), "warnings": [*warnings], "errors": [_, *_] as errors}:
            return Declaration(
                key=interface_key(name),
                errors=tuple(map(_error, errors)),
                warnings=tuple(map(str, warnings)),
                revision=revision,
            )
    raise _Damaged("has an interface that is none")


def _error(found: Any) -> FieldError:
    match found:
        case {"field": str(field), "message": str(message)}:
            return FieldError(field, message)
    raise _Damaged("has an error that is none")
