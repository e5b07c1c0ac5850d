"""Counters and other people's links as they go out: over HTTP, the local socket, and the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families as parse
from world import veth

from ifagent import Agent, Change, ConfigState, InterfaceState, Memory, Settings
from ifagent.agent_socket import fetch_states, watch_states
from ifagent.cli.formatting import link, traffic
from ifagent.core.counters import LEAST_INTERVAL, Counters, Rates
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.outlets.http import HttpServer
from ifagent.outlets.local_socket import LocalSocket

pytestmark = pytest.mark.anyio

PAIR = [veth("a", "b", "ns1", enabled=True), veth("b", "a", "ns2", enabled=True)]


class Out:
    """A running agent with its outlets."""

    def __init__(self, agent: Agent, socket: Path, url: str) -> None:
        self.agent = agent
        self.socket = socket
        self.url = url

    async def ifagent(self, *words: str) -> str:
        """Run the command line; return what it prints."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IFAGENT_")}
        environment |= {"IFAGENT_STORE": "file:/nowhere", "IFAGENT_SOCKET": str(self.socket)}
        command = [sys.executable, "-m", "ifagent", *words]

        def run() -> str:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return await anyio.to_thread.run_sync(run)

    async def get(self, path: str) -> str:
        async with ClientSession() as client, client.get(self.url + path) as response:
            assert response.status == 200
            return await response.text()


@asynccontextmanager
async def going_out(kernel: SimulatedKernel, tmp_path: Path, counters: float | None) -> AsyncIterator[Out]:
    settings = Settings(counters=counters)
    async with Agent.open(settings, kernel=kernel, sources=[Memory(PAIR)]) as agent, anyio.create_task_group() as group:
        await group.start(LocalSocket(tmp_path / "agent.sock").run, agent)
        server = HttpServer("127.0.0.1:0")
        await group.start(server.run, agent)
        yield Out(agent, tmp_path / "agent.sock", f"http://127.0.0.1:{server.port}")
        group.cancel_scope.cancel()


@pytest.fixture
def kernel() -> SimulatedKernel:
    return SimulatedKernel()


@pytest.fixture
async def out(kernel: SimulatedKernel, tmp_path: Path) -> AsyncIterator[Out]:
    """Have outlets with counters, and 1000 packets of 1250 bytes counted that somebody sends a second."""
    async with going_out(kernel, tmp_path, LEAST_INTERVAL) as running, anyio.create_task_group() as group:
        group.start_soon(send, kernel)
        async for event in running.agent.states(name="b"):
            if event.state and event.state.statistics and event.state.statistics.in_packets:
                break
        yield running
        group.cancel_scope.cancel()


async def send(kernel: SimulatedKernel) -> None:
    while True:
        kernel.external.send("ns1", "a", packets=10, size=1250)
        await anyio.sleep(0.01)


async def test_http_has_them(out: Out) -> None:
    listed = {state["name"]: state for state in json.loads(await out.get("/states"))}
    assert listed["a"]["statistics"]["out_bytes"] > 0
    assert listed["b"]["statistics"]["in_packets"] * 1250 == listed["b"]["statistics"]["in_bytes"]
    families = {family.name: family for family in parse(await out.get("/metrics"))}
    samples = {s.labels["interface"]: s.value for s in families["ifagent_interface_in_packets"].samples}
    assert samples["a"] == 0
    assert samples["b"] >= listed["b"]["statistics"]["in_packets"]
    async with ClientSession() as client, client.get(f"{out.url}/states/watch?name=b") as response:
        lines = [json.loads((await response.content.readuntil(b"\n\n")).removeprefix(b"data: ")) for _ in range(3)]
    assert [line["event"] for line in lines] == ["snapshot", "changed", "changed"]
    packets = [line["state"]["statistics"]["in_packets"] for line in lines]
    assert packets == sorted(set(packets))


async def test_the_local_socket_has_them(out: Out) -> None:
    states = await fetch_states(out.socket)
    assert states["b"].statistics
    assert states["b"].statistics.in_packets > 0
    async with aclosing(watch_states(out.socket, name="b")) as events:
        first, second = await anext(events), await anext(events)
    assert (first.event, second.event) == (Change.SNAPSHOT, Change.CHANGED)
    assert first.state
    assert second.state
    assert second.state.last_change == first.state.last_change, "counters alone are no change of the interface"


async def test_the_command_line_has_them(out: Out) -> None:
    listed = json.loads(await out.ifagent("states", "--json"))
    assert {state["name"]: state["statistics"]["drop_packets"] for state in listed} == {"a": 0, "b": 0}
    table = await out.ifagent("states")
    header, first, second = table.splitlines()
    assert header.split()[-4:] == ["addresses", "in", "out", "reason"]
    assert re.search(r"0 B/s 0 p/s +[\d.]+ [kM]B/s [\d.]+ k?p/s", first)
    assert re.search(r"[\d.]+ [kM]B/s [\d.]+ k?p/s +0 B/s 0 p/s", second)


async def test_without_the_setting_there_are_none(kernel: SimulatedKernel, tmp_path: Path) -> None:
    async with going_out(kernel, tmp_path, None) as out:
        assert not any("statistics" in state for state in json.loads(await out.get("/states")))
        assert "ifagent_interface_" not in await out.get("/metrics")
        assert " out " not in await out.ifagent("states")
        assert kernel.counter_readings == 0


async def test_foreign_links_over_the_local_socket(kernel: SimulatedKernel, tmp_path: Path) -> None:
    async with going_out(kernel, tmp_path, None) as out:
        kernel.external.add_link("ns1", "br", kind="bridge")
        assert set(await fetch_states(out.socket)) == {"a", "b"}
        states = await fetch_states(out.socket, foreign=True)
        assert states.keys() == {"a", "b", "lo", "lo@named:ns1", "lo@named:ns2", "br@named:ns1"}
        assert states["br@named:ns1"].config_state is ConfigState.FOREIGN
        async with aclosing(watch_states(out.socket, foreign=True)) as events:
            assert {(await anext(events)).name for _ in range(6)} == states.keys()
            kernel.external.delete_link("ns1", "br")
            gone = await anext(events)
            assert (gone.event, gone.name) == (Change.DELETED, "br@named:ns1")
        assert set(json.loads(await out.get("/states"))[0]) >= {"config_state"}
        assert not any(state["config_state"] == "FOREIGN" for state in json.loads(await out.get("/states")))


async def test_foreign_links_on_the_command_line(kernel: SimulatedKernel, tmp_path: Path) -> None:
    async with going_out(kernel, tmp_path, None) as out:
        kernel.external.add_link("ns1", "br", kind="bridge")
        assert "FOREIGN" not in await out.ifagent("states")
        lines = (await out.ifagent("states", "--foreign")).splitlines()
        [line] = [line for line in lines if line.startswith("br@named:ns1")]
        assert line.split()[1:4] == ["FOREIGN", "ns1", "br"]
        assert line.endswith("no interface is declared for this link of kind bridge")
        names = {state["name"] for state in json.loads(await out.ifagent("states", "--foreign", "--json"))}
        assert names == {"a", "b", "lo", "lo@named:ns1", "lo@named:ns2", "br@named:ns1"}


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "0 B/s"),
        (0.25, "0.25 B/s"),
        (999.4, "999 B/s"),
        (999.6, "1 kB/s"),
        (125_000_000.0, "125 MB/s"),
        (1_250_000_000.0, "1.25 GB/s"),
        (1e15, "1e+03 TB/s"),
    ],
)
def test_rates_in_words(rate: float, words: str) -> None:
    counters = Counters(rates=Rates(in_bytes=rate, out_packets=3.0))
    state = InterfaceState(
        name="a", config_state=ConfigState.APPLIED, internal_name="a0", if_index=2, mtu=1500, statistics=counters
    )
    assert traffic(state) == (f"{words} 0 p/s", "0 B/s 3 p/s")
    assert link(state) == f"a0, veth, down, ifindex 2, mtu 1500, in {words} 0 p/s, out 0 B/s 3 p/s"


def test_no_rates_no_words() -> None:
    for counters in (None, Counters(in_packets=5)):
        state = InterfaceState(name="a", config_state=ConfigState.APPLIED, if_index=2, statistics=counters)
        assert traffic(state) == ("", "")
        assert not re.search(r"\bin \b", link(state))
