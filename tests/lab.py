"""A lab: a real etcd, real agents and the ``ip`` command, seen from outside as a user sees them."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from etcd_server import EtcdServer
from patience import PATIENCE

T = TypeVar("T")

WITHIN = 10.0
"""Seconds that a test waits for something that takes milliseconds on an idle machine."""


def ip(*words: str, check: bool = True) -> str:
    """Run ``ip`` and return what it prints."""
    done = subprocess.run(
        ["ip", *words], capture_output=True, text=True, errors="replace", timeout=20 * PATIENCE, check=False
    )
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], T | None], *, within: float = WITHIN, what: Callable[[], object] = lambda: "") -> T:
    """Wait until ``condition`` returns something true, and return it. One that takes long is asked less often."""
    within *= PATIENCE
    deadline = (began := time.monotonic()) + within
    while not (result := condition()):
        now = time.monotonic()
        assert now < deadline, f"waited {within} s in vain {what()}"
        time.sleep(max(0.01, now - began))
        began = time.monotonic()
    return result


class Lab:
    """One label in one etcd, the agents started for it, and the namespaces of one test."""

    def __init__(self, etcd: EtcdServer, label: str, folder: Path) -> None:
        self.etcd = etcd
        self.label = label
        self.folder = folder
        self._agents: list[subprocess.Popen[bytes]] = []
        self._namespaces: set[str] = set()

    # The agent

    def start_agent(
        self,
        *options: str,
        label: str = "",
        ready: bool = True,
        within: float = WITHIN,
        under: Sequence[str] = (),
        program: Sequence[str] = ("-m", "ifagent"),
    ) -> subprocess.Popen[bytes]:
        """Start an agent, by the command ``under`` if there is one, and wait until it says that it is ready."""
        log = self.folder / f"agent-{len(self._agents)}.log"
        command = [
            *(*under, sys.executable, *program, "run", "--label", label or self.label),
            *("--store", str(self.etcd.address), "--socket", str(self.folder / f"{len(self._agents)}.sock")),
            *("--log-format", "json", "--log-level", "debug", *options),
        ]
        with log.open("wb") as stream:
            agent = subprocess.Popen(command, stdout=stream, stderr=stream)
        self._agents.append(agent)
        if ready:
            with log.open("rb") as lines:
                seen = bytearray()

                def has_ended_or_is_ready() -> bool:
                    seen.extend(lines.read())
                    return agent.poll() is not None or b'"agent ready"' in seen

                until(has_ended_or_is_ready, within=within, what=self.logs)
            assert agent.poll() is None, self.logs()
        return agent

    def kill_agent(self, number: int = signal.SIGKILL) -> int:
        """End the agent that was started last; return its exit code."""
        agent = self._agents[-1]
        agent.send_signal(number)
        return agent.wait(10 * PATIENCE)

    def logs(self) -> str:
        """Return what the agents of this lab have logged."""
        return "\n".join(path.read_text()[-6000:] for path in sorted(self.folder.glob("agent-*.log")))

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``ifagent`` with this lab's label and store."""
        options = ["--label", self.label, "--store", str(self.etcd.address)]
        done = subprocess.run(
            [sys.executable, "-m", "ifagent", words[0], *options, *words[1:]],
            capture_output=True,
            text=True,
            timeout=30 * PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    # The store

    def key(self, name: str, family: str = "config") -> str:
        """Return an interface's key."""
        return f"/vnf-agent/{self.label}/linux/{family}/v1/interface/{name}"

    def put(self, *values: dict[str, Any]) -> None:
        """Put values of v1.4.1, in one transaction."""
        self.put_raw({value["name"]: json.dumps(value) for value in values})

    def put_raw(self, values: dict[str, str]) -> None:
        """Put values as they are, in transactions of at most 100."""
        items = list(values.items())
        for start in range(0, len(items), 100):
            puts = "\n".join(f"put {self.key(name)} {json.dumps(text)}" for name, text in items[start : start + 100])
            self.etcd.ctl("txn", given=f"\n{puts}\n\n\n".encode())

    def delete(self, *names: str) -> None:
        """Delete values."""
        for name in names:
            self.etcd.ctl("del", self.key(name))

    def delete_all(self, names: Iterable[str]) -> None:
        """Delete values, in transactions of at most 100."""
        listed = list(names)
        for start in range(0, len(listed), 100):
            deletes = "\n".join(f"del {self.key(name)}" for name in listed[start : start + 100])
            self.etcd.ctl("txn", given=f"\n{deletes}\n\n\n".encode())

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the published states by name."""
        answer = json.loads(self.etcd.ctl("get", "--prefix", self.key("", "status"), "--write-out=json"))
        decoded = [json.loads(base64.b64decode(kv["value"])) for kv in answer.get("kvs", [])]
        return {state["name"]: state for state in decoded}

    def state(self, name: str) -> dict[str, Any]:
        """Return one published state, empty if there is none."""
        return self.states().get(name, {})

    def until_state(self, name: str, config_state: str, **fields: Any) -> dict[str, Any]:
        """Wait for a state."""

        def reached() -> dict[str, Any]:
            state = self.state(name)
            right = state.get("config_state") == config_state
            return state if right and all(state.get(key) == value for key, value in fields.items()) else {}

        return until(reached, what=lambda: f"for {name} {config_state} {fields}: {self.state(name)}\n{self.logs()}")

    def until_applied(self, *names: str) -> None:
        """Wait until all of these are applied."""
        until(
            lambda: {n for n, s in self.states().items() if s["config_state"] == "APPLIED"} >= set(names),
            within=60,
            what=lambda: f"{[s for s in self.states().values() if s['config_state'] != 'APPLIED'][:5]}\n{self.logs()}",
        )

    # The kernel

    def space(self, name: str) -> str:
        """Return a namespace's name that only this test uses; it is taken away afterwards."""
        full = f"{name}-{self.label[-8:]}"
        self._namespaces.add(full)
        return full

    def spaces(self) -> set[str]:
        """Return the namespaces of this lab that exist."""
        listed = {line.split()[0] for line in ip("netns", "list").splitlines() if line}
        return listed & self._namespaces

    def links(self, space: str = "") -> dict[str, dict[str, Any]]:
        """Return the links of a namespace by host name."""
        return links_of(space)

    def link(self, host_name: str, space: str = "") -> dict[str, Any]:
        """Return one link, empty if it is not there."""
        return self.links(space).get(host_name, {})

    def clean_up(self) -> None:
        """End the agents and take away what they made."""
        for agent in self._agents:
            if agent.poll() is None:
                agent.kill()
                agent.wait(10)
        for space in self.spaces():
            ip("netns", "del", space, check=False)
        for host_name in self.links():
            ip("link", "del", "dev", host_name, check=False)


def links_of(space: str = "") -> dict[str, dict[str, Any]]:
    """Return the links of a namespace by host name, as ``ip -j -d addr`` tells them.

    Whether the kernel still looks for duplicates of an address is left out: that ends by itself.
    """
    where = ["-n", space] if space else []
    text = ip(*where, "-j", "-d", "addr", check=False)
    links = {link["ifname"]: link for link in json.loads(text or "[]") if link.get("ifname", "lo") != "lo"}
    for link in links.values():
        for address in link.get("addr_info", []):
            address.pop("tentative", None)
    return links


def addresses(link: dict[str, Any], *, automatic: bool = False) -> list[str]:
    """Return a link's addresses, without the kernel's own fe80 ones."""
    listed = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", [])]
    return listed if automatic else [a for a in listed if not a.startswith("fe80")]


def veth(name: str, peer: str, space: str = "", **fields: Any) -> dict[str, Any]:
    """Return a value of v1.4.1 for one end of a veth."""
    value: dict[str, Any] = {"name": name, "type": 0, "enabled": True, "veth": {"peer_if_name": peer}}
    if space:
        value["namespace"] = {"type": 2, "name": space}
    return value | fields


def pair(a: str, b: str, left: str = "", right: str = "", **fields: Any) -> Iterable[dict[str, Any]]:
    """Return the values of both ends."""
    return veth(a, b, left, **fields), veth(b, a, right, **fields)


@contextmanager
def lab_in(etcd: EtcdServer, label: str, folder: Path) -> Iterator[Lab]:
    """Have a lab, and take everything away after it."""
    lab = Lab(etcd, label, folder)
    try:
        yield lab
    finally:
        lab.clean_up()
