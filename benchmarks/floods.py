"""T11: what a writer of values can cost with very many keys, and what others notice of it meanwhile.

Keys are put as fast as etcd takes them, each with a value that is wrong in its own way or half a pair, and then deleted
by one request. Meanwhile the MTU of a link of the agent's is changed in etcd again and again, and timed until
the kernel has it; ``/livez`` is asked in turn. *Known* is when the agent's metrics count what is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from etcd_server import free_port

from benchmarks.agent_process import AgentProcess
from benchmarks.bench import Bench
from benchmarks.fixture import key
from benchmarks.results import Figure, percentile, say
from benchmarks.spaces import Spaces

LABEL = "floods"
JUNK = 100_000
LARGE = 5_000
HUGE = 300
EVERY = 0.1
"""Seconds between two changes."""

PATIENCE = 200.0
_SIOCGIFMTU = 0x8921
_MIB = 1 << 20


def _junk(number: int) -> bytes:
    """Return a value that is wrong in one of four ways, or half a pair."""
    name = f"j{number}"
    wrong: list[bytes] = [
        b"{",
        b"\xff" * 40,
        json.dumps({"name": name, "type": 0, "mtu": -5, "ip_addresses": ["x"] * 50}).encode(),
        json.dumps({"name": name, "type": 0, "enabled": True, "veth": {"peer_if_name": f"nobody{number}"}}).encode(),
        os.urandom(100),
    ]
    return wrong[number % len(wrong)]


@dataclass
class Flood:
    """What one flood cost: seconds until everything was known, ms of changes and probes meanwhile, MiB."""

    known: float = 0.0
    changes: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    peak: float = 0.0
    after: float = 0.0


class _Onlooker:
    """Changes one link, and probes, in threads of its own until told to stop."""

    def __init__(self, bench: Bench, port: int, flood: Flood) -> None:
        self._bench, self._port, self._flood = bench, port, flood
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target) for target in (self._change, self._probe)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _change(self) -> None:
        mtu = 1400
        while not self._ended.wait(EVERY):
            mtu = 1401 if mtu == 1400 else 1400
            began = time.perf_counter()
            self._bench.store.put_soon(key(LABEL, "u0"), _veth("u0", "u1", mtu=mtu)).result()
            while _mtu_of("u0") != mtu and time.perf_counter() - began < PATIENCE:
                time.sleep(0.001)
            self._flood.changes.append((time.perf_counter() - began) * 1000)

    def _probe(self) -> None:
        while not self._ended.wait(0.05):
            began = time.perf_counter()
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/livez", timeout=30) as got:
                got.read()
            self._flood.probes.append((time.perf_counter() - began) * 1000)


def run(bench: Bench) -> Iterator[Figure]:
    """Measure T11."""
    share = 20 if bench.quick else 1
    with Spaces.made(bench.folder / LABEL, 1) as spaces:
        port = free_port()
        agent = AgentProcess(
            LABEL,
            bench.store.address,
            netns_dir=spaces.directory,
            folder=bench.folder,
            options=("--http", f"127.0.0.1:{port}"),
            every_line=False,
            environment={"PYTHONMALLOC": "malloc"},  # as the unit and the image have it
        )
        bench.store.put({key(LABEL, "u0"): _veth("u0", "u1"), key(LABEL, "u1"): _veth("u1", "u0", space="s0")})
        with agent:
            agent.wait_applied(2)
            time.sleep(2)
            before = agent.resident / _MIB
            say(f"  {before:.0f} MiB before")
            floods: list[tuple[str, int, Callable[[int], bytes]]] = [
                ("junk keys", JUNK // share, _junk),
                ("values of 64 KiB", LARGE // share, lambda number: _large(number, 65_536)),
                ("values of 1 MiB", HUGE // share, lambda number: _large(number, _MIB)),
            ]
            for what, count, make in floods:
                put = _flood(bench, agent, port, partial(_put, bench, count, make), count + 2)
                yield from _figures(f"{count} {what} put", put, before)
                gone = _flood(bench, agent, port, partial(bench.store.delete, key(LABEL, "j")), 2)
                yield from _figures(f"{count} {what} deleted at once", gone, before, memory=True)


def _flood(bench: Bench, agent: AgentProcess, port: int, act: Callable[[], None], count: int) -> Flood:
    flood = Flood()
    with _Onlooker(bench, port, flood):
        began = time.perf_counter()
        acting = threading.Thread(target=act)
        acting.start()
        while acting.is_alive() or _known(port) != count:
            flood.peak = max(flood.peak, agent.resident / _MIB)
            if time.perf_counter() - began > PATIENCE:
                break
            time.sleep(0.25)
        flood.known = time.perf_counter() - began
        acting.join()
    agent.wait_idle()
    time.sleep(3)
    flood.after = agent.resident / _MIB
    return flood


def _figures(what: str, flood: Flood, before: float, *, memory: bool = False) -> Iterator[Figure]:
    changes, probes = flood.changes or [PATIENCE * 1000], flood.probes or [PATIENCE * 1000]
    say(
        f"  {what}: known after {flood.known:.1f} s; change p50 {percentile(changes, 50):.0f} p99 "
        f"{percentile(changes, 99):.0f} max {max(changes):.0f} ms of {len(changes)}; livez p99 "
        f"{percentile(probes, 99):.0f} max {max(probes):.0f} ms; peak {flood.peak:.0f}, then {flood.after:.0f} MiB"
    )
    yield Figure(row="T11", measure=f"{what}: known", values=[flood.known], unit="s", most=10)
    yield Figure(row="T11", measure=f"{what}: longest change", values=[max(changes)], unit="ms", most=1000)
    yield Figure(row="T11", measure=f"{what}: livez, p99", values=[percentile(probes, 99)], unit="ms", most=100)
    yield Figure(row="T11", measure=f"{what}: most memory", values=[flood.peak], unit="MiB")
    if memory:
        more = flood.after - before
        yield Figure(row="T11", measure=f"{what}: memory left over", values=[more], unit="MiB", most=20)


def _known(port: int) -> int:
    """Return how many interfaces the agent knows."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as got:
        found = re.findall(r"^ifagent_interfaces\{.*\} (\S+)", got.read().decode(), re.MULTILINE)
        return round(sum(map(float, found)))
    return -1


def _put(bench: Bench, count: int, make: Callable[[int], bytes]) -> None:
    size = max(1, min(100, _MIB // len(make(2))))
    for start in range(0, count, size):
        bench.store.put({key(LABEL, f"j{number}"): make(number) for number in range(start, min(count, start + size))})


def _large(number: int, size: int) -> bytes:
    head = json.dumps({"name": f"j{number}", "type": 0, "veth": {"peer_if_name": f"nobody{number}"}, "more": ""})
    return (head[:-2] + "x" * (size - len(head)) + '"}').encode()


def _veth(name: str, peer: str, *, space: str = "", mtu: int = 0) -> bytes:
    value: dict[str, object] = {"name": name, "type": 0, "enabled": True, "veth": {"peer_if_name": peer}}
    if space:
        value["namespace"] = {"type": 2, "name": space}
    return json.dumps(value | ({"mtu": mtu} if mtu else {})).encode()


def _mtu_of(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
        except OSError:
            return 0
        return int(struct.unpack("16si12x", answer)[1])
