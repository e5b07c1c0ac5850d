"""Another Linux kernel as an ordinary process: user-mode Linux, which needs no privilege and no installation.

Debian has such a kernel in every release, with the libraries that it needs; both are fetched and unpacked in a folder.
Inside, the machine's root is there to be read, and what the command needs to write is in memory, but for one folder.
There is one processor, and a system call takes 50 us: what waits should do so ten times as long.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from debian import keyring, mirror, run

INSIDE = Path(__file__).with_name("user_mode_linux_inside.py")
"""What runs inside as the first process, and as the loader of modules."""

PATIENCE = "10"
"""How much longer than usual tests have to wait inside."""

MEMORY = "2G"

WITHIN = 120.0
"""Seconds within which a kernel has to be fetched, the packages' index with it; it takes 10."""

BOOTS_WITHIN = 60.0
"""The same for booting one that does nothing, which takes 2."""


class Unavailable(Exception):
    """There is no such kernel to be had on this machine, for the reason that the text gives."""


def fetch(release: str, folder: Path, *, within: float = WITHIN) -> Path:
    """Have the kernel of a Debian release in ``folder``, unless it is there, and return where it is.

    Raises :class:`Unavailable`, also where fetching takes longer than ``within`` seconds.
    """
    kernel = folder / release
    if kernel.exists():
        return kernel
    if platform.machine() != "x86_64":
        raise Unavailable(f"its packages are taken for x86-64 only, and this is {platform.machine()}")
    if missing := [name for name in ("apt-get", "dpkg") if not shutil.which(name)]:
        raise Unavailable(f"its packages are Debian's, and {' and '.join(missing)} are not here to fetch them")
    partial = kernel.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _unpack(release, partial, ends=time.monotonic() + within)
    except SystemExit as problem:
        raise Unavailable(" ".join(str(problem).split())) from None
    [loader] = [path for path in partial.rglob("ld-linux-x86-64.so.2") if not path.is_symlink()]
    patchelf = [str(loader), "--library-path", str(loader.parent), str(partial / "root/usr/bin/patchelf")]
    if extra := {path.parent for path in partial.rglob("libstdc++.so.6")} - {loader.parent}:
        patchelf[2] += f":{extra.pop()}"
    # It starts itself anew by its path, so it has to find its own libraries; they are newer than the machine's.
    final = kernel / loader.relative_to(partial)
    program = partial / "root/usr/bin/linux.uml"
    run(*patchelf, "--set-interpreter", str(final), "--set-rpath", str(final.parent), str(program))
    modprobe = partial / "modprobe"
    modprobe.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {INSIDE} modprobe {kernel} "$@"\n')
    modprobe.chmod(0o755)
    partial.rename(kernel)
    return kernel


def check_boots(kernel: Path, out: Path) -> None:
    """Boot a kernel that does nothing. Raises :class:`Unavailable` if that is not possible here."""
    process = start(kernel, ["true"], out)
    try:
        process.wait(BOOTS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if result(out):
        said = (out / "boot").read_text(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "nothing")
        raise Unavailable(f"user-mode Linux does not boot here; the last that it said is: {last.strip()}")


def _unpack(release: str, folder: Path, *, ends: float) -> None:
    """Unpack the packages of a release below ``folder``/root; ``ends`` is the monotonic time to give up."""
    for needed in ("lists/partial", "cache/archives/partial", "packages", "root"):
        (folder / needed).mkdir(parents=True)
    source = folder / "sources.list"
    source.write_text(f"deb [signed-by={keyring()}] {mirror()} {release} main\n")
    settings = {
        "Dir::Etc::SourceList": source,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "0",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    run(*apt, "update", within=ends - time.monotonic())
    wanted = ("user-mode-linux", "libc6", "patchelf", "libstdc++6", "libgcc-s1")
    run(*apt, "download", *wanted, folder=folder / "packages", within=max(ends - time.monotonic(), 1))
    for package in (folder / "packages").iterdir():
        run("dpkg", "-x", str(package), str(folder / "root"))
    for no_longer_needed in ("lists", "cache", "packages"):
        shutil.rmtree(folder / no_longer_needed)


def version(kernel: Path) -> str:
    """Return the version of a kernel that was fetched."""
    [modules] = (kernel / "root/usr/lib/uml/modules").iterdir()
    return modules.name


def start(kernel: Path, command: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
    """Boot a kernel and run a command in the current folder, which may write below ``out`` and nowhere else.

    What it prints is in ``out``/output afterwards, what the kernel says in ``out``/boot; see also :func:`result`.
    """
    (out / "code").unlink(missing_ok=True)
    inside = {
        "command": list(command),
        "folder": str(Path.cwd()),
        "kernel": str(kernel),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("IFAGENT_")}
        | {
            "PATH": f"{os.environ['PATH']}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "IFAGENT_TEST_PATIENCE": PATIENCE,
        },
    }
    (out / "inside.json").write_text(json.dumps(inside))
    boot = [
        str(kernel / "root/usr/bin/linux.uml"),
        "seccomp=on",
        f"mem={MEMORY}",
        "quiet",
        "con=null",
        "con0=fd:0,fd:1",
    ]
    boot += ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]
    # The system's own Python: it needs nothing that is not there yet, and all after -- is for the first process.
    boot += [f"init={os.path.realpath(sys.executable)}", "--", "-IS", str(INSIDE), "init", str(out)]
    with (out / "boot").open("wb") as log:
        # Its memory is a file there, and has to be executable.
        environment = os.environ | {"TMPDIR": "/dev/shm"}
        return subprocess.Popen(boot, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def result(out: Path) -> int:
    """Return the exit code of the command that was run, once the kernel has ended; 125 if it did not get that far."""
    code = out / "code"
    return int(code.read_text()) if code.exists() else 125
