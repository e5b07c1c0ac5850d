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
    if kind in {"tap", "tun"}:
        made = _ip("tuntap", "add", "dev", "probe0", "mode", kind) == 0
        return made and _ip("link", "del", "probe0") == 0
    if kind == "bridge with VLANs":
        made = _ip("link", "add", "name", "probe0", "type", "bridge", "vlan_filtering", "1") == 0
        return made and _ip("link", "del", "probe0") == 0
    needs_lower = kind in {"vlan", "macvlan", "macvtap", "ipvlan"}
    arguments = {
        "vlan": ["id", "7"],
        "vrf": ["table", "7"],
        "vxlan": ["id", "7", "dstport", "4789"],
        "geneve": ["id", "7", "remote", "192.0.2.1"],
        **{mode: ["remote", "192.0.2.1"] for mode in ("gre", "gretap", "ipip", "sit")},
        **{mode: ["remote", "2001:db8::1"] for mode in ("ip6gre", "ip6gretap", "ip6tnl")},
    }.get(kind, [])
    if needs_lower:
        _ip("link", "add", "probe1", "type", "veth", "peer", "name", "probe2")
    lower = ["link", "probe1"] if needs_lower else []
    made = _ip("link", "add", *lower, "name", "probe0", "type", kind, *arguments) == 0
    if made:
        _ip("link", "del", "probe0")
    if needs_lower:
        _ip("link", "del", "probe1")
    return made


def _ip(*arguments: str) -> int:
    return subprocess.run(["ip", *arguments], check=False, capture_output=True, timeout=20).returncode
