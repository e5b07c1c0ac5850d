"""How many lines one cause may have."""

from __future__ import annotations

import random

import pytest

from ifagent.log_limit import ABOUT_ONE, IN_A_ROW, MAX_CAUSES, PERIOD, Limiter


def say(
    limiter: Limiter[str], count: int, *, event: str = "interface drifted", about: str | None = None, now: float
) -> list[int]:
    """Say something some times; return what each line that is written says of others."""
    told = (limiter.admit(f"{event} {about} {n}", event=event, about=about, now=now) for n in range(count))
    return [one for one in told if one is not None]


def test_a_few_lines_are_all_written() -> None:
    limiter: Limiter[str] = Limiter()
    for minute in range(20):
        assert say(limiter, IN_A_ROW, now=minute * PERIOD) == [0] * IN_A_ROW
    assert limiter.due(20 * PERIOD) == []
    assert limiter.idle


def test_a_flood_has_some_lines_then_one_a_minute_with_a_count() -> None:
    limiter: Limiter[str] = Limiter()
    assert say(limiter, 1000, now=0) == [0] * IN_A_ROW
    for minute in range(1, 10):
        assert say(limiter, 500, now=(minute - 0.5) * PERIOD) == []
        [(line, others)] = limiter.due(minute * PERIOD)
        assert line == "interface drifted None 499"
        assert others == (1000 - IN_A_ROW if minute == 1 else 0) + 500 - 1


def test_a_flood_that_nobody_asks_about_tells_with_its_next_line() -> None:
    limiter: Limiter[str] = Limiter()
    say(limiter, 100, now=0)
    assert say(limiter, 1, now=PERIOD) == [100 - IN_A_ROW]
    assert say(limiter, 100, now=PERIOD + 1) == []


def test_what_is_calm_again_has_all_its_lines_again() -> None:
    limiter: Limiter[str] = Limiter()
    say(limiter, 100, now=0)
    assert len(limiter.due(PERIOD)) == 1
    assert limiter.due(2 * PERIOD) == []
    assert say(limiter, 3, now=2 * PERIOD + 1) == [0, 0, 0]


def test_one_that_is_noisy_does_not_silence_the_others() -> None:
    limiter: Limiter[str] = Limiter()
    assert say(limiter, 1000, about="noisy", now=0) == [0] * ABOUT_ONE
    assert say(limiter, 3, about="quiet", now=1) == [0, 0, 0]
    for minute in range(1, 5):
        say(limiter, 1000, about="noisy", now=minute * PERIOD - 1)
        [(line, _)] = limiter.due(minute * PERIOD)
        assert line.startswith("interface drifted noisy")
        assert say(limiter, 3, about="quiet", now=minute * PERIOD + 1) == [0, 0, 0]


def test_many_names_are_one_cause_and_are_all_counted() -> None:
    limiter: Limiter[str] = Limiter()
    written = sum(len(say(limiter, 1, about=f"j{n}", now=n / 1e6)) for n in range(100_000))
    assert written == IN_A_ROW
    [(_, others)] = limiter.due(PERIOD + 1)
    assert written + 1 + others == 100_000


def test_another_event_is_another_cause() -> None:
    limiter: Limiter[str] = Limiter()
    say(limiter, 100, event="interface drifted", now=0)
    assert say(limiter, 1, event="agent ready", now=0) == [0]


def test_memory_is_bounded_and_nothing_goes_uncounted() -> None:
    limiter: Limiter[str] = Limiter()
    chance = random.Random(1)
    written, others, now, said = 0, 0, 0.0, 20_000
    for _ in range(said):
        now += chance.random() / 10
        event, about = f"e{chance.randrange(3 * MAX_CAUSES)}", f"a{chance.randrange(100_000)}"
        if (count := limiter.admit("", event=event, about=about, now=now)) is not None:
            written, others = written + 1, others + count
        if chance.random() < 0.001:
            due = limiter.due(now)
            written, others = written + len(due), others + sum(count for _, count in due)
        assert len(limiter._events) <= MAX_CAUSES + 1
        assert len(limiter._things) <= MAX_CAUSES
    for _ in range(3):
        now += PERIOD
        due = limiter.due(now)
        written, others = written + len(due), others + sum(count for _, count in due)
    assert written + others == said


@pytest.mark.parametrize("rate", [0.2, 1, 50])
@pytest.mark.parametrize(("things", "a_minute"), [(1, 1), (7, 7), (1_000_000, 1)])
def test_ten_in_a_row_and_then_one_a_minute_for_each_that_is_noisy(rate: float, things: int, a_minute: int) -> None:
    limiter: Limiter[str] = Limiter()
    lines, now, number = 0, 0.0, 0
    while now < 10 * PERIOD:
        number += 1
        lines += limiter.admit("", event="e", about=f"a{number % things}", now=now) is not None
        lines += len(limiter.due(now))
        now += 1 / rate
    assert lines <= IN_A_ROW + 10 * a_minute
