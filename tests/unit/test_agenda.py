"""Who is planned when, of all that waits."""

from __future__ import annotations

from itertools import islice

from ifagent.core.agenda import BURST, INTERVAL, Agenda, Node
from ifagent.core.link import LinkId, NsId

HERE, THERE = NsId(1), NsId(2)


def taken(agenda: Agenda, most: int, now: float = 0.0) -> list[Node]:
    nodes = list(islice(agenda.take(now), most))
    agenda.planned(nodes, now)
    return nodes


def test_a_single_change_does_not_wait_behind_a_backlog() -> None:
    agenda = Agenda()
    for number in range(3_000):
        agenda.touch(f"n{number}", HERE)
    assert len(taken(agenda, 10)) == 10
    agenda.touch("single", THERE)
    assert "single" in taken(agenda, 2)


def test_nor_do_many_that_come_all_the_time_keep_a_backlog_waiting() -> None:
    agenda, left = Agenda(), {f"n{number}" for number in range(100)}
    for name in left:
        agenda.touch(name, HERE)
    left -= set(taken(agenda, 1))
    for number in range(300):
        for each in range(9):
            agenda.touch(f"new{number}-{each}", NsId(1_000 + 10 * number + each))
        left -= set(taken(agenda, 10))
    assert not left


def test_places_take_turns() -> None:
    agenda = Agenda()
    for place in range(5):
        for number in range(100):
            agenda.touch(f"{place}/{number}", NsId(place))
    taken(agenda, 1)
    first = [str(name).partition("/")[0] for name in taken(agenda, 50)]
    assert min(first.count(str(place)) for place in range(5)) >= 8


def test_what_is_touched_all_the_time_is_planned_at_a_bounded_rate() -> None:
    agenda, plannings, seconds, now = Agenda(), 0, 10, 0.0
    for millisecond in range(1_000 * seconds):
        now = millisecond / 1_000
        agenda.touch("noisy", HERE)
        plannings += len(taken(agenda, 10, now))
    assert BURST <= plannings <= BURST + seconds / INTERVAL + 1
    assert "noisy" in agenda
    due = agenda.next_time(now)
    assert due is not None
    assert now < due <= now + INTERVAL
    assert taken(agenda, 10, due) == ["noisy"]


def test_what_was_quiet_for_long_enough_may_come_in_a_burst_again() -> None:
    agenda = Agenda()
    for _ in range(2 * BURST):
        agenda.touch("a", HERE)
        taken(agenda, 1)
    assert "a" in agenda
    later = 2 * BURST * INTERVAL
    assert taken(agenda, 1, later) == ["a"]
    agenda.touch("a", HERE)
    assert taken(agenda, 1, later) == ["a"]


def test_what_is_parked_waits_until_it_is_released_or_declared_anew() -> None:
    agenda = Agenda()
    agenda.touch("a", HERE)
    agenda.touch("b", HERE)
    for name in taken(agenda, 2):
        agenda.park(name, HERE)
    agenda.touch("a", HERE)
    assert taken(agenda, 9) == []
    assert agenda.next_time(0.0) is None
    agenda.touch("b", HERE, anew=True)
    assert taken(agenda, 9) == ["b"]
    agenda.release(HERE)
    assert taken(agenda, 9) == ["a"]


def test_what_something_was_done_for_is_next() -> None:
    agenda = Agenda()
    agenda.touch("a", HERE)
    for name in taken(agenda, 1):
        agenda.park(name, "work")
    for number in range(50):
        agenda.touch(f"n{number}", THERE)
    agenda.release("work", next=["a"])
    assert taken(agenda, 1) == ["a"]


def test_what_was_planned_with_others_is_not_planned_for_itself() -> None:
    agenda, link = Agenda(), LinkId(HERE, 2)
    agenda.touch("a", HERE)
    agenda.touch(link, HERE)
    first = next(agenda.take(0.0))
    agenda.planned([first, "a", link], 0.0)
    assert len(agenda) == 0
    assert taken(agenda, 9) == []


def test_what_is_next_and_was_planned_with_others_is_not_about_to_be_told() -> None:
    agenda = Agenda()
    for name in ("a", "b"):
        agenda.park(name, "work")
    agenda.release("work", next=["a", "b"])
    agenda.planned(["a", "b", *taken(agenda, 1)], 0.0)
    assert not agenda.will_be_told_later("a")
    assert not agenda.will_be_told_later("b")
