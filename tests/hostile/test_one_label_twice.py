"""One label twice on one host is refused, whatever the stores; nobody without rights keeps an agent from running."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from lab import ip, links_of, pair, until

from ifagent import Agent, Settings
from ifagent.errors import LabelTaken

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(60)]

LABEL = "twice"
CAP_NET_ADMIN_OF_A_FILE = struct.pack("<5I", 0x0200_0001, 1 << 12, 0, 0, 0)
"""``struct vfs_cap_data``: the second version, in effect at once, permitted."""
needs_users = pytest.mark.skipif(
    os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[2] == "1", reason="needs users"
)


class Run:
    """``ifagent run`` with a file as its store."""

    def __init__(self, folder: Path, number: int, interfaces: list[dict[str, object]], *under: str) -> None:
        store = folder / f"{number}.json"
        store.write_text(json.dumps(interfaces))
        self._log = folder / f"{number}.log"
        command = [sys.executable, "-m", "ifagent", "run", "--label", LABEL, "--store", f"file:{store}"]
        command += ["--socket", str(folder / f"{number}.sock"), "--log-format", "json"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*under, *command], stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def is_ready(self) -> bool:
        return '"event":"agent ready"' in self.log

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def until_ready(self) -> None:
        until(lambda: self.is_ready or self.has_ended, within=30, what=lambda: self.log)
        assert self.is_ready, self.log

    def end(self) -> None:
        if not self.has_ended:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@contextmanager
def running(*runs: Run) -> Iterator[None]:
    try:
        yield
    finally:
        for run in runs:
            run.end()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for link in links_of(""):
        ip("link", "del", "dev", link, check=False)


def test_the_second_is_refused_and_told_the_process_of_the_first(tmp_path: Path) -> None:
    first = Run(tmp_path, 1, [*pair("a", "b")])
    with running(first):
        first.until_ready()
        before = {name: link["ifindex"] for name, link in links_of("").items()}
        assert set(before) == {"a", "b"}
        second = Run(tmp_path, 2, [*pair("c", "d")])
        with running(second):
            until(lambda: second.has_ended or second.is_ready, within=30)
            assert second.process.returncode == 1
            assert f"the label '{LABEL}' is taken by process {first.process.pid} on this host" in second.log
        assert {name: link["ifindex"] for name, link in links_of("").items()} == before
        first.end()
    third = Run(tmp_path, 3, [*pair("a", "b")])
    with running(third):
        third.until_ready()


def test_one_that_was_killed_leaves_the_label_free(tmp_path: Path) -> None:
    first = Run(tmp_path, 1, [])
    with running(first):
        first.until_ready()
        first.process.kill()
        first.process.wait(10)
    with running(second := Run(tmp_path, 2, [])):
        second.until_ready()


def test_of_several_that_start_together_one_remains(tmp_path: Path) -> None:
    runs = [Run(tmp_path, number, [*pair("a", "b")]) for number in range(4)]
    with running(*runs):
        until(lambda: sum(run.has_ended for run in runs) == 3, within=40)
        [left] = [run for run in runs if not run.has_ended]
        left.until_ready()
        assert all(f"process {left.process.pid} on this host" in run.log for run in runs if run is not left)


def test_another_network_namespace_has_agents_of_its_own(tmp_path: Path) -> None:
    first, second = Run(tmp_path, 1, []), Run(tmp_path, 2, [], "unshare", "--net")
    with running(first, second):
        first.until_ready()
        second.until_ready()


def test_an_embedded_agent_is_refused_too(tmp_path: Path) -> None:
    async def embed() -> None:
        async with Agent.open(Settings(label=LABEL)):
            pytest.fail("there is another agent")

    with running(first := Run(tmp_path, 1, [])):
        first.until_ready()
        with pytest.raises(LabelTaken, match=f"process {first.process.pid} on this host"):
            asyncio.run(embed())


@needs_users
@pytest.mark.parametrize("full", [False, True])
def test_somebody_without_rights_does_not_keep_an_agent_out(tmp_path: Path, *, full: bool) -> None:
    program = f"""
import socket, time
bound = socket.socket(socket.AF_UNIX)
bound.bind("\\0ifagent/{LABEL}")
bound.listen(0)
held = [socket.socket(socket.AF_UNIX) for _ in range({8 if full else 0})]
for one in held:
    one.settimeout(0)
    try:
        one.connect("\\0ifagent/{LABEL}")
    except BlockingIOError:
        pass
print(flush=True)
time.sleep(60)
"""
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    with subprocess.Popen([*other, "/usr/bin/env", "python3", "-c", program], stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout
        try:
            assert squatter.stdout.readline()
            with running(agent := Run(tmp_path, 1, [])):
                agent.until_ready()
                assert "cannot lock the label on this host" in agent.log
        finally:
            squatter.kill()


OTHER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@needs_users
@pytest.mark.parametrize("rights", ["set-user-id", "file capability"])
def test_nor_does_whoever_then_executes_a_program_with_more_rights(tmp_path: Path, rights: str) -> None:
    with TemporaryDirectory() as open_to_all:
        waits = Path(open_to_all, "waits")
        shutil.copy(shutil.which("sleep") or "", waits)
        waits.parent.chmod(0o755)
        if rights == "set-user-id":
            waits.chmod(0o4755)
        else:
            try:
                os.setxattr(waits, "security.capability", CAP_NET_ADMIN_OF_A_FILE)
            except OSError as error:
                pytest.skip(f"no file capabilities here: {error}")
        program = f"""
import os, socket
bound = socket.socket(socket.AF_UNIX)
bound.bind("\\0ifagent/{LABEL}")
bound.listen(0)
bound.set_inheritable(True)
os.execv("{waits}", ["waits", "60"])
"""
        command = [*OTHER, "--inh-caps=-all", "/usr/bin/env", "python3", "-c", program]
        with subprocess.Popen(command) as squatter:
            try:
                until(lambda: Path(f"/proc/{squatter.pid}/comm").read_text() == "waits\n")
                with running(agent := Run(tmp_path, 1, [])):
                    agent.until_ready()
                    assert f"process {squatter.pid} of user 65534 has bound its name" in agent.log
            finally:
                squatter.kill()


@needs_users
def test_an_agent_of_another_user_does(tmp_path: Path) -> None:
    program = f"""
import socket, time
bound = socket.socket(socket.AF_UNIX)
bound.bind("\\0ifagent/{LABEL}")
bound.listen(0)
print(flush=True)
time.sleep(60)
"""
    command = [*OTHER, "--inh-caps", "+net_admin", "--ambient-caps", "+net_admin", "/usr/bin/env", "python3"]
    with subprocess.Popen([*command, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout
        try:
            assert other.stdout.readline()
            with running(agent := Run(tmp_path, 1, [])):
                until(lambda: agent.has_ended or agent.is_ready, within=30)
                assert f"is taken by process {other.pid} on this host" in agent.log
        finally:
            other.kill()
