"""The file in which an agent keeps what it must not take from marks that others can forge.

One JSON document in the runtime directory, ``<label>.<own namespace>.json``, for the agent's user alone. It need not
outlive a boot, as links and namespaces do not. What cannot be read is as good as lost: the agent goes on without.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from ifagent.core.link import NsId
from ifagent.core.remembered import Remembered
from ifagent.errors import BrokenFile
from ifagent.formats.remembered import parse_remembered, remembered_to_json
from ifagent.kernel.threads import run_in_thread
from ifagent.log import log

MAX_BYTES: Final = 64 << 20
_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o755


class RuntimeFile:
    """What an agent remembers, in memory and on disk; ``directory`` ``None``: in memory only."""

    def __init__(self, directory: Path | None, label: str, own: NsId) -> None:
        self._path = None if directory is None else directory / f"{label}.{own}.json"
        self._saved = Remembered()

    def load(self) -> Remembered:
        """Return what is remembered; nothing where that cannot be read, which is logged."""
        if self._path is None:
            return self._saved
        try:
            self._saved = parse_remembered(_read(self._path), self._path)
        except FileNotFoundError:
            pass
        except (OSError, BrokenFile) as error:
            log.warning("cannot use the runtime file", path=str(self._path), problem=str(error))
        return self._saved

    async def save(self, remembered: Remembered) -> None:
        """Write what is to be remembered, if it is anything new; where that fails it is logged, and kept in memory."""
        if remembered is self._saved:
            return
        self._saved = remembered
        if self._path is not None:
            try:
                await run_in_thread(partial(_write, self._path, remembered_to_json(remembered)))
            except OSError as error:
                log.warning("cannot write the runtime file", path=str(self._path), problem=error.strerror)


def _read(path: Path) -> object:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise BrokenFile(path, "is not a file that only this agent's user may write")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BrokenFile(path, f"is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenFile(path, f"is not valid JSON: {error}") from None


def _write(path: Path, value: object) -> None:
    """Replace the file all at once."""
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(value, file)
    new.rename(path)
