"""Walks a path component by component, each directory held by a descriptor, so that no step blocks for ever.

Results are held by ``O_PATH`` descriptors: they can be obtained for anything, even a FIFO or a device, without opening
it, and keep referring to the same object whatever happens to the path.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EINVAL, ELOOP
from typing import Final

from ifagent.filesystem.helper_process import is_written_to
from ifagent.filesystem.helpers import Content, Helpers, Seen, Status, Step
from ifagent.filesystem.mount_types import AUTOMOUNTED, Mount, MountTypes

MAX_LINKS: Final = 40
"""Most symbolic links in one walk, the kernel's own limit."""

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PROC_ROOT_INODE: Final = 1
_OF_NAMESPACES: Final = frozenset({"ns"})


class MayHang(Exception):
    """The path leads across a file system that may hang, and helpers are not allowed."""


@dataclass(slots=True)
class Found:
    """A file system object, held by ``fd`` (``O_PATH``), which the caller closes.

    ``place`` is its path without symbolic links, ``link_owners`` has the owners of the links that were followed.
    ``status`` is ``None`` at the root of a mount whose file system was not accessed.
    """

    fd: int
    place: str
    mount: Mount
    status: Status | None
    link_owners: frozenset[int] = frozenset()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


Visit = Callable[[str, str, int, Mount], None]
"""Called before each step with the directory's place, the name, the directory's descriptor and its mount."""


class Walker:
    """Walks paths; safe to use from several worker threads.

    ``helpers`` take the steps that may hang; they are closed with the walker.
    """

    def __init__(self, helpers: Helpers | None = None) -> None:
        """Open the mount table. Raises ``OSError``."""
        self._mounts = MountTypes()
        self._helpers = helpers or Helpers()

    @property
    def helpers(self) -> Helpers:
        """The helpers that take steps which may hang."""
        return self._helpers

    def close(self) -> None:
        """Close everything; no walk may be in progress."""
        self._helpers.close()
        self._mounts.close()

    @contextmanager
    def at(self, path: str, *, visit: Visit | None = None, patient: bool = True) -> Iterator[Found]:
        """Hold the result of :meth:`walk` while the block lasts."""
        found = self.walk(path, visit=visit, patient=patient)
        try:
            yield found
        finally:
            found.close()

    def walk(self, path: str, *, start: Found | None = None, visit: Visit | None = None, patient: bool = True) -> Found:
        """Resolve an absolute path, or one relative to the directory ``start``.

        Takes no longer than the ``answer_time`` of the helpers' limits if steps may hang; with ``patient`` false it
        raises :class:`MayHang` instead. Raises ``OSError`` as ``open`` would.
        """
        at = self._root() if start is None else _again(start)
        until = time.monotonic() + self._helpers.limits.answer_time
        walk = _Walk(self, visit, patient=patient, at=at, until=until)
        try:
            return walk.go(path)
        except BaseException:
            walk.at.close()
            raise

    def names(self, directory: Found) -> list[str]:
        """Return the names in a directory, in arbitrary order. Raises ``OSError``."""
        if directory.mount.never_hangs:
            return os.listdir(f"/proc/self/fd/{directory.fd}")  # noqa: PTH208 making a Path of each takes longer
        return self._helpers.names(directory.mount.id, directory.fd)

    def status(self, found: Found) -> Status:
        """Return the status of an object. Raises ``OSError``."""
        if found.status is None:
            found.status = self._helpers.status(found.mount.id, found.fd)
        return found.status

    def read(self, file: Found, size: int) -> Content:
        """Return at most ``size`` bytes of a regular file, none if it has a lease. Raises ``OSError``."""
        if not file.mount.never_hangs:
            return self._helpers.read(file.mount.id, file.fd, size)
        # Opens the object that was looked up; non-blocking, because another process may have a lease on it.
        try:
            opened = os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except BlockingIOError:  # the holder of the lease may be writing
            return Content(self.status(file), b"", written=True)
        try:
            status, written = Status.of(os.fstat(opened)), is_written_to(opened)
            data = bytearray()
            while len(data) < size and (more := os.read(opened, size - len(data))):
                data += more
        finally:
            os.close(opened)
        return Content(status, bytes(data), written)

    def mount_of(self, fd: int) -> Mount:
        """Return the mount that a descriptor belongs to."""
        return self._mounts.mount_of(fd)

    def _root(self) -> Found:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return Found(fd, "/", self._mounts.mount_of(fd), None)
        except BaseException:
            os.close(fd)
            raise


def _again(found: Found) -> Found:
    return Found(os.dup(found.fd), found.place, found.mount, found.status)


@dataclass(slots=True)
class _Walk:
    """One walk, which has arrived ``at`` an object."""

    walker: Walker
    visit: Visit | None
    patient: bool
    at: Found
    until: float
    links: int = 0
    owners: set[int] = field(default_factory=set)

    def go(self, path: str) -> Found:
        todo = path.split("/")[::-1]
        if path.startswith("/") and self.at.place != "/":
            self._move(self.walker._root())  # noqa: SLF001 the same module
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if "\0" in name:
                raise OSError(EINVAL, os.strerror(EINVAL))
            if self.visit is not None and name != "..":
                self.visit(self.at.place, name, self.at.fd, self.at.mount)
            step, target = self._look(name)
            if target is None:
                self._move(step)
                continue
            self._follow(name, step, target, todo)
        self.at.link_owners = frozenset(self.owners)
        return self.at

    def _follow(self, name: str, link: Found, target: str, todo: list[str]) -> None:
        """Follow a symbolic link: jump to its target, or add it to the components to walk."""
        link.close()
        self.links += 1
        if self.links > MAX_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP))
        assert link.status is not None  # noqa: S101 a link has been looked at
        self.owners.add(link.status.owner)
        if self._is_magic():
            self._jump(name)
            return
        if target.startswith("/"):
            self._move(self.walker._root())  # noqa: SLF001 the same module
        todo += target.split("/")[::-1]

    def _is_magic(self) -> bool:
        """Tell whether links here are magic links, which ignore their text: those of procfs below its root are."""
        if self.at.mount.type != "proc":
            return False
        return os.fstat(self.at.fd).st_ino != _PROC_ROOT_INODE

    def _jump(self, name: str) -> None:
        place = _below(self.at.place, name)
        if self.at.place.rpartition("/")[2] in _OF_NAMESPACES:
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=self.at.fd)
            self._move(Found(fd, place, Mount(-1, "nsfs"), Status.of(os.fstat(fd))))
            return
        # The root or working directory of a process may be on any file system, and the jump itself accesses it.
        seen = self._ask(Step.THERE, self.at, name)
        self._move(self._held(seen.fd, place, seen.status))

    def _look(self, name: str) -> tuple[Found, str | None]:
        """Take one step; return the object, and its target if it is a symbolic link."""
        at, place = self.at, _above(self.at.place) if name == ".." else _below(self.at.place, name)
        if not at.mount.never_hangs:
            seen = self._ask(Step.HERE, at, name)
            return self._held(seen.fd, place, seen.status), seen.target
        found = self._held(os.open(name, _LOOK, dir_fd=at.fd), place, None)
        if found.mount.type == AUTOMOUNTED:
            found.close()
            seen = self._ask(Step.DIRECTORY, at, name)
            return self._held(seen.fd, place, seen.status), None
        if not found.mount.never_hangs:
            return found, None
        try:
            found.status = Status.of(os.fstat(found.fd))
            is_link = stat.S_ISLNK(found.status.mode)
            return found, os.readlink("", dir_fd=found.fd) if is_link else None
        except BaseException:
            found.close()
            raise

    def _held(self, fd: int, place: str, status: Status | None) -> Found:
        try:
            return Found(fd, place, self.walker.mount_of(fd), status)
        except BaseException:
            os.close(fd)
            raise

    def _ask(self, how: Step, at: Found, name: str) -> Seen:
        """Let a helper take a step."""
        if not self.patient:
            raise MayHang
        within = self.until - time.monotonic()
        return self.walker.helpers.look(how, at.mount.id, at.fd, name, within=within)

    def _move(self, to: Found) -> None:
        self.at.close()
        self.at = to


def _above(place: str) -> str:
    return place.rpartition("/")[0] or "/"


def _below(place: str, name: str) -> str:
    return f"{place.rstrip('/')}/{name}"
