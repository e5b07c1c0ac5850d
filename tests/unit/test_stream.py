from __future__ import annotations

import anyio
import pytest

from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.stream import StateHub

pytestmark = pytest.mark.anyio


def state(name: str, mtu: int = 0) -> InterfaceState:
    return InterfaceState(name=name, config_state=ConfigState.APPLIED, mtu=mtu)


async def take(subscription: object, count: int) -> list[tuple[int, Change, str, int]]:
    events = []
    with anyio.fail_after(1):
        for _ in range(count):
            event = await anext(subscription)  # type: ignore[call-overload]
            events.append((event.seq, event.event, event.name, event.state.mtu if event.state else event.missed))
    return events


async def test_snapshot_first_then_changes() -> None:
    hub = StateHub()
    hub.publish({"a": state("a", 1)}, {})
    reader = hub.subscribe()
    assert await take(reader, 1) == [(1, Change.SNAPSHOT, "a", 1)]
    hub.publish({"b": state("b", 2)}, {})
    assert await take(reader, 1) == [(2, Change.CREATED, "b", 2)]
    hub.publish({"b": state("b", 3)}, {"a": state("a", 9)})
    assert await take(reader, 2) == [(3, Change.DELETED, "a", 9), (4, Change.CHANGED, "b", 3)]


async def test_a_slow_reader_gets_the_last_states_and_is_told_what_it_missed() -> None:
    hub = StateHub()
    reader = hub.subscribe()
    for mtu in range(1, 11):
        hub.publish({"a": state("a", mtu)}, {})
    hub.publish({"b": state("b", 1)}, {})
    hub.publish({}, {"b": state("b", 1)})
    assert await take(reader, 2) == [(1, Change.GAP, "", 10), (2, Change.CREATED, "a", 10)]
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_deleted_and_made_again_is_told_as_a_change_to_who_knew_it() -> None:
    hub = StateHub()
    hub.publish({"a": state("a", 1)}, {})
    reader = hub.subscribe()
    await take(reader, 1)
    hub.publish({}, {"a": state("a", 1)})
    hub.publish({"a": state("a", 2)}, {})
    assert await take(reader, 2) == [(2, Change.GAP, "", 1), (3, Change.CHANGED, "a", 2)]


async def test_a_reader_can_choose_and_forgotten_readers_cost_nothing() -> None:
    hub = StateHub()
    reader = hub.subscribe(lambda s: s.name == "b")
    hub.subscribe()
    hub.publish({"a": state("a"), "b": state("b", 7)}, {})
    assert await take(reader, 1) == [(1, Change.CREATED, "b", 7)]
    assert len(hub._readers) == 1
