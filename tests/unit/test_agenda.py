"""Who is planned when, of all that waits."""

from __future__ import annotations

from itertools import islice

from keyed import keys_of

from ifagent.core.agenda import BURST, INTERVAL, Agenda, Node
from ifagent.core.link import LinkId, NsId
from ifagent.core.resources import Key, interface_key

HERE, THERE = NsId(1), NsId(2)
A, B = interface_key("a"), interface_key("b")


def taken(agenda: Agenda, most: int, now: float = 0.0) -> list[Node]:
    nodes = list(islice(agenda.take(now), most))
    agenda.planned(nodes, now)
    return nodes


def test_a_single_change_does_not_wait_behind_a_backlog() -> None:
    agenda = Agenda()
    for number in range(3_000):
        agenda.touch(interface_key(f"n{number}"), HERE)
    assert len(taken(agenda, 10)) == 10
    agenda.touch(interface_key("single"), THERE)
    assert interface_key("single") in taken(agenda, 2)


def test_nor_do_many_that_come_all_the_time_keep_a_backlog_waiting() -> None:
    agenda, left = Agenda(), keys_of(f"n{number}" for number in range(100))
    for key in left:
        agenda.touch(key, HERE)
    left -= set(taken(agenda, 1))
    for number in range(300):
        for each in range(9):
            agenda.touch(interface_key(f"new{number}-{each}"), NsId(1_000 + 10 * number + each))
        left -= set(taken(agenda, 10))
    assert not left


def test_places_take_turns() -> None:
    agenda = Agenda()
    for place in range(5):
        for number in range(100):
            agenda.touch(interface_key(f"{place}/{number}"), NsId(place))
    taken(agenda, 1)
    first = [node.name.partition("/")[0] for node in taken(agenda, 50) if isinstance(node, Key)]
    assert min(first.count(str(place)) for place in range(5)) >= 8


def test_what_is_touched_all_the_time_is_planned_at_a_bounded_rate() -> None:
    agenda, plannings, seconds, now = Agenda(), 0, 10, 0.0
    for millisecond in range(1_000 * seconds):
        now = millisecond / 1_000
        agenda.touch(interface_key("noisy"), HERE)
        plannings += len(taken(agenda, 10, now))
    assert BURST <= plannings <= BURST + seconds / INTERVAL + 1
    assert interface_key("noisy") in agenda
    due = agenda.next_time(now)
    assert due is not None
    assert now < due <= now + INTERVAL
    assert taken(agenda, 10, due) == [interface_key("noisy")]


def test_what_was_quiet_for_long_enough_may_come_in_a_burst_again() -> None:
    agenda = Agenda()
    for _ in range(2 * BURST):
        agenda.touch(A, HERE)
        taken(agenda, 1)
    assert A in agenda
    later = 2 * BURST * INTERVAL
    assert taken(agenda, 1, later) == [A]
    agenda.touch(A, HERE)
    assert taken(agenda, 1, later) == [A]


def test_what_is_parked_waits_until_it_is_released_or_declared_anew() -> None:
    agenda = Agenda()
    agenda.touch(A, HERE)
    agenda.touch(B, HERE)
    for name in taken(agenda, 2):
        agenda.park(name, HERE)
    agenda.touch(A, HERE)
    assert taken(agenda, 9) == []
    assert agenda.next_time(0.0) is None
    agenda.touch(B, HERE, anew=True)
    assert taken(agenda, 9) == [B]
    agenda.release(HERE)
    assert taken(agenda, 9) == [A]


def test_what_something_was_done_for_is_next() -> None:
    agenda = Agenda()
    agenda.touch(A, HERE)
    for name in taken(agenda, 1):
        agenda.park(name, "work")
    for number in range(50):
        agenda.touch(interface_key(f"n{number}"), THERE)
    agenda.release("work", next=[A])
    assert taken(agenda, 1) == [A]


def test_what_was_planned_with_others_is_not_planned_for_itself() -> None:
    agenda, link = Agenda(), LinkId(HERE, 2)
    agenda.touch(A, HERE)
    agenda.touch(link, HERE)
    first = next(agenda.take(0.0))
    agenda.planned([first, A, link], 0.0)
    assert len(agenda) == 0
    assert taken(agenda, 9) == []


def test_what_is_next_and_was_planned_with_others_is_not_about_to_be_told() -> None:
    agenda = Agenda()
    for key in (A, B):
        agenda.park(key, "work")
    agenda.release("work", next=[A, B])
    agenda.planned([A, B, *taken(agenda, 1)], 0.0)
    assert not agenda.will_be_published_later(A)
    assert not agenda.will_be_published_later(B)
