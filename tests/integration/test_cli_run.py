"""``ifagent run`` on the real kernel with a store of files, and the other commands beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lab import addresses, ip, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SAMPLE = """\
interfaces:
  - name: veth1
    enabled: true
    mtu: 1500
    ip_addresses: [192.168.22.1/24, "2001:db8:0:0:0:ff00:89e3:bb42/48"]
    namespace: {name: %(one)s, type: NAMED_NS}
    host_if_name: veth1Name
    phys_address: d2:74:8c:12:67:d2
    veth: {peer_if_name: veth2}   # the other end
  - name: veth2
    enabled: true
    ip_addresses: [192.168.22.5/24]
    namespace: {name: %(two)s, type: NAMED_NS}
    host_if_name: veth2Name
    veth: {peer_if_name: veth1}
"""


class FileLab:
    """A directory of files, the processes of one test, and its namespaces."""

    def __init__(self, folder: Path) -> None:
        self.label = f"test-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir()
        self.one, self.two = f"one-{self.label[-8:]}", f"two-{self.label[-8:]}"
        self.sample = SAMPLE % {"one": self.one, "two": self.two}
        self.log = folder / "agent.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("IFAGENT_")} | {
            "IFAGENT_STORE": f"file:{self.store}",
            "IFAGENT_LABEL": self.label,
            "IFAGENT_SOCKET": str(folder / "agent.sock"),
        }

    def start(self, words: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as stream:
            command = [sys.executable, "-m", "ifagent", *words]
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=self._environment)
        self._processes.append(process)
        return process

    def start_agent(self, *, said: str = '"agent ready"') -> subprocess.Popen[bytes]:
        agent = self.start(["run", "--log-format", "json"], self.log)
        until(lambda: agent.poll() is not None or said in self.log.read_text(), what=self.log.read_text)
        assert agent.poll() is None, self.log.read_text()
        return agent

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ifagent", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=self._environment)

    def link(self, host_name: str, namespace: str) -> dict[str, Any]:
        text = ip("-n", namespace, "-j", "-d", "addr", check=False)
        return next((link for link in json.loads(text or "[]") if link.get("ifname") == host_name), {})

    def states(self) -> dict[str, str]:
        return {state["name"]: state["config_state"] for state in json.loads(self.command("states", "--json").stdout)}

    def clean_up(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        for namespace in (self.one, self.two):
            ip("netns", "del", namespace, check=False)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[FileLab]:
    one = FileLab(tmp_path)
    try:
        yield one
    finally:
        one.clean_up()


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_becomes_a_pair_changes_and_goes(lab: FileLab) -> None:
    agent = lab.start_agent()
    seen = lab.folder / "watch"
    watch = lab.start(["watch", "--json"], seen)
    file = lab.store / "lab.yaml"
    file.write_text(lab.sample)
    first = until(lambda: lab.link("veth1Name", lab.one))
    until(lambda: {"UP", "LOWER_UP"} <= set(lab.link("veth1Name", lab.one)["flags"]))
    until(lambda: addresses(lab.link("veth2Name", lab.two)) == ["192.168.22.5/24"])
    link = lab.link("veth1Name", lab.one)
    assert (link["address"], link["mtu"]) == ("d2:74:8c:12:67:d2", 1500)
    assert addresses(link) == ["192.168.22.1/24", "2001:db8::ff00:89e3:bb42/48"]
    until(lambda: {e["name"] for e in events(seen) if e["state"]["config_state"] == "APPLIED"} == {"veth1", "veth2"})

    file.write_text(lab.sample.replace("mtu: 1500", "mtu: 1400"))
    until(lambda: lab.link("veth1Name", lab.one)["mtu"] == 1400)
    assert lab.link("veth1Name", lab.one)["ifindex"] == first["ifindex"]
    until(lambda: any(e["event"] == "changed" and e["state"]["mtu"] == 1400 for e in events(seen)))

    file.unlink()
    until(
        lambda: [e["name"] for e in events(seen) if e["event"] == "deleted"] in (["veth1", "veth2"], ["veth2", "veth1"])
    )
    assert not lab.link("veth1Name", lab.one)
    assert [e["seq"] for e in events(seen)] == list(range(1, len(events(seen)) + 1))
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 0
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0


def test_apply_get_delete(lab: FileLab) -> None:
    lab.start_agent()
    given = lab.folder / "in.yaml"
    given.write_text(lab.sample)
    done = lab.command("apply", str(given), "--wait", "20")
    assert done.returncode == 0, done.stderr
    assert lab.link("veth1Name", lab.one)["mtu"] == 1500
    told = json.loads(lab.command("get", "veth1", "--json").stdout)
    assert told["state"]["if_index"] == lab.link("veth1Name", lab.one)["ifindex"]
    assert told["state"]["ip_addresses"] == ["192.168.22.1/24", "2001:db8::ff00:89e3:bb42/48"]

    given.write_text(lab.sample.replace("mtu: 1500", "mtu: 1300"))
    done = lab.command("apply", str(given), "--wait", "20")
    assert done.returncode == 0, done.stderr
    assert lab.link("veth1Name", lab.one)["mtu"] == 1300

    assert lab.command("delete", "veth2").returncode == 0
    until(lambda: lab.states() == {"veth1": "PENDING"})
    assert not lab.link("veth1Name", lab.one)
    assert lab.command("delete", "veth2").returncode == 1


def test_the_links_stay_when_it_ends_and_are_pruned_after_a_restart(lab: FileLab) -> None:
    agent = lab.start_agent()
    file = lab.store / "lab.yaml"
    file.write_text(lab.sample)
    until(lambda: lab.states() == {"veth1": "APPLIED", "veth2": "APPLIED"})
    before = lab.link("veth1Name", lab.one)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert lab.link("veth1Name", lab.one) == before

    # A file that cannot be read may declare anything, so nothing is taken away.
    file.write_text("{")
    agent = lab.start_agent(said='"cannot read file')
    assert lab.link("veth1Name", lab.one)["ifindex"] == before["ifindex"]
    assert "lab.yaml: line 1" in lab.log.read_text()
    assert '"agent ready"' not in lab.log.read_text()
    agent.kill()
    agent.wait(10)

    file.unlink()
    lab.start_agent()
    until(lambda: not lab.link("veth1Name", lab.one))


def test_what_it_cannot_do_is_one_sentence(lab: FileLab) -> None:
    lab.start_agent()
    second = lab.command("run")
    assert second.returncode == 1
    assert "is taken by process" in second.stderr
    assert "Traceback" not in second.stderr
    mine = lab.folder / "mine.sock"
    mine.write_text("")
    refused = lab.command("run", "--label", f"{lab.label}-2", "--socket", str(mine))
    assert refused.returncode == 2
    assert "exists and is not a socket" in refused.stderr
