"""Terminals, pipes and signals: an agent with a reader that hangs, without any, and in a terminal that is closed."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from etcd_server import free_port
from lab import addresses, ip, links_of, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

IFAGENT = [sys.executable, "-m", "ifagent"]


class Place:
    """A directory of files, an agent's socket, and the processes of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir()
        self.socket = folder / "agent.sock"
        self.label = f"t-{uuid.uuid4().hex[:8]}"
        self.options = ["--label", self.label, "--store", f"file:{self.store}", "--socket", str(self.socket)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def pair(self, name: str = "a", peer: str = "b", **fields: object) -> None:
        """Declare both ends of a veth."""
        ends = [{"name": name, "veth": {"peer_if_name": peer}, "enabled": True, **fields}]
        ends += [{"name": peer, "veth": {"peer_if_name": name}, "enabled": True}]
        self.write("pair.json", ends)

    def write(self, file: str, value: object) -> None:
        """Write a file of the store, at once."""
        new = self.store / f".{file}.new"
        new.write_text(json.dumps(value))
        new.replace(self.store / file)

    def start(self, *more: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start an agent."""
        how.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([*IFAGENT, "run", *self.options, *more], **how)
        self._processes.append(process)
        return process

    def ask(self, *words: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
        """Run another command."""
        how.setdefault("stdout", subprocess.PIPE)
        how.setdefault("stderr", subprocess.PIPE)
        return subprocess.run([*IFAGENT, words[0], *self.options, *words[1:]], timeout=30, check=False, **how)

    def until_applied(self, name: str = "a") -> None:
        """Wait until the agent says that an interface is applied."""
        until(self.socket.exists)
        done = self.ask("wait", name, "--timeout", "20")
        assert done.returncode == 0, done.stderr.decode()

    def clean_up(self) -> None:
        """End the processes and take away what they made."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        for name in links_of():
            ip("link", "del", "dev", name, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    try:
        yield one
    finally:
        one.clean_up()


def unread(pipe: IO[bytes]) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, found)
    return found[0]


def fill(pipe: IO[bytes]) -> None:
    """Fill a pipe from its reading end, as a reader that has stopped leaves it."""
    writer = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, b"." * 4095 + b"\n")
    except BlockingIOError:
        pass
    finally:
        os.close(writer)


def test_a_log_that_nobody_reads_stops_nothing_and_the_end_is_in_time(place: Place) -> None:
    place.pair()
    port = free_port()
    agent = place.start("--http", f"127.0.0.1:{port}", "--log-level", "debug", stderr=subprocess.PIPE)
    place.until_applied()
    assert agent.stderr
    fill(agent.stderr)
    for mtu in range(1400, 1440):  # each has lines that cannot be written
        place.pair(mtu=mtu)
        until(lambda mtu=mtu: links_of()["a"]["mtu"] == mtu)  # type: ignore[misc]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
        assert answer.status == 200
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(3.5) == 0


def test_a_thousand_values_that_are_wrong_have_a_few_lines(place: Place) -> None:
    place.write("junk.json", [{"name": f"j{n}", "mtu": -1, "description": "x" * 500} for n in range(1000)])
    agent = place.start("--log-format", "json", stderr=subprocess.PIPE)
    assert agent.stderr
    until(lambda: len(json.loads(place.ask("states", "--json").stdout or "[]")) == 1000)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    lines = [json.loads(line) for line in agent.stderr.read().splitlines()]
    assert lines[-1]["event"].startswith("agent stopping")
    assert 0 < sum(line["event"] == "interface invalid" for line in lines) <= 10


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)], ids=str)
def test_an_agent_without_standard_streams(place: Place, closed: tuple[int, ...]) -> None:
    place.pair(ip_addresses=["10.9.0.1/24"])
    shell = " ".join(f"{number}>&-" for number in closed)
    command = " ".join([*IFAGENT, "run", *place.options])
    agent = subprocess.Popen(["sh", "-c", f"exec {command} {shell}"])
    place._processes.append(agent)
    until(lambda: agent.poll() is not None or addresses(links_of().get("a", {})) == ["10.9.0.1/24"])
    assert agent.poll() is None
    # Nothing else got the number of a stream that is closed, so nothing prints into a socket.
    assert {Path(f"/proc/{agent.pid}/fd/{n}").readlink() for n in closed} == {Path(os.devnull)}
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0


@pytest.mark.parametrize(
    "words", [["states"], ["states", "--json"], ["get"], ["get", "--json"], ["wait", "a"]], ids=str
)
def test_commands_without_a_standard_output(place: Place, words: list[str]) -> None:
    place.pair()
    place.start(stderr=subprocess.DEVNULL)
    place.until_applied()
    command = " ".join([*IFAGENT, words[0], *place.options, *words[1:]])
    done = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_an_encoding_lacks_is_escaped(place: Place) -> None:
    ends = [{"name": "büro", "veth": {"peer_if_name": "b"}, "host_if_name": "x1"}]
    place.write("pair.json", [*ends, {"name": "b", "veth": {"peer_if_name": "büro"}}])
    narrow = os.environ | {"PYTHONIOENCODING": "ascii"}
    place.start(stderr=subprocess.DEVNULL, env=narrow)
    place.until_applied("b")
    for words in (["states"], ["get"], ["get", "büro"], ["wait", "büro"]):
        done = place.ask(*words, env=narrow)
        assert (done.returncode, done.stderr) == (0, b""), words
        assert rb"b\xfcro" in done.stdout, "whatever cannot be shown is escaped"
    for words in (["states", "--json"], ["get", "--json"]):
        told = json.loads(place.ask(*words, env=narrow).stdout)
        assert {one["name"] for one in told} == {"b", "büro"}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_whoever_tells_it_to_end_gets_a_clean_end(place: Place, number: signal.Signals) -> None:
    place.pair()
    # Whoever runs the tests may ignore it, as under nohup.
    agent = place.start(stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    place.until_applied()
    agent.send_signal(number)
    assert agent.wait(10) == 0
    assert agent.stderr
    assert b"stopping" in agent.stderr.read()
    assert not place.socket.exists()


def test_a_hang_up_that_is_ignored_stays_so(place: Place) -> None:
    place.pair()
    agent = place.start(stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    place.until_applied()
    agent.send_signal(signal.SIGHUP)
    place.pair(mtu=1400)
    until(lambda: links_of()["a"]["mtu"] == 1400)
    assert agent.poll() is None


def test_a_reader_that_has_seen_enough(place: Place) -> None:
    place.pair()
    place.start(stderr=subprocess.DEVNULL)
    place.until_applied()
    for words in ("states", "get", "states --json"):
        command = " ".join([*IFAGENT, *words.split(), *place.options])
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


SGR = re.compile(r"\x1b\[[0-9;]*m")
"""The colours of our own."""


def on_a_terminal(place: Place, *words: str, columns: int) -> list[str]:
    """Return the lines that a command shows on a terminal of so many columns."""
    mine, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}} | {"TERM": "xterm"}
    command = [*IFAGENT, words[0], *place.options, *words[1:]]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    shown = b""
    try:
        while data := os.read(mine, 65536):
            shown += data
    except OSError:
        pass  # it has ended
    os.close(mine)
    assert process.wait(20) == 0
    return SGR.sub("", shown.decode()).replace("\r\n", "\n").split("\n")


@pytest.mark.parametrize("words", ["states", "get"])
def test_a_narrow_terminal_has_a_block_for_each_interface(place: Place, words: str) -> None:
    place.pair("a-rather-long-name", host_if_name="eth0", ip_addresses=["10.0.0.1/24", "2001:db8:1:2:3:4:5:6/64"])
    place.start(stderr=subprocess.DEVNULL)
    place.until_applied("a-rather-long-name")
    narrow = on_a_terminal(place, words, columns=40)
    assert all(len(line) <= 40 for line in narrow)
    whole = [line.strip() for line in narrow]
    assert "a-rather-long-name" in whole
    assert any(re.fullmatch(r"((wanted )?addresses +)?2001:db8:1:2:3:4:5:6/64", line) for line in whole)
    assert any(re.fullmatch(r"state +APPLIED", line) for line in whole)
    assert any(re.fullmatch(r"host name +eth0", line) for line in whole)
    wide = on_a_terminal(place, words, columns=200)
    [row] = [line for line in wide if line.startswith("a-rather-long-name")]
    assert "APPLIED" in row
    assert "eth0" in row
