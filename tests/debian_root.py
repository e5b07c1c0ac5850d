"""A minimal Debian with this project in it, for tests that need a machine of their own.

``python tests/debian_root.py FOLDER`` makes ``FOLDER/root``, for use as it is or below an overlay: systemd, Python,
iproute2, ifagent in ``/opt/ifagent``, and in ``/wheels`` everything that pip needs to install it once more without a
network. What is there already is kept, ifagent apart. Needs root, debootstrap, and the mirrors that apt and pip use.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

from debian import mirror, run

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,iproute2"
PROJECT = Path(__file__).parents[1]


def make(folder: Path) -> Path:
    """Make the root, or bring it up to date, and return it."""
    root = folder / "root"
    if not root.exists():
        _bootstrap(root)
    _fetch_wheels(root)
    inside = (
        "chroot",
        str(root),
        "/opt/ifagent/bin/pip",
        "install",
        "--quiet",
        "--no-index",
        "--find-links",
        "/wheels",
    )
    if not (root / "opt/ifagent").exists():
        run("chroot", str(root), "python3", "-m", "venv", "/opt/ifagent")
    run(*inside, "ifagent")
    run(*inside, "--force-reinstall", "--no-deps", "ifagent")
    return root


def _bootstrap(root: Path) -> None:
    """Make a Debian, or what this machine is, from where its packages come from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
    command += [release["VERSION_CODENAME"].strip('"'), str(partial), mirror(release["ID"].capitalize())]
    run(*command)
    partial.rename(root)


def _fetch_wheels(root: Path) -> None:
    """Have this project and all that it needs as wheels, for the Python in there."""
    wheels, stamp = root / "wheels", root / "wheels/fetched-for"
    text = (PROJECT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    [version] = [path.name.removeprefix("python") for path in (root / "usr/lib").glob("python3.*")]
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    if not stamp.exists() or stamp.read_text() != text:
        wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        options = ("--dest", str(wheels), "--only-binary=:all:", "--python-version", version)
        run(*pip, "download", *options, *wanted)
        stamp.write_text(text)
    for old in wheels.glob("ifagent-*.whl"):
        old.unlink()
    run(*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(PROJECT))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
