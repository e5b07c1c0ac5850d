"""The HTTP outlet beside an agent on the simulated kernel, asked by a real client."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from errno import EBUSY
from typing import Any
from urllib.request import urlopen

import aiohttp
import anyio
import anyio.to_thread
import pytest
from agent_view import FakeAgent
from aiohttp import ClientSession, ClientTimeout
from anyio.lowlevel import checkpoint
from keyed import keyed
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from watched import until_true
from world import veth

from ifagent import Agent, Interface, Memory, Settings
from ifagent.core.events import SourceHealth, SourceSnapshot
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import CreateLink
from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.errors import InvalidSettings
from ifagent.formats.state import decode_event, decode_state_fields, encode_state
from ifagent.kernel.contract import Emit
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.outlets.http import HttpServer, Limits, parse_address
from ifagent.statistics import STALL, LoopCounters

pytestmark = pytest.mark.anyio

A, B = veth("a", "b", enabled=True), veth("b", "a", enabled=True)


class Slow:
    """A source that says what it has when it is told to."""

    name = "slow"

    def __init__(self) -> None:
        self.speak = anyio.Event()
        self.problem = "cannot reach it"

    async def run(self, emit: Emit) -> None:
        emit(SourceHealth(self.name, self.problem))
        await self.speak.wait()
        emit(SourceSnapshot(self.name, {}))
        emit(SourceHealth(self.name))
        await anyio.sleep_forever()


class HangingKernel(SimulatedKernel):
    """A kernel that may not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = anyio.Event()
        self.answer.set()
        self.waiting = False

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        self.waiting = not self.answer.is_set()
        await self.answer.wait()
        return await super().execute(operations)


class Asked:
    """A running server and a client of it."""

    def __init__(self, agent: Agent, server: HttpServer, client: ClientSession) -> None:
        self.agent = agent
        self.url = f"http://127.0.0.1:{server.port}"
        self._client = client

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self._client.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def metrics(self) -> dict[str, Metric]:
        status, text = await self.get("/metrics")
        assert status == 200
        return {family.name: family for family in parse(text)}

    @asynccontextmanager
    async def watching(self, query: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        async with self._client.get(f"{self.url}/states/watch{query}") as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            yield events_of(response)


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Read server-sent events as a browser does, comments left out."""
    data = b""
    async for line in response.content:
        if line == b"\n" and data:
            decode_event(data)  # is the one format of events
            yield json.loads(data)
            data = b""
        elif line.startswith(b"data: "):
            data += line.removeprefix(b"data: ").rstrip(b"\n")
        else:
            assert line in {b":\n", b"\n"}


@asynccontextmanager
async def asking(agent: Agent, **limits: Any) -> AsyncIterator[Asked]:
    """Have the agent answer at a free port; it need not run. ``limits`` are those that are not the usual ones."""
    async with anyio.create_task_group() as group:
        server = HttpServer("127.0.0.1:0", limits=Limits(**limits))
        await group.start(server.run, agent)
        async with ClientSession(timeout=ClientTimeout(total=10)) as client:
            yield Asked(agent, server, client)
        group.cancel_scope.cancel()


@asynccontextmanager
async def served(*interfaces: Interface, kernel: SimulatedKernel | None = None, **limits: Any) -> AsyncIterator[Asked]:
    sources = [Memory(interfaces, name="memory")]
    async with (
        Agent.open(kernel=kernel or SimulatedKernel(), sources=sources) as agent,
        asking(agent, **limits) as asked,
    ):
        yield asked


@asynccontextmanager
async def hanging(agent: Agent, kernel: HangingKernel, interface: Interface) -> AsyncIterator[LoopCounters]:
    """Have a round that declares the interface hang in the kernel while the block lasts, then end."""
    kernel.answer = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(agent.configure, interface)
        await until_true(lambda: kernel.waiting)
        yield agent._reconciler.counters
        kernel.answer.set()


def values(family: Metric) -> dict[tuple[str, ...], float]:
    """Return the values of a family's plain samples by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum", "_count", "_created"))
    }


async def test_ready_once_every_source_has_been_heard() -> None:
    slow = Slow()
    agent = Agent(kernel=SimulatedKernel(), sources=[slow])
    async with asking(agent) as asked, anyio.create_task_group() as group:
        assert await asked.get("/livez") == (200, "alive\n")
        group.start_soon(agent.run)
        with anyio.fail_after(5):
            while "cannot reach it" not in (await asked.get("/readyz"))[1]:
                await anyio.sleep(0.01)
        assert await asked.get("/readyz") == (
            503,
            "not ready\nslow: not synced\nslow: cannot reach it\n",
        )
        metrics = await asked.metrics()
        assert values(metrics["ifagent_ready"]) == {(): 0}
        assert values(metrics["ifagent_source_synced"]) == {("api",): 1, ("slow",): 0}
        assert values(metrics["ifagent_source_healthy"]) == {("api",): 1, ("slow",): 0}
        assert await asked.get("/livez") == (200, "alive\n")
        slow.speak.set()
        await agent.wait_ready()
        assert (await asked.get("/readyz")) == (200, "ready\n")
        group.cancel_scope.cancel()


async def test_an_agent_that_has_ended_is_neither_ready_nor_alive() -> None:
    async with Agent.open(kernel=SimulatedKernel()) as agent:
        assert agent.statistics().alive
    async with asking(agent) as asked:
        assert await asked.get("/livez") == (503, "the agent has ended\n")
        assert await asked.get("/readyz") == (503, "not ready\nthe agent has ended\n")


async def test_metrics_tell_what_was_done() -> None:
    kernel = SimulatedKernel()
    kernel.fail_next(CreateLink, EBUSY)
    async with served(A, B, kernel=kernel) as asked:
        metrics = await asked.metrics()
        assert values(metrics["ifagent_interfaces"])[("RETRYING",)] == 2
        await asked.agent.wait_for("a", timeout=5)
        await asked.agent.configure(veth("lonely", "nobody"))
        reading = asked.agent.states()
        metrics = await asked.metrics()
        operations = values(metrics["ifagent_operations"])
        assert operations[("create_link", "EBUSY")] == operations[("create_link", "ok")] == 1
        assert sum(operations.values()) == kernel.operations_executed
        assert values(metrics["ifagent_interfaces"]) == {
            ("APPLIED",): 2,
            ("PENDING",): 1,
            ("RETRYING",): 0,
            ("FAILED",): 0,
            ("INVALID",): 0,
        }
        assert values(metrics["ifagent_rounds"]) == {(): asked.agent.statistics().rounds}
        assert asked.agent.statistics().rounds >= 2
        assert asked.agent.statistics().refused == 1
        assert values(metrics["ifagent_namespaces"]) == {(): 1}
        assert values(metrics["ifagent_subscribers"]) == {(): 1}
        assert values(metrics["ifagent_inbox_events"]) == {(): 0}
        assert values(metrics["ifagent_round_stalled_seconds"]) == {(): 0}
        del reading
        assert values((await asked.metrics())["ifagent_subscribers"]) == {(): 0}


async def test_the_reaction_is_counted_for_each_operation_that_news_led_to() -> None:
    kernel = HangingKernel()
    async with served(A, B, kernel=kernel) as asked:
        before = asked.agent.statistics().reaction
        assert before.count == kernel.operations_executed > 0
        async with hanging(asked.agent, kernel, replace(A, mtu=1400)) as counters:
            (work,) = counters.under_way
            assert work.since is not None
            work.since -= 3
        after = asked.agent.statistics().reaction
        new = [now - then for then, now in zip(before.counts, after.counts, strict=True)]
        assert [bound for bound, count in zip((*after.bounds, 99.0), new, strict=True) if count] == [5.0]
        assert 3 * sum(new) <= after.sum - before.sum < 5 * sum(new)
        assert kernel.operations_executed == after.count
        histogram = (await asked.metrics())["ifagent_reaction_seconds"]
        buckets = [sample.value for sample in histogram.samples if sample.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-4:] == [before.count, after.count, after.count, after.count]


async def test_what_is_tried_again_is_no_reaction() -> None:
    kernel = SimulatedKernel()
    kernel.fail_next(CreateLink, EBUSY)
    async with served(A, B, kernel=kernel) as asked:
        assert asked.agent.statistics().reaction.count == 1
        await asked.agent.wait_for("a", timeout=5)
        now = asked.agent.statistics()
        assert now.reaction.count < sum(now.operations.values())


async def test_a_round_that_hangs_ends_the_liveness() -> None:
    kernel = HangingKernel()
    async with served(A, kernel=kernel) as asked:
        async with hanging(asked.agent, kernel, B) as counters:
            assert (await asked.get("/livez"))[0] == 200, "a round may take its time"
            (work,) = counters.under_way
            work.moved -= STALL
            assert await asked.get("/livez") == (503, f"reconciliation stalled for {STALL:.0f} s\n")
            assert (await asked.get("/readyz"))[0] == 200
            assert values((await asked.metrics())["ifagent_round_stalled_seconds"])[()] >= STALL
        assert asked.agent.current_states()["a"].config_state is ConfigState.APPLIED
        assert (await asked.get("/livez"))[0] == 200


async def test_a_blocked_loop_fails_the_probe() -> None:
    async with served() as asked:
        answers: list[object] = []
        asking, asked_once = threading.Event(), threading.Event()

        def probe() -> None:
            for _ in range(2):
                try:
                    with urlopen(f"{asked.url}/livez", timeout=0.3) as response:
                        answers.append(response.status)
                except TimeoutError:
                    answers.append("timeout")
                asked_once.set()
                asking.wait(10)

        thread = threading.Thread(target=probe)
        thread.start()
        assert asked_once.wait(10), "the loop stands still meanwhile"
        asking.set()
        await anyio.to_thread.run_sync(thread.join)
        assert answers == ["timeout", 200]


async def test_openmetrics_when_asked_and_nonsense_is_answered_plainly() -> None:
    async with served(A, B) as asked:
        status, text = await asked.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert status == 200
        families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
        assert {family.name for family in families} >= {"ifagent_rounds", "ifagent_reaction_seconds"}
        for nonsense in ("text/plain; version=x", "application/openmetrics-text; version=x", ";;,=,"):
            status, text = await asked.get("/metrics", Accept=nonsense)
            assert status == 200
            assert list(parse(text))


async def test_two_servers_share_nothing_global() -> None:
    before = {metric.name for metric in REGISTRY.collect()}
    async with served(A, B) as one, served() as two:
        assert values((await one.metrics())["ifagent_interfaces"])[("APPLIED",)] == 2
        assert values((await two.metrics())["ifagent_interfaces"])[("APPLIED",)] == 0
    assert {metric.name for metric in REGISTRY.collect()} == before


async def test_states_are_those_of_the_agent() -> None:
    many = [veth(f"v{n}", f"w{n}") for n in range(150)]
    async with served(A, B, *many) as asked:
        status, text = await asked.get("/states")
        assert status == 200
        states = {state.name: state for state in map(decode_state_fields, json.loads(text))}
        assert {name: encode_state(state) for name, state in states.items()} == {
            name: encode_state(state) for name, state in asked.agent.current_states().items()
        }
        assert states["a"].config_state is ConfigState.APPLIED
        assert len(states) == 152
        [only] = json.loads((await asked.get("/states?name=v7"))[1])
        assert only["name"] == "v7"
        assert json.loads((await asked.get("/states?name=nobody"))[1]) == []
    async with served() as asked:
        assert json.loads((await asked.get("/states"))[1]) == []


async def test_a_watcher_gets_the_snapshot_then_every_change() -> None:
    many = [veth(f"v{n}", f"w{n}") for n in range(150)]
    async with served(*many) as asked, asked.watching() as events, asked.watching("?name=a") as only_a:
        first = [await anext(events) for _ in many]
        assert {(one["event"], one["name"]) for one in first} == {("snapshot", one.name) for one in many}
        await asked.agent.configure(A)
        told = await anext(events)
        assert (told["seq"], told["event"], told["name"]) == (151, "created", "a")
        assert told["state"]["config_state"] == "PENDING"
        assert (await anext(only_a))["seq"] == 1
        await asked.agent.delete("a")
        assert (await anext(events))["event"] == "deleted"
        assert (await anext(only_a))["state"]["admin_status"] == 3


async def test_a_silent_watch_is_kept_alive_and_a_client_that_goes_is_let_go() -> None:
    async with served(keep_alive=0.01) as asked:
        async with ClientSession() as client:
            response = await client.get(f"{asked.url}/states/watch")
            with anyio.fail_after(5):
                assert await response.content.readline() == b":\n"
                assert await response.content.readline() == b"\n"
            assert asked.agent.statistics().subscribers == 1
            await asked.agent.configure(A)
            with anyio.fail_after(5):
                while not (line := await response.content.readline()).startswith(b"data: "):
                    pass
            assert decode_event(line.removeprefix(b"data: ")).event is Change.CREATED
            response.close()
        await until_true(lambda: not asked.agent.statistics().subscribers)


async def test_a_slow_watcher_is_told_how_much_it_missed_and_gets_what_is_last() -> None:
    agent = FakeAgent()
    server = HttpServer("127.0.0.1:0")
    names, rounds, long = [f"v{n}" for n in range(200)], 40, "x" * 4000
    async with ClientSession() as client, anyio.create_task_group() as group:
        await group.start(server.run, agent)
        async with client.get(f"http://127.0.0.1:{server.port}/states/watch") as response:
            for count in range(rounds):  # 32 MB, more than the buffers on the way hold
                state = InterfaceState(name="", config_state=ConfigState.PENDING, reason=long, repairs=count)
                agent.hub.publish(keyed({name: replace(state, name=name) for name in names}), {})
                for _ in range(2 * len(names)):
                    await checkpoint()
            last, missed, seq = dict.fromkeys(names, -1), 0, 0
            with anyio.fail_after(30):
                async for told in events_of(response):
                    seq += 1
                    assert told["seq"] == seq
                    if told["event"] == "gap":
                        missed += told["missed"]
                        continue
                    assert told["state"]["repairs"] > last[told["name"]]
                    last[told["name"]] = told["state"]["repairs"]
                    if set(last.values()) == {rounds - 1}:
                        break
            assert missed > len(names)
        group.cancel_scope.cancel()


async def test_watchers_are_bounded() -> None:
    async with served(A, watchers=1) as asked:
        async with asked.watching() as events:
            await anext(events)
            assert await asked.get("/states/watch") == (503, "too many watchers: 1 connected\n")
        assert (await asked.get("/livez"))[0] == 200


async def test_connections_are_bounded() -> None:
    async with served(A, connections=1) as asked:
        async with asked.watching() as events:
            await anext(events)
            async with ClientSession() as another:
                with pytest.raises(aiohttp.ClientError):
                    await another.get(f"{asked.url}/livez")
        await until_true(lambda: not asked.agent.statistics().subscribers)
        assert (await asked.get("/livez"))[0] == 200


async def test_nothing_can_be_written_and_nothing_else_be_asked() -> None:
    async with served() as asked, ClientSession() as client:
        for path in ("/livez", "/readyz", "/states", "/states/watch", "/metrics"):
            async with client.post(asked.url + path) as response:
                assert response.status == 405
        async with client.head(f"{asked.url}/livez") as response:
            assert response.status == 200
        assert (await asked.get("/"))[0] == 404


async def test_it_ends_at_once_with_watchers_and_frees_the_port() -> None:
    async with Agent.open(kernel=SimulatedKernel(), sources=[Memory([A])]) as agent:
        for _ in range(2):
            async with ClientSession() as client, anyio.create_task_group() as group:
                server = HttpServer("127.0.0.1:0")
                await group.start(server.run, agent)
                response = await client.get(f"http://127.0.0.1:{server.port}/states/watch")
                assert (await response.content.readline()).startswith(b"data: ")
                started = anyio.current_time()
                group.cancel_scope.cancel()
            assert anyio.current_time() - started < 1
        assert agent.statistics().subscribers == 0
        async with anyio.create_task_group() as group:
            await group.start(HttpServer(f"127.0.0.1:{server.port}").run, agent)
            group.cancel_scope.cancel()


async def test_watches_end_with_the_agent() -> None:
    agent = Agent(Settings(), kernel=SimulatedKernel(), sources=[Memory([A])])
    async with asking(agent) as asked, anyio.create_task_group() as group:
        await group.start(agent.run)
        async with asked.watching() as events:
            assert (await anext(events))["name"] == "a"
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(5), pytest.raises(StopAsyncIteration):
                await anext(events)


def test_the_port_is_known_before_it_listens() -> None:
    assert HttpServer("127.0.0.1:80").ports == (80,)


async def test_a_port_that_is_taken_is_said() -> None:
    async with served() as asked:
        with pytest.raises(InvalidSettings, match=r"cannot listen at 127\.0\.0\.1:\d+: .*in use"):
            await HttpServer(asked.url.removeprefix("http://")).run(asked.agent)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("127.0.0.1", 65535)),
    ],
)
def test_loopback_addresses(address: str, meant: tuple[str, int]) -> None:
    assert parse_address(address) == meant


@pytest.mark.parametrize(
    "address", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80", "[::ffff:10.0.0.1]:80"]
)
def test_what_others_can_reach_must_be_allowed(address: str) -> None:
    with pytest.raises(InvalidSettings, match="--http-public"):
        parse_address(address)
    assert parse_address(address, public=True)[1] == 80


@pytest.mark.parametrize(
    "address",
    ["", "9100", ":9100", "::1:9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
     "127.0.0.1:٣", "[127.0.0.1]:80", "[::1]", "[::1", "example.com:80", "127.0.0.1:1:2", "http://127.0.0.1:80"],
)  # fmt: skip
@pytest.mark.parametrize("public", [False, True])
def test_what_is_no_address(address: str, public: bool) -> None:
    with pytest.raises(InvalidSettings, match="is not a listen address"):
        parse_address(address, public=public)
