"""What the kernel that the tests run on does differently from others, and nothing else tells."""

from __future__ import annotations

import os


def linux_version() -> tuple[int, int]:
    """Return the version of the kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor.partition("-")[0])


RENAMES_UP = linux_version() >= (6, 2)
"""Whether a link that is up can be renamed; older kernels want it down for that."""
