from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from keyed import keyed

from ifagent.core.namespace_ref import named
from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.stream import WAKE_AT_ONCE, StateHub, Wanted

pytestmark = pytest.mark.anyio


def state(name: str, mtu: int = 0) -> InterfaceState:
    return InterfaceState(name=name, config_state=ConfigState.APPLIED, mtu=mtu)


def in_namespace(name: str, namespace: str, mtu: int = 0) -> InterfaceState:
    return replace(state(name, mtu), namespace=named(namespace))


async def take(subscription: object, count: int) -> list[tuple[int, Change, str, int]]:
    events = []
    with anyio.fail_after(1):
        for _ in range(count):
            event = await anext(subscription)  # type: ignore[call-overload]
            events.append((event.seq, event.event, event.name, event.state.mtu if event.state else event.missed))
    return events


async def test_snapshot_first_then_changes() -> None:
    hub = StateHub()
    hub.publish(keyed({"a": state("a", 1)}), {})
    reader = hub.subscribe()
    assert await take(reader, 1) == [(1, Change.SNAPSHOT, "a", 1)]
    hub.publish(keyed({"b": state("b", 2)}), {})
    assert await take(reader, 1) == [(2, Change.CREATED, "b", 2)]
    hub.publish(keyed({"b": state("b", 3)}), keyed({"a": state("a", 9)}))
    assert await take(reader, 2) == [(3, Change.DELETED, "a", 9), (4, Change.CHANGED, "b", 3)]


async def test_a_slow_reader_gets_the_last_states_and_is_told_what_it_missed() -> None:
    hub = StateHub()
    reader = hub.subscribe()
    for mtu in range(1, 11):
        hub.publish(keyed({"a": state("a", mtu)}), {})
    hub.publish(keyed({"b": state("b", 1)}), {})
    hub.publish({}, keyed({"b": state("b", 1)}))
    assert await take(reader, 3) == [(1, Change.GAP, "", 9), (2, Change.CREATED, "a", 10), (3, Change.GAP, "", 2)]
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_deleted_and_made_again_is_told_as_a_change_to_who_knew_it() -> None:
    hub = StateHub()
    hub.publish(keyed({"a": state("a", 1)}), {})
    reader = hub.subscribe()
    await take(reader, 1)
    hub.publish({}, keyed({"a": state("a", 1)}))
    hub.publish(keyed({"a": state("a", 2)}), {})
    assert await take(reader, 2) == [(2, Change.GAP, "", 1), (3, Change.CHANGED, "a", 2)]


async def test_a_reader_can_choose_and_forgotten_readers_cost_nothing() -> None:
    hub = StateHub()
    reader = hub.subscribe(Wanted.of(name="b"))
    hub.subscribe()
    hub.publish(keyed({"a": state("a"), "b": state("b", 7)}), {})
    assert await take(reader, 1) == [(1, Change.CREATED, "b", 7)]
    assert hub.readers == 1


async def test_a_state_that_stops_to_match_is_deleted_and_one_that_begins_to_is_created() -> None:
    hub = StateHub()
    hub.publish(keyed({"a": in_namespace("a", "x"), "b": in_namespace("b", "y"), "c": in_namespace("c", "x")}), {})
    reader = hub.subscribe(Wanted.of(namespace=named("x"), names=["a", "b"]))
    by_place, by_kind = hub.subscribe(Wanted.of(namespace=named("x"))), hub.subscribe(Wanted.of(kind="tap"))
    nothing = hub.subscribe(Wanted.of(names=[]))
    assert await take(reader, 1) == [(1, Change.SNAPSHOT, "a", 0)]
    assert [name for _, _, name, _ in await take(by_place, 2)] == ["a", "c"]
    hub.publish(keyed({"b": in_namespace("b", "x", 1), "a": in_namespace("a", "y", 2)}), {})
    expected = [(Change.CREATED, "b", 1), (Change.DELETED, "a", 0)]
    assert [event[1:] for event in await take(reader, 2)] == expected
    assert [event[1:] for event in await take(by_place, 2)] == expected
    hub.publish(keyed({"a": replace(state("a", 3), type="tap")}), keyed({"b": in_namespace("b", "x", 1)}))
    assert [event[1:] for event in await take(by_kind, 1)] == [(Change.CREATED, "a", 3)]
    assert [event[1:] for event in await take(reader, 1)] == [(Change.DELETED, "b", 1)]
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await anext(nothing)


async def test_what_was_once_chosen_costs_nothing_when_its_readers_have_gone() -> None:
    hub = StateHub()
    for number in range(1000):
        hub.subscribe(Wanted.of(name=f"i{number}"))
    assert len(hub._by_key) < 100
    assert not hub._logs


async def test_a_cancelled_wait_leaves_nothing_behind_and_loses_nothing() -> None:
    hub = StateHub()
    reader = hub.subscribe()
    for _ in range(5):
        with anyio.move_on_after(0):
            await anext(reader)
    assert not hub._everything._waiting
    hub.publish(keyed({"a": state("a", 1)}), {})
    assert await take(reader, 1) == [(1, Change.CREATED, "a", 1)]


async def test_thousands_who_wait_are_woken_a_few_at_a_time() -> None:
    hub = StateHub()
    got: list[int] = []

    async def read() -> None:
        got.append((await anext(hub.subscribe())).seq)

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        hub.publish(keyed({"a": state("a")}), {})
        await anyio.lowlevel.checkpoint()
        assert 0 < len(got) <= 2 * WAKE_AT_ONCE
    assert len(got) == 1000


async def test_tidied_up_it_keeps_no_deletion_that_nobody_has_to_hear() -> None:
    hub = StateHub()
    early = hub.subscribe()
    hub.publish(keyed({f"j{number}": state(f"j{number}") for number in range(100)}), {})
    assert len([await anext(early) for _ in range(100)]) == 100
    for number in range(100):
        hub.publish({}, keyed({f"j{number}": state(f"j{number}")}))
    hub.tidy()
    assert [(await anext(early)).event for _ in range(100)] == [Change.DELETED] * 100
    assert len(hub._everything._newest) > 0
    hub.tidy()
    assert hub._everything._newest == {}
    assert hub._everything._records == []


async def test_the_states_of_very_many_deleted_interfaces_are_freed_in_pieces() -> None:
    """Freed all at once, those of 100,000 interfaces hold the event loop for 0.3 s."""
    hub = StateHub()
    reader = hub.subscribe()
    count = 2000
    hub.publish(keyed({f"j{number}": state(f"j{number}") for number in range(count)}), {})
    for _ in range(count):
        assert (await anext(reader)).event is Change.CREATED
    kept: list[int] = []
    for number in range(count):
        hub.publish({}, keyed({f"j{number}": state(f"j{number}")}))
        event = await anext(reader)
        assert (event.event, event.name) == (Change.DELETED, f"j{number}")
        kept.append(sum(record.state is not None for record in hub._everything._records))
    assert max(before - after for before, after in pairwise(kept)) <= 64
    assert kept[-1] <= 64


async def test_a_deletion_waits_for_the_slowest_reader_that_knows_the_interface() -> None:
    hub = StateHub()
    hub.publish(keyed({"a": state("a", 1)}), {})
    slow = hub.subscribe()
    assert (await anext(slow)).event is Change.SNAPSHOT
    hub.publish({}, keyed({"a": state("a", 2)}))
    for number in range(500):
        hub.publish(keyed({f"j{number}": state(f"j{number}")}), {})
        hub.publish({}, keyed({f"j{number}": state(f"j{number}")}))
    event = await anext(slow)
    assert (event.event, event.name, event.state) == (Change.DELETED, "a", state("a", 2))
