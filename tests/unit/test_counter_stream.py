"""Counters and rates in the state stream: the arithmetic, and the agent on the simulated kernel."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from itertools import count

import anyio
import pytest
from keyed import keyed
from world import veth

from ifagent import Agent, Change, ConfigState, InterfaceState, Memory, Settings, StateEvent
from ifagent.core.counters import LEAST_INTERVAL, Counters, LinkCounters, Rates, Reading, counted
from ifagent.core.link import LinkId, NsId
from ifagent.counter_stream import CounterStream
from ifagent.errors import InvalidSettings
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.stream import StateHub, Subscription

pytestmark = pytest.mark.anyio

A, B = veth("a", "b", "ns1", enabled=True), veth("b", "a", "ns2", enabled=True)
BEFORE = LinkCounters(in_packets=10, out_packets=20, in_bytes=1000, out_bytes=3000)


# The arithmetic


def test_one_reading_has_counts_and_no_rates() -> None:
    counters = LinkCounters(1, 2, 3, 4, 5, 6, 7, 8)
    assert counted(Reading(100.0, counters)) == Counters(
        in_packets=1,
        out_packets=2,
        in_bytes=3,
        out_bytes=4,
        in_error_packets=5,
        out_error_packets=6,
        drop_packets=15,
    )


def test_two_readings_have_rates_a_second() -> None:
    now = BEFORE._replace(in_packets=15, in_bytes=2000, out_bytes=3001)
    rates = counted(Reading(12.0, now), Reading(10.0, BEFORE)).rates
    assert rates == Rates(in_packets=2.5, in_bytes=500.0, out_packets=0.0, out_bytes=0.5)


@pytest.mark.parametrize("field", LinkCounters._fields)
def test_counters_that_began_anew_have_no_rates(field: str) -> None:
    then, now = BEFORE._replace(**{field: 5}), LinkCounters(*[10**6] * len(BEFORE))._replace(**{field: 4})
    told = counted(Reading(2.0, now), Reading(1.0, then))
    assert told.rates is None
    assert told == counted(Reading(2.0, now))


def test_no_time_between_readings_gives_no_rates() -> None:
    assert counted(Reading(1.0, BEFORE), Reading(1.0, BEFORE)).rates is None


# One stream, with time in the test's hands


class Clock:
    """Time that passes when a test says so, and by ``step`` whenever it is asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


class Meter(SimulatedKernel):
    """A kernel that has counted what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[LinkId, LinkCounters] = {}
        self.asked: list[set[NsId]] = []

    async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
        await anyio.lowlevel.checkpoint()
        self.asked.append(set(namespaces))
        return {id: counters for id, counters in self.found.items() if id.namespace in namespaces}


def state(name: str, namespace: int = 0, ifindex: int = 0, **fields: object) -> InterfaceState:
    plain = InterfaceState(name=name, config_state=ConfigState.APPLIED, last_change=5.0, if_index=ifindex)
    return replace(plain, namespace_id=NsId(namespace) if namespace else None, **fields)  # type: ignore[arg-type]


class Rig:
    """A source, a kernel, and one reader of the stream with counters that is always up to date."""

    def __init__(self, *states: InterfaceState) -> None:
        self.source, self.kernel, self.clock = StateHub(), Meter(), Clock()
        self.publish(*states)
        self.stream = CounterStream(self.source, self.kernel, 2.0, clock=self.clock, sleep=self.clock.sleep)
        self.reader = self.stream.hub.subscribe()

    def publish(self, *states: InterfaceState, deleted: Mapping[str, InterfaceState] | None = None) -> None:
        self.source.publish(keyed({one.name: one for one in states}), keyed(deleted or {}))

    async def read(self, *found: tuple[int, int, LinkCounters]) -> list[tuple[Change, str, Counters | None]]:
        """Read counters and return what the reader is told."""
        self.kernel.found = {LinkId(NsId(namespace), ifindex): counters for namespace, ifindex, counters in found}
        await self.stream.read()
        self.clock.now += 2.0
        return self.told()

    def told(self) -> list[tuple[Change, str, Counters | None]]:
        return [(e.event, e.name, e.state.statistics if e.state else None) for e in ready(self.reader)]


def ready(subscription: Subscription) -> list[StateEvent]:
    """Return what is there without a wait."""
    events = []
    while (event := subscription._next()) is not None:
        events.append(event)
    return events


async def test_a_snapshot_comes_at_once_and_counters_with_the_first_reading() -> None:
    rig = Rig(state("a", 7, 2), state("waits"))
    assert rig.told() == [(Change.SNAPSHOT, "a", None), (Change.SNAPSHOT, "waits", None)]
    assert await rig.read((7, 2, BEFORE)) == [(Change.CHANGED, "a", counted(Reading(0, BEFORE)))]
    later = {event.name: event.state for event in ready(rig.stream.hub.subscribe())}
    assert keyed(later) == rig.stream.hub.states, "who comes later has them at once"


async def test_only_what_has_counted_is_told_and_last_change_stays() -> None:
    rig = Rig(state("a", 7, 2), state("b", 8, 2))
    idle = LinkCounters()
    await rig.read((7, 2, BEFORE), (8, 2, idle))
    await rig.read((7, 2, BEFORE), (8, 2, idle))  # now their rates are known, and nought
    assert await rig.read((7, 2, BEFORE), (8, 2, idle)) == []
    [(change, name, counters)] = await rig.read((7, 2, BEFORE._replace(in_packets=20)), (8, 2, idle))
    assert (change, name) == (Change.CHANGED, "a")
    assert counters
    assert counters.rates == Rates(in_packets=5.0)
    assert {one.last_change for one in rig.stream.hub.states.values()} == {5.0}
    [(_, name, counters)] = await rig.read((7, 2, BEFORE._replace(in_packets=20)), (8, 2, idle))
    assert counters
    assert (name, counters.rates) == ("a", Rates()), "that it has stopped is news"


async def test_what_the_source_says_comes_at_once_with_the_counters_known() -> None:
    rig = Rig(state("a", 7, 2))
    await rig.read((7, 2, BEFORE))
    known = counted(Reading(0, BEFORE))
    rig.publish(state("a", 7, 2, mtu=1400))
    assert rig.told() == [(Change.CHANGED, "a", known)]
    last = state("a", 7, reason="deleted")
    rig.publish(deleted={"a": last})
    assert rig.told() == [(Change.DELETED, "a", known)]
    assert rig.stream.hub.states == {}


async def test_another_link_begins_anew() -> None:
    rig = Rig(state("a", 7, 2))
    await rig.read((7, 2, BEFORE))
    rig.publish(state("a", 7, 3))
    assert rig.told() == [(Change.CHANGED, "a", None)]
    more = BEFORE._replace(in_packets=10**6)
    assert await rig.read((7, 3, more)) == [(Change.CHANGED, "a", counted(Reading(0, more)))]
    rig.publish(state("a"))
    assert rig.told() == [(Change.CHANGED, "a", None)]
    rig.publish(state("a", 7, 3))  # the same ifindex again, after it was gone
    assert rig.told() == [(Change.CHANGED, "a", None)]
    assert await rig.read((7, 3, more)) == [(Change.CHANGED, "a", counted(Reading(0, more)))]


async def test_a_link_made_anew_between_two_readings_has_no_rates() -> None:
    rig = Rig(state("a", 7, 2))
    await rig.read((7, 2, BEFORE))
    [(_, _, counters)] = await rig.read((7, 2, LinkCounters(in_packets=1)))
    assert counters == Counters(in_packets=1)
    [(_, _, counters)] = await rig.read((7, 2, LinkCounters(in_packets=3)))
    assert counters
    assert counters.rates == Rates(in_packets=1.0)


async def test_what_cannot_be_read_keeps_what_is_known() -> None:
    rig = Rig(state("a", 7, 2))
    await rig.read((7, 2, BEFORE))
    rig.told()
    assert await rig.read() == []
    [(_, _, counters)] = await rig.read((7, 2, BEFORE._replace(in_bytes=5000)))
    assert counters
    assert counters.rates == Rates(in_bytes=1000.0), "over both intervals"


async def test_only_namespaces_with_a_link_are_read() -> None:
    rig = Rig(state("a", 7, 2), state("b", 8), state("c"))
    await rig.read()
    assert rig.kernel.asked == [{7}]
    rig.publish(state("a", 7))
    await rig.read()
    assert rig.kernel.asked == [{7}], "there is nothing to read"


async def test_it_reads_regularly_until_nobody_listens() -> None:
    rig = Rig(state("a", 7, 2))
    slow = count()

    async def sleep(seconds: float) -> None:
        await rig.clock.sleep(seconds)
        if next(slow) == 2:
            rig.reader = rig.source.subscribe()  # the only reader goes away

    rig.stream._sleep = sleep
    await rig.stream.run()
    assert len(rig.kernel.asked) == 3
    assert rig.clock.slept == [2.0, 2.0, 2.0]


async def test_a_reading_that_takes_long_is_not_made_up_for() -> None:
    rig = Rig(state("a", 7, 2))

    class Slow(Meter):
        async def counters(self, namespaces: Collection[NsId]) -> dict[LinkId, LinkCounters]:
            rig.clock.now += [5.0, 0.5, 0.5][len(self.asked)]
            if len(self.asked) == 2:
                rig.reader = rig.source.subscribe()
            return await super().counters(namespaces)

    rig.stream._kernel = Slow()
    await rig.stream.run()
    assert rig.clock.slept == [0.0, 1.5, 1.5]


async def test_time_may_pass_at_any_moment() -> None:
    rig = Rig(state("a", 7, 2))
    rig.clock.step = 3.0

    async def sleep(seconds: float) -> None:
        await rig.clock.sleep(seconds)
        if len(rig.clock.slept) == 3:
            rig.reader = rig.source.subscribe()

    rig.stream._sleep = sleep
    await rig.stream.run()
    assert min(rig.clock.slept) >= 0


async def test_a_slow_reader_gets_the_last_counters_and_is_told_what_it_missed() -> None:
    rig = Rig(state("a", 7, 2))
    rig.told()
    for packets in range(1, 6):
        rig.kernel.found = {LinkId(NsId(7), 2): LinkCounters(in_packets=packets)}
        await rig.stream.read()
    gap, last = ready(rig.reader)
    assert (gap.event, gap.missed) == (Change.GAP, 4)
    assert last.state
    assert last.state.statistics
    assert last.state.statistics.in_packets == 5


# The agent


@pytest.fixture
async def kernel() -> SimulatedKernel:
    return SimulatedKernel()


@pytest.fixture
async def agent(kernel: SimulatedKernel) -> AsyncIterator[Agent]:
    async with Agent.open(kernel=kernel, sources=[Memory([A, B])]) as running:
        yield running


async def until_counted(events: Subscription, name: str = "a", *, packets: int = 0) -> Counters:
    """Return the first counters of an interface that has received so many packets and has rates."""
    with anyio.fail_after(5):
        async for event in events:
            counters = event.state.statistics if event.state else None
            if event.name == name and counters and counters.in_packets >= packets and counters.rates:
                return counters
    raise AssertionError("the stream has ended")


async def test_readers_get_counters_and_rates(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(name="a", counters=LEAST_INTERVAL)
    await until_counted(events)
    kernel.external.send("ns2", "b", packets=10, size=60)
    counters = await until_counted(events, packets=10)
    assert (counters.in_packets, counters.in_bytes) == (10, 600)
    assert counters.rates
    assert counters.rates.in_packets > 0
    assert counters.rates.in_bytes == pytest.approx(counters.rates.in_packets * 60, rel=0.01)


async def test_nothing_is_read_while_nobody_asks(kernel: SimulatedKernel, agent: Agent) -> None:
    ordinary = agent.states()
    await agent.resync()
    await anyio.wait_all_tasks_blocked()
    assert kernel.counter_readings == 0
    asking = agent.states(counters=LEAST_INTERVAL)
    await until_counted(asking)
    assert agent.statistics().subscribers == 2
    del asking
    with anyio.fail_after(5):
        while agent._streams._counted:
            await anyio.sleep(0.01)
    readings = kernel.counter_readings
    await anyio.sleep(2 * LEAST_INTERVAL)
    assert kernel.counter_readings == readings
    assert not agent._hub.listeners
    assert all(event.state and event.state.statistics is None for event in ready(ordinary))


async def test_readers_with_one_interval_share_one_reading(kernel: SimulatedKernel, agent: Agent) -> None:
    many = [agent.states(counters=LEAST_INTERVAL) for _ in range(50)]
    started = anyio.current_time()
    for reader in many:
        await until_counted(reader)
    assert kernel.counter_readings <= 2 + (anyio.current_time() - started) / LEAST_INTERVAL
    assert len(agent._streams._counted) == 1


async def test_settings_have_every_stream_counted(kernel: SimulatedKernel) -> None:
    settings = Settings(counters=LEAST_INTERVAL)
    async with Agent.open(settings, kernel=kernel, sources=[Memory([A, B])]) as agent:
        await until_counted(agent.states())
        known = agent.current_states()["a"]
        assert known.statistics
        assert agent.state("a") == known
        assert agent.statistics().counters["a"] == known.statistics
        [snapshot] = [event.state for event in ready(agent.states(name="a"))]
        assert snapshot == known, "who comes later has them at once"
        with anyio.fail_after(5):  # with no reader at all
            readings = kernel.counter_readings
            while kernel.counter_readings < readings + 2:
                await anyio.sleep(0.01)


async def test_a_link_that_somebody_deletes_never_has_a_negative_rate(kernel: SimulatedKernel, agent: Agent) -> None:
    events = agent.states(name="a", counters=LEAST_INTERVAL)
    await until_counted(events)
    for packets in (1000, 10, 500):
        kernel.external.send("ns2", "b", packets=packets)
        counters = await until_counted(events, packets=packets)
        assert counters.in_packets == packets, "the counters are those of the link that there is"
        assert counters.rates
        assert min(counters.rates.in_packets, counters.rates.in_bytes) >= 0
        before = kernel.snapshot().link("ns1", "a").id
        kernel.external.delete_link("ns1", "a")
        with anyio.fail_after(5):
            async for event in agent.states(name="a"):
                if event.state and event.state.link_id not in {None, before}:
                    break


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.01, float("inf"), float("nan")])
async def test_an_interval_that_cannot_be(agent: Agent, seconds: float) -> None:
    with pytest.raises(InvalidSettings, match=f"every {LEAST_INTERVAL} s or less often, not every {seconds} s"):
        agent.states(counters=seconds)


async def test_who_asks_after_the_end_gets_the_last_states(kernel: SimulatedKernel) -> None:
    async with Agent.open(kernel=kernel, sources=[Memory([A, B])]) as agent:
        reading = agent.states(counters=LEAST_INTERVAL)
        await until_counted(reading)
    assert [event async for event in reading][1:] == [], "it ends, with at most the other interface left to tell of"
    names = [event.name async for event in agent.states(counters=LEAST_INTERVAL)]
    assert sorted(names) == ["a", "b"]


async def test_who_asks_before_the_start_is_served(kernel: SimulatedKernel) -> None:
    agent = Agent(kernel=kernel, sources=[Memory([A, B])])
    reading = agent.states(counters=LEAST_INTERVAL)
    async with anyio.create_task_group() as group:
        await group.start(agent.run)
        await until_counted(reading)
        group.cancel_scope.cancel()


async def test_a_link_sends_as_on_linux(kernel: SimulatedKernel, agent: Agent) -> None:
    await agent.wait_for("a", timeout=5)
    with pytest.raises(Exception, match="send") as refused:
        kernel.external.send("ns1", "lo", packets=1)
    assert getattr(refused.value, "errno", None) == errno.ENETDOWN
