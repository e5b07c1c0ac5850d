"""Settings of a network namespace, as ``sysctl`` sets them, which not every machine has."""

from __future__ import annotations

import subprocess
from pathlib import Path

from patience import PATIENCE


def sysctl(*settings: str) -> tuple[str, ...]:
    """Return the command that sets ``net.ipv6.conf.all.disable_ipv6=1`` and the like in its network namespace."""
    assert all(setting.startswith("net.") for setting in settings), "the others are not the namespace's own"
    named = (setting.partition("=") for setting in settings)
    return ("sh", "-ec", "\n".join(f"echo {value} >/proc/sys/{name.replace('.', '/')}" for name, _, value in named))


def set_sysctl(namespace: Path | str, *settings: str) -> None:
    """Set something in the network namespace whose file is given; see :func:`sysctl`."""
    command = ["nsenter", f"--net={namespace}", *sysctl(*settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
    assert not done.returncode, f"{settings}: {done.stderr}"
