"""The first process inside user-mode Linux, and its loader of modules: see ``user_mode_linux``.

It has nothing but Python's own library: ``-IS`` is how it is started.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import traceback
from fnmatch import fnmatchcase
from pathlib import Path

_FINIT_MODULE = 313
"""The number of the system call, on x86-64."""

_POWER_OFF = 0x4321FEDC
_NEEDED = ("ipv6", "veth", "tun")
"""What nobody asks the kernel for by a name that it knows, or before it is too late."""

_libc = ctypes.CDLL(None, use_errno=True)


def init(out: Path) -> None:
    """Make what a machine has, run the command, note how it ended, and switch the machine off."""
    try:
        inside = json.loads((out / "inside.json").read_text())
        kernel, folder = Path(inside["kernel"]), inside["folder"]
        mount("proc", "/proc")
        mount("sysfs", "/sys")
        mount("tmpfs", "/run")
        mount("tmpfs", "/mnt")
        if not os.path.ismount("/dev"):  # the kernel may have done that
            mount("devtmpfs", "/dev")
        mount("hostfs", str(out), source="none", data=str(out))
        for path in ("/run/netns", "/run/home", "/mnt/tmp", "/dev/net", "/dev/shm"):
            Path(path).mkdir(exist_ok=True)
        Path("/proc/sys/kernel/modprobe").write_text(str(kernel / "modprobe"))
        for name in _NEEDED:
            modprobe(kernel, name)
        if not Path("/dev/net/tun").exists():
            os.mknod("/dev/net/tun", 0o20666, os.makedev(10, 200))
        environment = inside["environment"] | {"HOME": "/run/home", "TMPDIR": "/mnt/tmp"}
        with (out / "output").open("wb") as output:
            done = subprocess.run(
                inside["command"], check=False, cwd=folder, env=environment, stdout=output, stderr=output
            )
        (out / "code").write_text(str(done.returncode))
    except OSError:
        traceback.print_exc()
    finally:
        os.sync()
        _libc.reboot(_POWER_OFF)


def mount(kind: str, where: str, *, source: str = "", data: str = "") -> None:
    """Mount a file system. Raises ``OSError``."""
    if _libc.mount((source or kind).encode(), where.encode(), kind.encode(), 0, data.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {kind} at {where}")


def modprobe(kernel: Path, wanted: str) -> None:
    """Load a module by its name or by an alias, after those that it needs; nothing where there is none."""
    [modules] = (kernel / "root/usr/lib/uml/modules").iterdir()
    paths: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        paths[Path(path).stem.replace("-", "_")] = [*reversed(needed.split()), path]
    names = {wanted.replace("-", "_")}
    for line in (modules / "modules.alias").read_text().splitlines():
        words = line.split()
        if words[:1] == ["alias"] and fnmatchcase(wanted, words[1]):
            names.add(words[2].replace("-", "_"))
    for name in names & paths.keys():
        for path in paths[name]:
            with (modules / path).open("rb") as module:
                _libc.syscall(_FINIT_MODULE, module.fileno(), b"", 0)  # one that is there already is refused


if __name__ == "__main__":
    if sys.argv[1] == "init":
        init(Path(sys.argv[2]))
    else:
        modprobe(Path(sys.argv[2]), sys.argv[-1])
