"""Helper processes that access file systems which may hang, with a time limit.

A helper that does not answer in time is killed and abandoned: it exits once the file system responds. Until then no
other helper accesses the same mount, and there are never more than a few. Helpers end with this process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from errno import ECONNRESET, EIO, ETIMEDOUT
from pathlib import Path
from typing import Any, Final, NamedTuple

from ifagent.log import log

MAX_NAME: Final = 4096
"""Longest name that is looked up, in bytes; the kernel's own limit is 255."""

_SCRIPT: Final = str(Path(__file__).with_name("helper_process.py"))
_MESSAGE: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long file systems are waited for, and by how many helpers."""

    answer_time: float = 1.5
    """Seconds that resolving one path may take, or another question about a file."""

    helpers: int = 8
    """Most helpers at one time, including abandoned ones."""


class Status(NamedTuple):
    """The fields of ``stat`` that are used; times are in ns."""

    mode: int
    device: int
    inode: int
    owner: int
    names: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Status:
        """Take the fields from the result of ``fstat``."""
        return cls(
            status.st_mode,
            status.st_dev,
            status.st_ino,
            status.st_uid,
            status.st_nlink,
            status.st_size,
            status.st_mtime_ns,
        )


class DoesNotAnswer(OSError):
    """A file system did not answer in time."""

    def __init__(self, text: str = "its file system is not responding") -> None:
        super().__init__(ETIMEDOUT, text)


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of a look-up: an ``O_PATH`` descriptor, its status, and the target if it is a symbolic link."""

    fd: int
    status: Status
    target: str | None


class Content(NamedTuple):
    """The content of a regular file, and its status before it was read.

    ``written``: whether any process had it open for writing then, ``None`` if unknown.
    """

    status: Status
    data: bytes
    written: bool | None


class Step(Enum):
    """How to look up a name: without following a symbolic link, as a directory, or following links to anything."""

    HERE = b"l"
    DIRECTORY = b"e"
    THERE = b"f"


class Helpers:
    """Helper processes, started when needed; safe to use from several worker threads."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits: Limits = limits
        self._lock = threading.Lock()
        self._idle: list[_Helper] = []
        self._busy = 0
        self._lost: dict[int, list[int]] = {}
        self._told: set[int] = set()
        self._closed = False

    @property
    def lost(self) -> int:
        """Number of abandoned helpers that have not ended."""
        with self._lock:
            self._collect()
            return sum(map(len, self._lost.values()))

    def look(self, how: Step, mount: int, directory: int, name: str, *, within: float) -> Seen:
        """Look up a name in a directory of a mount. Raises ``OSError``."""
        answer, fd = self._ask(mount, how.value + os.fsencode(name)[:MAX_NAME], directory, within)
        target = answer.get("target")
        return Seen(fd, Status(*answer["status"]), os.fsdecode(bytes.fromhex(target)) if target is not None else None)

    def names(self, mount: int, directory: int) -> list[str]:
        """Return the names in a directory. Raises ``OSError``."""
        _, fd = self._ask(mount, b"n", directory, self.limits.answer_time)
        return [os.fsdecode(name) for name in _content(fd).split(b"\0")[:-1]]

    def status(self, mount: int, file: int) -> Status:
        """Return the status of an open file. Raises ``OSError``."""
        answer, _ = self._ask(mount, b"s", file, self.limits.answer_time)
        return Status(*answer["status"])

    def read(self, mount: int, file: int, size: int) -> Content:
        """Return the content of a regular file, at most ``size`` bytes. Raises ``OSError``."""
        answer, fd = self._ask(mount, b"r" + str(size).encode(), file, self.limits.answer_time)
        return Content(Status(*answer["status"]), _content(fd), answer["written"])

    def close(self) -> None:
        """End idle helpers; does not wait for busy or abandoned ones."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for helper in idle:
            helper.end()
        with self._lock:
            self._collect()

    def _ask(self, mount: int, request: bytes, fd: int, within: float) -> tuple[dict[str, Any], int]:
        if within <= 0:
            raise DoesNotAnswer
        helper = self._take(mount)
        try:
            answer, result = helper.ask(request, fd, within=within)
        except BaseException as error:
            with self._lock:
                self._busy -= 1
                self._lost.setdefault(mount if isinstance(error, TimeoutError) else -1, []).append(helper.abandon())
                told = mount in self._told or not isinstance(error, TimeoutError)
                self._told.add(mount)
            if not told:
                log.warning("file system not responding", seconds=self.limits.answer_time, pid=helper.pid)
            if isinstance(error, TimeoutError):
                raise DoesNotAnswer from None
            raise
        with self._lock:
            self._busy -= 1
            self._told.discard(mount)
            closed = self._closed
            if not closed:
                self._idle.append(helper)
        if closed:
            helper.end()
        if number := answer.get("errno"):
            raise OSError(number, os.strerror(number))
        return answer, result

    def _take(self, mount: int) -> _Helper:
        with self._lock:
            self._collect()
            if mount in self._lost:
                raise DoesNotAnswer
            if self._idle:
                self._busy += 1
                return self._idle.pop()
            if self._busy + sum(map(len, self._lost.values())) >= self.limits.helpers:
                raise DoesNotAnswer("too many file systems are not responding")
            self._busy += 1
        try:
            return _Helper()
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def _collect(self) -> None:
        """Reap abandoned helpers that have ended."""
        for mount, pids in list(self._lost.items()):
            pids[:] = [pid for pid in pids if not _has_ended(pid)]
            if not pids:
                del self._lost[mount]


class _Helper:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise OSError(EIO, "no Python interpreter found for the helper process")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.O_RDWR
        actions = [
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, null, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, null, 0),
        ]
        # Not the whole environment: there may be passwords in it.
        environment = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
        try:
            self.pid: int = os.posix_spawn(
                sys.executable, [sys.executable, "-I", "-S", _SCRIPT], environment, file_actions=actions
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: bytes, fd: int, *, within: float) -> tuple[dict[str, Any], int]:
        """Send a request and return the answer. Raises ``TimeoutError``, or ``OSError`` if the process has ended."""
        self._socket.settimeout(within)
        try:
            socket.send_fds(self._socket, [request], [fd])
            message, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            message = b""
        if not message:
            raise OSError(ECONNRESET, "the helper process has ended")
        answer: dict[str, Any] = json.loads(message)
        return answer, descriptors[0] if descriptors else -1

    def abandon(self) -> int:
        """Kill the process without waiting for its end; return its id."""
        self._socket.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.pid

    def end(self) -> None:
        """End the process, which is idle and so exits immediately."""
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
