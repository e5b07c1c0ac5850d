"""What the kernel that the tests run on does differently from others, and nothing else tells."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path


def linux_version() -> tuple[int, int]:
    """Return the version of the kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor.partition("-")[0])


RENAMES_UP = linux_version() >= (6, 2)
"""Whether a link that is up can be renamed; older kernels want it down for that."""

MAY_GIVE_FILES_AWAY = os.geteuid() == 0 and "4294967295" in Path("/proc/self/uid_map").read_text()
"""Whether files can be given to other users: root of a user namespace of its own often has no others."""


@cache
def can_make(kind: str) -> bool:
    """Tell whether the kernel can make links of a kind; to know it, one is made and deleted."""
    add, delete = (["ip", "link", what, "name", "probe0", "type", kind] for what in ("add", "del"))
    made = subprocess.run(add, check=False, capture_output=True, timeout=20).returncode == 0
    if made:
        subprocess.run(delete, check=True, capture_output=True, timeout=20)
    return made
