"""An agent whose mounts nobody else sees says so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import until

from ifagent.mounts import seclusion

pytestmark = pytest.mark.kernel

OWN = "26 1 0:24 / /run rw - tmpfs tmpfs rw\n31 26 0:25 / /run/netns rw{} - tmpfs tmpfs rw\n"
PAIR = """
- {name: a, type: VETH, enabled: true, veth: {peer_if_name: b}, namespace: {type: NAMED_NS, name: secluded-a}}
- {name: b, type: VETH, enabled: true, veth: {peer_if_name: a}, namespace: {type: NAMED_NS, name: secluded-b}}
"""


def seclusion_by(place: Path, own: str, first: str) -> str:
    """Say of ``/run/netns`` what follows from these mount tables of the agent and of process 1."""
    (place / "1").mkdir()
    (place / "1/mountinfo").write_text(first)
    (place / "own").write_text(own)
    return seclusion("/run/netns", str(place), own_table=str(place / "own"))


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (OWN.format(""), OWN.format("")),
        (OWN.format(" shared:7"), "40 1 0:25 / /run/netns rw shared:7 - tmpfs tmpfs rw\n"),
        (OWN.format(" shared:7 master:3"), "40 1 0:25 / /elsewhere rw master:7 - tmpfs tmpfs rw\n"),
    ],
    ids=["the same", "shared", "received"],
)
def test_mounts_that_reach_the_host(own: str, first: str, tmp_path: Path) -> None:
    assert not seclusion_by(tmp_path, own, first)


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (OWN.format(""), "40 1 0:25 / /run/netns rw shared:7 - tmpfs tmpfs rw\n"),
        (OWN.format(" master:7"), "40 1 0:25 / /run/netns rw shared:7 - tmpfs tmpfs rw\n"),
        (OWN.format(" shared:8 master:7"), "40 1 0:25 / /run/netns rw shared:7 - tmpfs tmpfs rw\n"),
    ],
    ids=["private", "a slave", "shared among others"],
)
def test_mounts_that_do_not(own: str, first: str, tmp_path: Path) -> None:
    assert "mounts under /run/netns do not reach the host" in seclusion_by(tmp_path, own, first)


def test_where_it_cannot_be_told_nothing_is_said(tmp_path: Path) -> None:
    assert not seclusion("/run/netns", str(tmp_path))


@pytest.mark.parametrize(("options", "told"), [((), True), (("--private-mounts",), False)])
def test_it_is_told_at_the_start_and_in_the_states(tmp_path: Path, options: tuple[str, ...], *, told: bool) -> None:
    """The test run itself is in a mount namespace of its own, as under ``unshare -m``."""
    if not seclusion("/run/netns"):
        pytest.skip("mounts made here are seen by process 1, or its mounts cannot be seen")
    (tmp_path / "pair.yaml").write_text(PAIR)
    log, socket = tmp_path / "log", str(tmp_path / "socket")
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "ifagent", "run", "--label", "secluded", "--socket", socket, *options]
        agent = subprocess.Popen([*command, "--store", f"file:{tmp_path / 'pair.yaml'}"], stderr=stream)
    try:
        until(lambda: b" ready " in log.read_bytes(), what=log.read_text)
        states = until(lambda: applied(socket), what=log.read_text)
        assert ("visible to this agent only" in log.read_text()) is told
        for state in states:
            assert ("do not reach the host" in state.get("reason", "")) is told, state
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(10)
        for name in ("secluded-a", "secluded-b"):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def applied(socket: str) -> list[dict[str, str]]:
    """Return the states once both are applied."""
    command = [sys.executable, "-m", "ifagent", "states", "--json", "--label", "secluded", "--socket", socket]
    done = subprocess.run([*command, "--store", "file:/"], check=False, capture_output=True, text=True, timeout=30)
    found: list[dict[str, str]] = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    return found if [state.get("config_state") for state in found] == ["APPLIED"] * 2 else []
