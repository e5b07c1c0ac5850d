"""The two commands of the README on machines that have nothing: ``python tests/fresh.py FOLDER``.

For Debian 12 and 13 a root is made by debootstrap, with Python, make and git, as somebody has who clones the project.
It is entered with mounts, processes and shared memory of its own, as root and as an ordinary user, with and without
``python3-venv``; what is written there goes with it. Needs root, debootstrap, and what apt and pip reach from here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from debian import mirror, run

PROJECT = Path(__file__).parents[1]
RELEASES = ("bookworm", "trixie")
PACKAGES = "python3,make,git,ca-certificates"
USER = "user"

SESSIONS = "unit"
"""What ``make test`` does here unless asked for the whole, which takes as long as in CI each time."""

_ENTER = """
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$FOLDER/root"
cd "$FOLDER/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
chmod 1777 tmp
for path in $KEPT; do mkdir -p ".$path" && mount --rbind "$path" ".$path"; done
mkdir .before
pivot_root . .before
cd /
umount --lazy .before
rmdir .before
su --login --whitelist-environment="$PASSED" "$WHO" -c "cd ~$OWNER/ifagent && $COMMAND"
"""
"""No chroot, in which nobody may make user namespaces. The shell stays, to take care of what others leave behind."""


class Finding(NamedTuple):
    """What became of the commands on one machine."""

    release: str
    who: str
    packages: str
    demo: str
    test: str

    def row(self) -> str:
        """Return it as a row of the table."""
        return f"| {' | '.join(self)} |"


class Machine:
    """A root that can be written to, above one that stays as it is."""

    def __init__(self, base: Path, folder: Path, who: str, log: Path) -> None:
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        self._base, self._folder, self._who, self._log = base, folder, who, log

    def run(self, command: str, *, who: str = "", **env: str) -> tuple[int, str]:
        """Run a command in the clone; return its exit code and all that it has said."""
        passed = {key: value for key, value in os.environ.items() if _is_passed(key)} | env
        environment = passed | {
            "PATH": os.environ["PATH"],
            "PASSED": ",".join(passed),
            "BASE": str(self._base),
            "FOLDER": str(self._folder),
            "KEPT": " ".join(_local_archives()),
            "WHO": who or self._who,
            "OWNER": self._who,
            "COMMAND": command,
        }
        apart = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-ec", _ENTER]
        done = subprocess.run(
            apart, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment
        )
        with self._log.open("a") as log:
            log.write(f"$ {command}\n{done.stdout}\n[{done.returncode}]\n")
        return done.returncode, done.stdout

    def try_out(self, command: str, **env: str) -> str:
        """Run a command; where it asks for one line to be run as root, do so and run it again. Return what happened."""
        began = time.monotonic()
        code, said = self.run(command, **env)
        told = ""
        if code and (asked := re.search(r"^[^\n]*Please run: sudo (apt-get install .*)$", said, re.MULTILINE)):
            told = f"says: {asked[1]}; then "
            self.run(f"apt-get update -qq && DEBIAN_FRONTEND=noninteractive {asked[1]} -qq -y", who="root")
            code, said = self.run(command, **env)
        return f"{told}{'passed' if not code else f'FAILED ({code})'}, {time.monotonic() - began:.0f} s"


def _is_passed(variable: str) -> bool:
    """Tell whether a variable says how packages are fetched, or how tests are done."""
    return variable.startswith(("PIP_", "SSL_", "REQUESTS_", "IFAGENT_")) or variable.lower().endswith("_proxy")


def _local_archives() -> list[str]:
    """Return the folders that pip is told to take packages from here."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return sorted({path for path in re.findall(r"(?<![\w.])(?:file://)?(/[\w./-]+)", told) if Path(path).is_dir()})


def make_base(release: str, folder: Path) -> Path:
    """Have a root of a release, with the settings of apt and pip of this machine."""
    base = folder / release
    if base.exists():
        return base
    partial = base.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(partial), mirror())
    settings = [line for line in run("apt-config", "dump").splitlines() if line.startswith("Acquire::")]
    (partial / "etc/apt/apt.conf.d/99fetch").write_text("\n".join(settings))
    for path in ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"):
        if Path(path).is_dir():
            shutil.copytree(path, partial / path[1:], dirs_exist_ok=True)
        elif Path(path).exists():
            shutil.copy(path, partial / path[1:])
    run("chroot", str(partial), "useradd", "--create-home", "--shell", "/bin/bash", USER)
    partial.rename(base)
    return base


@contextmanager
def machine(base: Path, who: str, log: Path) -> Iterator[Machine]:
    """Have a machine with a clone of the project in the home of who uses it, and take it away."""
    with tempfile.TemporaryDirectory(dir=base.parent, ignore_cleanup_errors=True) as folder:
        one = Machine(base, Path(folder), who, log)
        home = Path(folder, "upper", "root" if who == "root" else f"home/{who}")
        home.mkdir(parents=True)
        run("git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(home / "ifagent"))
        if who == "root":
            home.chmod(0o700)
        else:
            run("chown", "--recursive", "1000:1000", str(home))
        yield one


def try_out(base: Path, who: str, *, venv: bool, sessions: str, log: Path) -> Finding:
    """Try both commands; without ``python3-venv`` after somebody has tried to make an environment by hand."""
    with machine(base, who, log) as one:
        if venv:
            one.run("apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv", who="root")
        else:
            one.run("python3 -m venv .venv")
        demo = one.try_out("make demo")
        test = one.try_out("make test", **({"NOXSESSION": sessions} if sessions else {}))
    return Finding(base.name, who, "python3-venv" if venv else "no python3-venv", demo, test)


def main(words: Sequence[str] | None = None) -> int:
    """Try everything and print a table; return the exit code."""
    parser = ArgumentParser(description="Run the two commands of the README on bare Debian machines.")
    parser.add_argument("folder", type=Path, help="where roots and logs are kept")
    parser.add_argument("--release", action="append", help="a release by its name; may be repeated")
    parser.add_argument("--user", action="append", choices=("root", USER), help="who runs them; may be repeated")
    parser.add_argument("--sessions", default=SESSIONS, help="what make test does, separated by commas; empty for all")
    options = parser.parse_args(words)
    folder = options.folder.resolve()
    shutil.rmtree(folder / "logs", ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    findings = []
    print("| Debian | who | has | make demo | make test |\n|---|---|---|---|---|")
    for release in options.release or RELEASES:
        base = make_base(release, folder)
        for who in options.user or ("root", USER):
            for venv in (True, False):
                log = folder / "logs" / f"{release}-{who}-{'with' if venv else 'without'}-venv"
                findings.append(try_out(base, who, venv=venv, sessions=options.sessions, log=log))
                print(findings[-1].row(), flush=True)
    return int(any("FAILED" in finding.demo + finding.test for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
