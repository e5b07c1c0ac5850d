"""Named namespaces, what is in them, and how they are made empty again."""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from errno import ENODEV
from pathlib import Path

from benchmarks.fixture import GROUP, End
from benchmarks.netlink import CLONE_NEWNET, Sender, delete_group, entered, packed
from ifagent.core.ownership import Owner

CHECKED = 100
"""Most namespaces that a check looks at."""

_MS_BIND = 4096
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Spaces:
    """Namespaces called ``s0`` and so on, in a directory of their own."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.names = [f"s{number}" for number in range(count)]

    @property
    def paths(self) -> list[Path]:
        """Their files."""
        return [self.directory / name for name in self.names]

    @classmethod
    @contextmanager
    def made(cls, directory: Path, count: int) -> Iterator[Spaces]:
        """Make them, and take them away afterwards."""
        spaces = cls(directory, count)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name in spaces.names:
                _make(directory / name)
            yield spaces
        finally:
            for name in spaces.names:
                _libc.umount2(os.fsencode(directory / name), _MNT_DETACH)
                (directory / name).unlink(missing_ok=True)

    def sweep(self, *labels: str) -> None:
        """Delete all pairs that the agents with these labels, and the other contenders, have made."""
        groups = [GROUP, *(Owner(label).group for label in labels)]

        def work() -> None:
            sender = Sender()
            for group in groups:
                sender.send(packed([delete_group(group)])[0], accept=[ENODEV])
            sender.close()

        with ThreadPoolExecutor(8) as threads:
            for _ in threads.map(lambda name: entered(str(self.directory / name), work), self.names):
                pass

    def check(self, ends: Iterable[End]) -> None:
        """Raise ``AssertionError`` unless the kernel has exactly these ends, as they are to be.

        Of very many namespaces, some are looked at.
        """
        wanted: dict[str, dict[str, object]] = {name: {} for name in self.names}
        for end in ends:
            wanted[end.space][end.name] = (end.mac, end.mtu, True, {end.ipv4, end.ipv6})
        for name in random.sample(self.names, min(CHECKED, len(self.names))):
            links = wanted[name]
            found = {link["ifname"]: _facts(link) for link in _listed(self.directory / name) if link["ifname"] != "lo"}
            assert found == links, f"namespace {name} has {found}, not {links}"


def _facts(link: dict[str, object]) -> object:
    flags, addresses = link["flags"], link["addr_info"]
    assert isinstance(flags, list)
    assert isinstance(addresses, list)
    texts = {f"{a['local']}/{a['prefixlen']}" for a in addresses if not a["local"].startswith("fe80")}
    return link["address"], link["mtu"], "UP" in flags, texts


def _listed(path: Path) -> Sequence[dict[str, object]]:
    done = subprocess.run(["nsenter", f"--net={path}", "ip", "-j", "addr"], capture_output=True, text=True, check=True)
    found: list[dict[str, object]] = json.loads(done.stdout or "[]")
    return [link for link in found if link]


def _make(path: Path) -> None:
    path.touch()

    def work() -> None:
        source = b"/proc/thread-self/ns/net"
        if _libc.unshare(CLONE_NEWNET) or _libc.mount(source, os.fsencode(path), None, _MS_BIND, None):
            errors.append(os.strerror(ctypes.get_errno()))

    errors: list[str] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise OSError(f"cannot make the namespace {path}: {errors[0]}")
