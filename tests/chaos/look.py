"""Looking at the kernel with the ``ip`` command, in every namespace that can be reached."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from chaos.observation import Link, SpaceId

NAMESPACES = Path("/run/netns")
OWN_PATH = "/proc/self/ns/net"


def space_at(path: str | Path) -> SpaceId:
    """Return the namespace that a path leads to, 0 if it leads to none."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0
    return found.st_ino if found.st_dev == Path(OWN_PATH).stat().st_dev else 0


def inside(path: str | Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace."""
    return subprocess.run(
        ["nsenter", f"--net={path}", *command], capture_output=True, text=True, timeout=20, check=False
    )


_LOOK = "cat /proc/sys/net/ipv6/conf/default/disable_ipv6 && exec ip -j -d address"


def links_in(path: str | Path, space: SpaceId) -> tuple[list[Link], bool]:
    """Return the links of a namespace but for ``lo``, and whether IPv6 is on; no links if it has gone meanwhile."""
    done = inside(path, "sh", "-c", _LOOK)
    if done.returncode:
        return [], True
    ipv6, _, links = done.stdout.partition("\n")
    found = [_link(link, space) for link in json.loads(links or "[]") if link.get("ifname", "lo") != "lo"]
    return found, ipv6 == "0"


def named() -> tuple[dict[str, SpaceId], set[str]]:
    """Return the named namespaces, and what else is in their directory."""
    entries = sorted(NAMESPACES.iterdir()) if NAMESPACES.is_dir() else []
    spaces = {path.name: space_at(path) for path in entries}
    return {name: space for name, space in spaces.items() if space}, {
        name for name, space in spaces.items() if not space
    }


def _link(found: dict[str, Any], space: SpaceId) -> Link:
    listed = [f"{address['local']}/{address['prefixlen']}" for address in found["addr_info"] if "local" in address]
    return Link(
        host_name=found["ifname"],
        space=space,
        ifindex=found["ifindex"],
        kind=found.get("linkinfo", {}).get("info_kind", ""),
        mac=found.get("address", ""),
        mtu=found["mtu"],
        up="UP" in found["flags"],
        alias=found.get("ifalias", ""),
        group=str(found.get("group", "")),
        # Automatic addresses are made of the MAC, or have 64 random bits; those of chaos are short.
        addresses=tuple(address for address in listed if not address.startswith("fe80") or address.endswith(":77/64")),
        peer=found.get("link_index", found.get("link")),
    )
