"""What the service may do: it needs few rights, says which it lacks, and gives up all others."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from lab import addresses, ip, links_of, until
from spawned import OWN_SPACE, SLEEP, Spawned

import ifagent
from ifagent.capabilities import Capability

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(60)]

NOBODY = 65534
ESSENTIAL = (Capability.NET_ADMIN, Capability.SYS_ADMIN)
ALL = (*ESSENTIAL, Capability.SYS_PTRACE)

_WITHOUT_EFFECT = """
import ifagent.capabilities as c
c._set(effective=0, permitted=c._permitted_bits())
from ifagent.cli import main
main()
"""
"""Starts ``ifagent`` as a program starts that has its capabilities from its file: permitted, and not in effect."""


class Place:
    """A directory of files, sockets and namespaces for agents of any user, and the agents of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = f"test-{uuid.uuid4().hex[:8]}"
        self.one, self.two = (f"{name}-{self.label[-8:]}" for name in ("one", "two"))
        self.netns = folder / "netns"
        self.store = folder / "store"
        for directory in (self.netns, self.store):
            directory.mkdir()
        self.socket = folder / "sock" / "agent.sock"
        self.log = folder / "agent.log"
        self._agents: list[subprocess.Popen[bytes]] = []

    def belongs_to(self, user: int) -> None:
        """Have the places where an agent has to write belong to a user."""
        for directory in (self.folder, self.netns):
            os.chown(directory, user, user)

    def pair(self, *, a: str = "", b: str = "") -> None:
        """Declare a pair, ``a`` and ``b`` in these namespaces, as JSON; unless given, in two that have to be made."""
        a, b = a or f'{{"type": 2, "name": "{self.one}"}}', b or f'{{"type": 2, "name": "{self.two}"}}'
        (self.store / "pair.yaml").write_text(
            f'- {{name: a, enabled: true, ip_addresses: ["10.0.0.1/24", "2001:db8::1/64"], namespace: {a},'
            f" veth: {{peer_if_name: b}}}}\n- {{name: b, enabled: true, namespace: {b}, veth: {{peer_if_name: a}}}}\n"
        )

    def command(self, *options: str, python: Sequence[str] = ("-m", "ifagent")) -> list[str]:
        return [
            *(sys.executable, *python, "run", "--label", self.label, "--store", f"file:{self.store}"),
            *("--socket", str(self.socket), "--netns-dir", str(self.netns), "--log-format", "json", *options),
        ]

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as stream:
            agent = subprocess.Popen(command, stdout=stream, stderr=stream)
        self._agents.append(agent)
        until(lambda: agent.poll() is not None or b'"agent ready"' in self.log.read_bytes(), what=self.log.read_text)
        assert agent.poll() is None, self.log.read_text()
        return agent

    def until_pair(self) -> None:
        """Wait until the pair that :meth:`pair` declares is there."""
        wanted = ["10.0.0.1/24", "2001:db8::1/64"]
        until(lambda: addresses(links_at(self.netns / self.one).get("a", {})) == wanted, what=self.log.read_text)
        until(lambda: "b" in links_at(self.netns / self.two), what=self.log.read_text)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def clean_up(self) -> None:
        for agent in self._agents:
            if agent.poll() is None:
                agent.kill()
                agent.wait(10)
        for path in self.netns.iterdir():
            subprocess.run(["umount", str(path)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["umount", str(self.netns)], check=False, stderr=subprocess.DEVNULL)
        for host_name in links_of():
            ip("link", "del", "dev", host_name, check=False)


@pytest.fixture
def place() -> Iterator[Place]:
    # Not pytest's directory: other users may not go there. This one is a tmpfs of the test run.
    folder = Path("/run") / f"ifagent-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    one = Place(folder)
    try:
        yield one
    finally:
        one.clean_up()


def links_at(path: Path | str) -> dict[str, dict[str, Any]]:
    """Return the links of the network namespace at a path by host name; none if there is no such namespace."""
    command = ["nsenter", f"--net={path}", "ip", "-j", "-d", "addr"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {link["ifname"]: link for link in json.loads(text or "[]")}


def as_nobody(capabilities: Sequence[Capability]) -> list[str]:
    """Return what to put before a command, so that another user runs it with only these capabilities."""
    some = "".join(f",+{one.name.lower()}" for one in capabilities)
    sets = [f"--{name}=-all{some}" for name in ("bounding-set", "inh-caps", "ambient-caps")]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *sets]


@pytest.fixture(scope="module")
def nobody() -> Iterator[None]:
    """Let another user run this program; skip the test where there is none, but fail it in CI."""
    with way_opened_to(sys.base_prefix, sys.prefix, ifagent.__path__[0]):
        tried = subprocess.run([*as_nobody(()), sys.executable, "-c", "import ifagent.cli.run"], check=False)
        if tried.returncode:
            reason = f"there is no other user, or it may not run {sys.executable}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        yield


@contextmanager
def way_opened_to(*paths: str) -> Iterator[None]:
    """Let everybody through the directories above, as far as the test run sees them: by overlays of another mode."""
    above = {directory.resolve() for path in paths for directory in Path(path).resolve().parents}
    barred = sorted(directory for directory in above if not directory.stat().st_mode & stat.S_IXOTH)
    with ExitStack() as stack:
        for directory in barred:
            layers = Path(stack.enter_context(TemporaryDirectory(dir="/run", ignore_cleanup_errors=True)))
            for name in ("upper", "work"):
                (layers / name).mkdir(mode=0o755)
            options = f"lowerdir={directory},upperdir={layers}/upper,workdir={layers}/work"
            subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(directory)], check=False)
            stack.callback(subprocess.run, ["umount", "-l", str(directory)], check=False)
        yield


def as_root(*, without: Sequence[Capability]) -> list[str]:
    return ["setpriv", "--bounding-set=" + ",".join(f"-{one.name.lower()}" for one in without)]


def rights(pid: int) -> Iterator[dict[str, str]]:
    """Yield what ``/proc/<pid>/task/<tid>/status`` says of every thread."""
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = (line.split(":", 1) for line in status.read_text().splitlines())
        yield {key: value.strip() for key, value in lines}


def bits(capabilities: Sequence[Capability]) -> str:
    return f"{sum(1 << one for one in capabilities):016x}"


def assert_has_only(agent: subprocess.Popen[bytes], capabilities: Sequence[Capability]) -> None:
    threads = list(rights(agent.pid))
    assert len(threads) > 1, "worker threads are looked at as well"
    for thread in threads:
        assert thread["CapEff"] == thread["CapPrm"] == thread["CapBnd"] == bits(capabilities)
        assert thread["CapInh"] == thread["CapAmb"] == bits(())
        assert thread["NoNewPrivs"] == "1"


@pytest.mark.usefixtures("nobody")
def test_an_agent_of_another_user_with_four_capabilities_does_everything(place: Place) -> None:
    """Named namespaces are made and taken away, and those of a root process and of another user's are entered."""
    place.belongs_to(NOBODY)
    agent = place.start([*as_nobody(ALL), *place.command()])
    place.pair()
    place.until_pair()
    assert_has_only(agent, ALL)
    assert Path(f"/proc/{agent.pid}/environ").stat().st_uid == 0, "nobody else of this user can look into it"
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        until(lambda: process.space != Path("/proc/self/ns/net").stat().st_ino)
        place.pair(b=f'{{"type": 0, "pid": {process.pid}}}')
        listing = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "-j", "addr"]
        until(
            lambda: b'"b"' in subprocess.run(listing, capture_output=True, check=True).stdout, what=place.log.read_text
        )
        (place.store / "pair.yaml").unlink()
        until(lambda: not list(place.netns.iterdir()), what=place.log.read_text)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0


def test_capabilities_of_the_programs_file_are_switched_on(place: Place) -> None:
    place.pair()
    agent = place.start(place.command(python=("-c", _WITHOUT_EFFECT)))
    place.until_pair()
    assert_has_only(agent, (*ALL, Capability.DAC_OVERRIDE))


def test_root_keeps_what_the_settings_need(place: Place) -> None:
    # A tree of processes whose first one is in the agent's own namespace, as it is on a host.
    processes = place.folder / "proc"
    (processes / "1/ns").mkdir(parents=True)
    (processes / "1/ns/net").symlink_to(f"/proc/{os.getpid()}/ns/net")
    place.pair()
    agent = place.start(
        place.command("--allow-namespace", "own", "--allow-namespace", "named:*", "--proc-root", str(processes))
    )
    place.until_pair()
    assert_has_only(agent, (*ESSENTIAL, Capability.DAC_OVERRIDE))
    [kept] = place.logged("dropped all other capabilities")
    assert "CAP_NET_ADMIN" in kept["capabilities"]
    assert "CAP_SYS_PTRACE" not in kept["capabilities"]


def test_a_privileged_port_is_a_need(place: Place) -> None:
    agent = place.start(place.command("--http", "127.0.0.1:80"))
    assert_has_only(agent, (*ALL, Capability.DAC_OVERRIDE, Capability.NET_BIND_SERVICE))


def refused(*commands: Sequence[str]) -> list[list[str]]:
    """Run commands that have to end with exit code 2, at the same time; return what each has said, in lines."""
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate(timeout=30)[1] for process in started]
    assert [process.returncode for process in started] == [2] * len(started), said
    return [text.splitlines() for text in said]


def test_what_is_missing_is_one_line(place: Place) -> None:
    answers = refused(*([*as_root(without=[missing]), *place.command()] for missing in ESSENTIAL))
    for missing, [line] in zip(ESSENTIAL, answers, strict=True):
        assert line.startswith(f"ifagent: {missing} is missing, without it ")
        assert f"AmbientCapabilities={missing} " in line
        assert f"--cap-add {missing.name} " in line
        assert f"setcap cap_{missing.name.lower()}+p " in line
    assert not place.socket.exists()


@pytest.mark.usefixtures("nobody")
def test_everything_missing_is_a_line_each(place: Place) -> None:
    [lines] = refused([*as_nobody(()), *place.command("--http", "127.0.0.1:80")])
    named = [line.removeprefix("ifagent: ").split()[0] for line in lines]
    assert named == ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_BIND_SERVICE"]


@pytest.mark.usefixtures("nobody")
def test_a_feature_that_is_missing_is_a_warning(place: Place) -> None:
    place.belongs_to(NOBODY)
    place.pair()
    agent = place.start([*as_nobody(ESSENTIAL), *place.command()])
    place.until_pair()
    assert_has_only(agent, ESSENTIAL)
    [warning] = place.logged("missing capability")
    assert (warning["level"], warning["capability"]) == ("warning", "CAP_SYS_PTRACE")
    assert "containers" in warning["problem"]


def test_a_network_of_another_user_namespace(place: Place) -> None:
    unshare = ["unshare", "--user", "--map-root-user"]
    [[line]] = refused([*unshare, *place.command()])
    assert "the network namespace belongs to another user namespace" in line
    assert "unshare -Urnm" in line


@pytest.mark.usefixtures("nobody")
def test_the_group_of_the_socket(place: Place) -> None:
    place.start(place.command("--socket-group", "4711"))
    for path, mode in ((place.socket, 0o660), (place.socket.parent, 0o750)):
        assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (4711, mode)


@pytest.mark.usefixtures("nobody")
def test_a_group_that_cannot_be_had(place: Place) -> None:
    groups = ("no-such-group", "4711")
    [unknown], [foreign] = refused(*([*as_nobody(ALL), *place.command("--socket-group", group)] for group in groups))
    assert unknown == "ifagent: --socket-group: no such group: 'no-such-group'"
    assert "--socket-group: the agent is not a member of the group '4711' and cannot become one" in foreign
