"""``make`` on a machine that lacks something: an environment is whole, or made anew, or one line says what to run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_the_tests_start_no_program_of_procps() -> None:
    """It is not among what the Makefile asks for, and everything that it tells is in /proc."""
    start = re.compile(r"""[\[(, ]"(sysctl|ps|pgrep|pkill|free|top|uptime)", """)
    found = [path for path in ROOT.glob("tests/**/*.py") if start.search(path.read_text())]
    assert not found


def make(project: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment |= {"PATH": path} if path else {}
    command = [str(shutil.which("make")), "-C", str(project), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)


def make_environment(project: Path) -> Path:
    """Make what stands for a whole environment: its Python finds pip."""
    environment = project / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").write_text("#!/bin/sh\nexit 0\n")
    (environment / "bin/python").chmod(0o755)
    return environment


def test_a_whole_environment_is_kept(project: Path) -> None:
    environment = make_environment(project)
    (environment / "installed-demo").touch()
    planned = make(project, "--dry-run", "demo").stdout
    assert environment.exists()
    assert "-m venv" not in planned
    assert "ifagent demo" in planned


def test_an_environment_without_pip_is_made_anew(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    planned = make(project, "--dry-run", "demo").stdout
    assert not (project / ".venv").exists()
    assert "-m venv .venv" in planned


def test_an_interrupted_installation_is_made_anew(project: Path) -> None:
    (make_environment(project) / "unfinished").touch()
    planned = make(project, "--dry-run", "demo").stdout
    assert not (project / ".venv").exists()
    assert "-m venv .venv" in planned


def test_a_failed_installation_is_begun_anew_the_next_time(project: Path) -> None:
    environment = make_environment(project)
    (environment / "bin/python").write_text('#!/bin/sh\n[ "$1" = -c ]\n')  # whatever is to be installed fails
    assert make(project, "demo").returncode
    assert environment.exists()
    make(project, "--dry-run", "demo")
    assert not environment.exists()


@pytest.mark.parametrize("command", ["demo", "test"])
def test_what_is_missing_is_named_in_one_line(project: Path, tmp_path: Path, command: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "rm", "grep", "touch"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, script in (("id", "echo 1000"), ("python3", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    # What the Makefile adds to the path must not be there either.
    text = (project / "Makefile").read_text()
    assert ":/usr/local/sbin:/usr/sbin:/sbin" in text
    (project / "Makefile").write_text(text.replace(":/usr/local/sbin:/usr/sbin:/sbin", ""))
    done = make(project, command, path=str(programs))
    assert done.returncode
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    packages = {
        "demo": "python3-venv",
        "test": "python3-venv etcd-server etcd-client iproute2 iputils-ping ethtool docker.io",
    }
    assert len(said) == 1
    assert f"Please run: sudo apt-get install {packages[command]}" in said[0]
    assert not (project / ".venv").exists()
