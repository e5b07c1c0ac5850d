"""Determines the type of the file system that an open file is on, without accessing that file system.

``statfs`` and ``stat`` ask the file system itself, which may hang. The kernel's own tables do not: the mount of a
descriptor is in ``/proc/self/fdinfo``, and the type of each mount in ``/proc/self/mountinfo``.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Final, NamedTuple

NEVER_HANGS: Final = frozenset(
    {
        *("bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "hugetlbfs", "mqueue"),
        *("nsfs", "proc", "pstore", "ramfs", "rootfs", "securityfs", "sysfs", "tmpfs", "tracefs"),
        *("bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "ntfs3", "overlay"),
        *("squashfs", "udf", "vfat", "xfs", "zfs", "hostfs"),
    }
)
"""Types of the kernel's own file systems and of those on disks. All others are assumed to hang at times."""

AUTOMOUNTED: Final = "autofs"
"""The type of a mount point where a file system is mounted on first access."""


class Mount(NamedTuple):
    """A mount: its id, and the type of its file system, empty if it is not in this mount namespace."""

    id: int
    type: str

    @property
    def never_hangs(self) -> bool:
        """Whether its file system always responds."""
        return self.type in NEVER_HANGS


class MountTypes:
    """The types of all mounts; thread-safe."""

    def __init__(self) -> None:
        """Open the mount table. Raises ``OSError``."""
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)
        self._types: dict[int, str] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the mount table."""
        os.close(self._file)

    def mount_of(self, fd: int) -> Mount:
        """Return the mount that an open file is on. Raises ``OSError``."""
        id = _mount_id(fd)
        with self._lock:
            # While the file is open its mount keeps its id, so a table that is still current has it.
            changed = bool(self._poll.poll(0))
            if changed or self._types is None:
                self._types = self._read()
            return Mount(id, self._types.get(id, ""))

    def _read(self) -> dict[int, str]:
        os.lseek(self._file, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._file, 1 << 18):
            parts.append(part)
        types = {}
        for line in b"".join(parts).splitlines():
            before, _, after = line.partition(b" - ")
            types[int(before.split(b" ", 1)[0])] = after.split(b" ", 1)[0].decode(errors="replace")
        return types


def _mount_id(fd: int) -> int:
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(info, 4096)
    finally:
        os.close(info)
    for line in text.splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return -1
