"""Where this machine's Debian comes from: what is fetched for tests comes from there too."""

from __future__ import annotations

import subprocess
from pathlib import Path


def mirror(label: str = "Debian") -> str:
    """Return the address of the archive of that label which this machine's packages come from."""
    listed = run("apt-get", "indextargets", "--format", "$(SITE) $(LABEL)", "Created-By: Packages").splitlines()
    sites = [site for site, _, name in (line.partition(" ") for line in listed) if name in {label, ""}]
    if not sites:
        raise SystemExit(f"apt knows no archive of {label}; please run: sudo apt-get update")
    return sites[0]


def keyring() -> Path:
    """Return the file with the keys that Debian signs its archives with."""
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"):
        if (path := Path("/usr/share/keyrings", name)).exists():
            return path
    raise SystemExit("the archive's keys are missing; please run: sudo apt-get install debian-archive-keyring")


def run(*command: str, folder: Path | None = None, within: float | None = None) -> str:
    """Run a command to its end and return what it prints; a failure ends the program with what it said.

    So does one that takes longer than ``within`` seconds.
    """
    try:
        done = subprocess.run(command, check=False, text=True, capture_output=True, cwd=folder, timeout=within)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command)}: takes longer than {within:.0f} s") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
