"""T1: what others notice while somebody does his worst in a namespace.

Another process storms (:mod:`benchmarks.storm`) as fast as one processor lets it. Meanwhile the MTU of a link in the
agent's own namespace, whose other end is in a third one, is changed again and again in etcd, and timed until a netlink
listener hears the kernel tell of it; ``/livez`` and ``/readyz`` are asked in turn. Once the namespace has an end of
the agent's pairs in it, and once it has none. The kernel does one thing to links at a time, whoever wants it: what a
request of the same kind takes without the agent is measured in turn.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from etcd_server import free_port

from benchmarks.agent_process import AgentProcess
from benchmarks.bench import Bench
from benchmarks.fixture import key
from benchmarks.netlink import Listener, Sender, packed, set_mtu
from benchmarks.results import Figure, percentile, say
from benchmarks.spaces import Spaces
from benchmarks.storm import KINDS, command

LABEL = "storms"
EVERY = 0.1
"""Seconds between two changes."""

QUICK = ("1,000 links flap", "an address comes and goes among 8,000")
"""The storms of ``--quick``."""


@dataclass
class Noticed:
    """What was noticed in one stretch of time: ms of each change, with the agent and without, and of each probe."""

    changes: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    processor: float = 0.0
    megabytes: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"change {_told(self.changes)}, without the agent {_told(self.bare)}, probes {_told(self.probes)}, "
            f"agent {self.processor:.2f} of a processor, {self.megabytes:.0f} MiB"
        )


def _told(times: Sequence[float]) -> str:
    p50, p99 = (percentile(times, percent) for percent in (50, 99))
    return f"p50 {p50:.1f} p99 {p99:.1f} max {max(times):.1f} ms of {len(times)}"


class Onlooker:
    """Changes one interface, and asks for the agent's health, until told to stop."""

    def __init__(self, bench: Bench, agent: AgentProcess, port: int) -> None:
        self._bench, self._agent, self._port = bench, agent, port
        self._mtu = 1400

    def declare(self, name: str, peer: str, space: str = "", mtu: int = 0) -> bytes:
        """Return the value of an end of a pair."""
        value: dict[str, object] = {"name": name, "type": 0, "enabled": True, "veth": {"peer_if_name": peer}}
        if space:
            value["namespace"] = {"type": 2, "name": space}
        return json.dumps(value | ({"mtu": mtu} if mtu else {})).encode()

    def look(self, seconds: float) -> Noticed:
        """Return what was noticed for so many seconds."""
        noticed, ended = Noticed(), threading.Event()
        before, began = self._agent.spent, time.perf_counter()
        prober = threading.Thread(target=self._probe, args=(noticed.probes, ended))
        prober.start()
        try:
            while time.perf_counter() - began < seconds:
                noticed.changes.append(self._change())
                noticed.bare.append(self._change_barely())
                noticed.megabytes = max(noticed.megabytes, self._agent.resident / (1 << 20))
                time.sleep(EVERY)
        finally:
            ended.set()
            prober.join()
        noticed.processor = (self._agent.spent - before) / (time.perf_counter() - began)
        return noticed

    def _change(self) -> float:
        self._mtu = 1300 + (self._mtu + 1) % 100
        listener = Listener()
        began = time.perf_counter()
        put = self._bench.store.put_soon(key(LABEL, "u0"), self.declare("u0", "u1", mtu=self._mtu))
        listener.wait_mtu("u0", self._mtu)
        seconds = time.perf_counter() - began
        put.result()
        listener.close()
        return seconds * 1000

    def _change_barely(self) -> float:
        """Return the ms that another MTU of the loopback link takes, without the agent."""
        self._mtu = 1300 + (self._mtu + 1) % 100
        sender = Sender()
        began = time.perf_counter()
        sender.send(packed([set_mtu(1, 64000 + self._mtu)])[0])
        seconds = time.perf_counter() - began
        sender.close()
        return seconds * 1000

    def _probe(self, probes: list[float], ended: threading.Event) -> None:
        while not ended.is_set():
            for path in ("livez", "readyz"):
                began = time.perf_counter()
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=60) as answer:
                    answer.read()
                probes.append((time.perf_counter() - began) * 1000)
            ended.wait(EVERY)


def run(bench: Bench) -> Iterator[Figure]:
    """Measure T1."""
    port = free_port()
    kinds = QUICK if bench.quick else tuple(KINDS)
    with Spaces.made(bench.folder / LABEL, 3) as spaces:
        unrelated, ours, strange = spaces.names
        agent = AgentProcess(
            LABEL, bench.store.address, netns_dir=spaces.directory, folder=bench.folder,
            options=("--http", f"127.0.0.1:{port}"),
        )  # fmt: skip
        onlooker = Onlooker(bench, agent, port)
        pairs = (("u0", "u1", ""), ("u1", "u0", unrelated), ("h0", "h1", ""), ("h1", "h0", ours))
        bench.store.put({key(LABEL, name): onlooker.declare(name, peer, space) for name, peer, space in pairs})
        with agent:
            agent.wait_applied(len(pairs))
            for kind in ("quiet", *kinds):
                for space, where in ((ours, "with a link of ours"), (strange, "without")):
                    if kind == "quiet" and space == strange:
                        continue
                    noticed = _under(kind, spaces, space, onlooker, 4 if bench.quick else 12)
                    name = kind if kind == "quiet" else f"{kind}, in a namespace {where}"
                    say(f"  {name}: {noticed}")
                    yield from _figures(name, noticed)
        bench.store.clear(LABEL)
        with suppress(OSError):
            spaces.sweep(LABEL)


def _under(kind: str, spaces: Spaces, space: str, onlooker: Onlooker, seconds: float) -> Noticed:
    """Return what was noticed while one storms."""
    if kind == "quiet":
        return onlooker.look(seconds)
    path = spaces.directory / space
    with subprocess.Popen(command(path, kind, seconds + 1), stdout=subprocess.PIPE, text=True) as storm:
        assert storm.stdout is not None
        storm.stdout.readline()
        try:
            noticed = onlooker.look(seconds)
        finally:
            said, _ = storm.communicate()
    say(f"  {said.strip()}")
    listed = ["nsenter", f"--net={path}", "ip", "-o", "link"]
    made = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    names = {word.partition("@")[0].rstrip(":") for word in made if word.startswith("storm")}
    lines = "\n".join(f"link del {name}" for name in names)
    subprocess.run([*listed[:3], "-force", "-batch", "-"], input=lines, text=True, check=False, capture_output=True)
    return noticed


def _figures(name: str, noticed: Noticed) -> Iterator[Figure]:
    p50, p99 = (percentile(noticed.changes, percent) for percent in (50, 99))
    without = percentile(noticed.bare, 99)
    yield Figure(row="T1", measure=f"a change elsewhere, p50: {name}", values=[p50], unit="ms", most=20.0)
    yield Figure(row="T1", measure=f"a change elsewhere, p99: {name}", values=[p99], unit="ms", most=100.0)
    yield Figure(row="T1", measure=f"the same without the agent, p99: {name}", values=[without], unit="ms")
    probes = percentile(noticed.probes, 99)
    yield Figure(row="T1", measure=f"/livez and /readyz, p99: {name}", values=[probes], unit="ms", most=100.0)
    yield Figure(row="T1", measure=f"the agent's processor time: {name}", values=[noticed.processor], unit="s/s")
    yield Figure(row="T1", measure=f"the agent's memory: {name}", values=[noticed.megabytes], unit="MiB")
