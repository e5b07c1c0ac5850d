"""O1: what answers cost with 10,000 interfaces, and how long a probe waits beside clients that are a nuisance.

How long an answer takes, and how long each holds the event loop. The nuisance asks for everything without end, says
nothing or does not read, and is one process, as is whoever probes. The outlets run in this process beside states that
nobody changes, so that what is measured is theirs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.lowlevel

from benchmarks.bench import Bench
from benchmarks.results import Figure
from ifagent import Agent
from ifagent.core.counters import Counters
from ifagent.core.resources import by_name, interface_key
from ifagent.core.state import ConfigState, InterfaceState
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.outlets.http import HttpServer
from ifagent.outlets.local_socket import LocalSocket
from ifagent.stream import StateHub, Subscription, Wanted

_CLIENT = """
import json, socket, sys, time
address, request, count = json.loads(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
times = []
for _ in range(count):
    started = time.perf_counter()
    with socket.socket(family) as client:
        client.settimeout(30)
        client.connect(address if isinstance(address, str) else tuple(address))
        client.sendall(request)
        while data := client.recv(1 << 18):
            if data.endswith(b'{"done":true}\\n'):
                break
    times.append(time.perf_counter() - started)
    time.sleep(0.01 if count > 100 else 0)
print(json.dumps(times))
"""
"""Asks some times, and prints the seconds that each answer took."""

_STORM = """
import json, socket, sys, threading
address, request, count = tuple(json.loads(sys.argv[1])), sys.argv[2].encode(), int(sys.argv[3])
def ask():
    while True:
        try:
            with socket.create_connection(address) as client:
                client.sendall(request)
                while client.recv(1 << 18):
                    pass
        except OSError:
            pass
for _ in range(count):
    threading.Thread(target=ask).start()
print(flush=True)
"""
"""Asks over so many connections without end."""

_HOLDER = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[3]))]
for one in held:
    try:
        one.sendall(sys.argv[2].encode())
    except OSError:
        pass  # closed for another one
print(flush=True)
sys.stdin.read()
"""
"""Has many connections, sends something over each, and reads nothing."""


class Reporter:
    """An agent as far as outlets need one."""

    def __init__(self, count: int) -> None:
        counted = Counters(
            in_packets=12345, in_bytes=1234567, out_packets=3, out_bytes=4, drop_packets=0, in_error_packets=0,
            out_error_packets=0,
        )  # fmt: skip
        names = [f"interface-{number}" for number in range(count)]
        self.hub = StateHub()
        self.hub.publish(
            {
                interface_key(name): InterfaceState(
                    name=name, config_state=ConfigState.PENDING, reason="x" * 80, statistics=counted
                )
                for name in names
            },
            {},
        )
        self._agent = Agent(kernel=SimulatedKernel())

    def health(self) -> Any:
        """Return that it is not ready."""
        return self._agent.health()

    def statistics(self) -> Any:
        """Return statistics with the counters of all states."""
        counters = {state.name: state.statistics for state in self.hub.states.values() if state.statistics}
        return replace(self._agent.statistics(), counters=counters)

    def current_states(self, *, foreign: bool = False) -> Mapping[str, InterfaceState]:
        """Return all states."""
        del foreign
        return by_name(self.hub.states)

    def states(self, *, name: str | None = None, foreign: bool = False) -> Subscription:
        """Return a reader of them."""
        del foreign
        return self.hub.subscribe(Wanted.of(name=name))

    def declarations(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    async def wait_ready(self) -> None:
        """Return at once."""


def run(bench: Bench) -> Iterator[Figure]:
    """Measure O1."""
    measured = asyncio.run(_measure(1000 if bench.quick else 10_000, bench.repeats))
    for measure, (values, most) in measured.items():
        yield Figure(row="O1", measure=measure, values=values, unit="ms", most=most)


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.0\r\n\r\n"


async def _measure(count: int, repeats: int) -> dict[str, tuple[list[float], float | None]]:
    """Return the ms of every measure, and what they may be at most."""
    found: dict[str, tuple[list[float], float | None]] = {}
    with TemporaryDirectory() as folder:
        reporter, path = Reporter(count), Path(folder) / "socket"
        gc.collect()
        gc.freeze()  # as the service does
        http, local = HttpServer("127.0.0.1:0"), LocalSocket(path)
        async with anyio.create_task_group() as group:
            await group.start(http.run, reporter)
            await group.start(local.run, reporter)
            address = ["127.0.0.1", http.port]
            for name, where, request in (
                ("/metrics", address, _get("/metrics")),
                ("/states", address, _get("/states")),
                ("all states at the local socket", str(path), '{"do":"states"}\n'),
            ):
                times, longest = [], []
                for _ in range(repeats):
                    held, answered = await _held(_ask(where, request, 1))
                    times += answered
                    longest.append(held)
                found[f"{name} of {count} interfaces"] = times, None
                found[f"... longest turn of the loop for {name}"] = longest, None
            for name, *command in (
                ("8 that ask for /metrics without end", _STORM, json.dumps(address), _get("/metrics"), "8"),
                ("8 that ask for /states without end", _STORM, json.dumps(address), _get("/states"), "8"),
                ("200 that probe without end", _STORM, json.dumps(address), _get("/livez"), "200"),
                ("512 silent connections", _HOLDER, str(http.port), "", "512"),
                ("512 connections that read no states", _HOLDER, str(http.port), _get("/states"), "512"),
            ):
                async with await anyio.open_process([sys.executable, "-c", *command], stderr=None) as nuisance:
                    assert nuisance.stdout
                    await nuisance.stdout.receive()
                    found |= _spread(f"a probe beside {name}", await _ask(address, _get("/livez"), 101))
                    nuisance.kill()
            group.cancel_scope.cancel()
    return found


def _spread(measure: str, times: list[float]) -> dict[str, tuple[list[float], float | None]]:
    cuts = quantiles(times, n=100, method="inclusive")
    return {f"{measure}, p50": ([cuts[49]], None), f"{measure}, p99": ([cuts[98]], 100.0)}


async def _ask(where: object, request: str, count: int) -> list[float]:
    """Return the ms that each of some answers takes a process of its own."""
    done = await anyio.run_process([sys.executable, "-c", _CLIENT, json.dumps(where), request, str(count)], stderr=None)
    return [1000 * seconds for seconds in json.loads(done.stdout)]


async def _held(work: Coroutine[Any, Any, list[float]]) -> tuple[float, list[float]]:
    """Return for how many ms of work the loop had no turn at most, and what the work returns."""
    longest, done = 0.0, asyncio.ensure_future(work)
    while not done.done():
        worked = time.thread_time()
        await anyio.lowlevel.checkpoint()
        longest = max(longest, time.thread_time() - worked)
    return 1000 * longest, done.result()
