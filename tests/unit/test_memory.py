"""Handing memory back once most of very many things are gone."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable
from functools import partial
from weakref import WeakSet

import anyio
import anyio.from_thread
import pytest
from anyio import wait_all_tasks_blocked

from ifagent import Agent, Settings
from ifagent.cli import memory
from ifagent.cli.memory import LARGE, Table, compact, is_nearly_empty, large_tables
from ifagent.core.agenda import Agenda
from ifagent.core.events import Declaration, Declared
from ifagent.core.index import Index
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.core.link import NsId
from ifagent.core.names import HostName, Name
from ifagent.core.ownership import Owner
from ifagent.core.resources import by_name, interface_key
from ifagent.inbox import Inbox
from ifagent.kernel.simulated import SimulatedKernel

MANY = 20_000


def _filled(kind: type[Table]) -> Table:
    table = kind()
    table.update(dict.fromkeys(range(MANY), 1))
    return table


def _emptied(table: Table) -> Table:
    for key in list(table)[1:-1]:
        table.pop(key) if isinstance(table, dict) else table.remove(key)
    return table


@pytest.mark.parametrize("kind", [dict, set, OrderedDict, Counter])
def test_a_table_takes_as_much_as_its_entries_need_and_stays_the_same(kind: type[Table]) -> None:
    table = _emptied(_filled(kind))
    assert sys.getsizeof(table) > LARGE
    before = table.copy()
    compact(table)
    assert sys.getsizeof(table) < 1024
    assert table == before
    assert list(table) == [0, MANY - 1]
    assert type(table) is kind


def _nearly_empty(roots: Iterable[object]) -> list[Table]:
    return [table for table in large_tables(roots) if is_nearly_empty(table)]


def test_only_what_is_large_and_nearly_empty_is_found() -> None:
    inbox = Inbox()
    full, small, empty = _filled(dict), {1: 1}, _emptied(_filled(set))
    inbox.more = [full, small, {"deep": (empty,)}]  # type: ignore[attr-defined]
    assert [id(table) for table in _nearly_empty([inbox])] == [id(empty)]
    compact(empty)
    assert _nearly_empty([inbox]) == []


def test_parts_that_lead_to_each_other_are_looked_into_once() -> None:
    one, other = Inbox(), Inbox()
    one.other, other.others = WeakSet([other]), [one, one]  # type: ignore[attr-defined]
    other.table = empty = _emptied(_filled(dict))  # type: ignore[attr-defined]
    assert [id(table) for table in _nearly_empty([one, other])] == [id(empty)]


def test_what_others_have_is_not_looked_into() -> None:
    class Foreign:
        table = None

    foreign = Foreign()
    foreign.table = _emptied(_filled(dict))  # type: ignore[assignment]
    inbox = Inbox()
    inbox.more = foreign  # type: ignore[attr-defined]
    assert _nearly_empty([inbox]) == []


def test_an_index_is_as_small_as_before_after_very_many_interfaces() -> None:
    index = Index(NsId(1), ["store"], Owner("label"))
    names = [Name(f"j{number}") for number in range(MANY)]
    for name in names:
        interface = Interface(name=name, kind=Veth(peer_if_name=Name(f"no-{name}")), host_if_name=HostName(name))
        index.fold(Declared("store", interface_key(name), Declaration.of(interface, revision=1)))
    index.take_changed()
    assert _nearly_empty([index]) == []
    for name in names[1:]:
        index.fold(Declared("store", interface_key(name), None))
    list(index.agenda.take(0.0))
    found = _nearly_empty([index])
    assert len(found) >= 8
    for table in found:
        compact(table)
    assert _nearly_empty([index]) == []
    assert list(by_name(index.declared)) == names[:1]
    assert list(index.graph.interfaces) == names[:1]


def test_the_agenda_forgets_what_was_planned_long_ago() -> None:
    agenda = Agenda()
    for number in range(500):
        agenda.touch(interface_key(f"j{number}"), "place")
    assert len(list(agenda.take(0.0))) == 500
    assert len(agenda._pace._due) == 500
    agenda.tidy(1000.0)
    assert agenda._pace._due == {}


at_once = partial(memory.hand_back_memory, interval=0.01, idle_load=2.0)
"""Does so without waiting until the process is idle."""


@pytest.mark.anyio
async def test_what_very_large_values_have_left_is_handed_back_though_no_table_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident, trimmed = [0], anyio.Event()

    def trim() -> None:
        resident[0] //= 10
        anyio.from_thread.run_sync(trimmed.set)

    monkeypatch.setattr(memory, "_trim", lambda: trim)
    monkeypatch.setattr(memory, "_resident", lambda: resident[0])
    agent = Agent(Settings(), sources=[], kernel=SimulatedKernel())
    async with anyio.create_task_group() as group:
        group.start_soon(at_once, agent)
        await wait_all_tasks_blocked()
        resident[0] = 2 * memory.GROWN
        with anyio.move_on_after(10):
            await trimmed.wait()
        assert trimmed.is_set()
        assert resident[0] < memory.GROWN
        group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("declared", [1, memory.MANY + 1])
async def test_garbage_is_collected_unless_there_are_very_many_objects(
    monkeypatch: pytest.MonkeyPatch, declared: int
) -> None:
    collected: list[str] = []
    monkeypatch.setattr(memory, "_trim", lambda: None)
    monkeypatch.setattr("gc.collect", lambda: collected.append("everything"))
    agent = Agent(Settings(), sources=[], kernel=SimulatedKernel())
    inbox = Inbox()
    inbox.empty = empty = _emptied(_filled(set))  # type: ignore[attr-defined]
    inbox.used = dict.fromkeys(range(declared))  # type: ignore[attr-defined]
    async with anyio.create_task_group() as group:
        group.start_soon(at_once, agent, inbox)
        with anyio.move_on_after(10):
            while sys.getsizeof(empty) > LARGE:
                await anyio.sleep(0.01)
        assert sys.getsizeof(empty) <= LARGE
        group.cancel_scope.cancel()
    assert bool(collected) == (declared == 1)
