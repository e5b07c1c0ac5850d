"""What a watch tells after a connection was lost: the differences, under numbers without a gap."""

from __future__ import annotations

from dataclasses import replace

from ifagent.core.state import Change, ConfigState, InterfaceState, Status
from ifagent.core.watched_states import WatchedStates

A = InterfaceState(name="a", config_state=ConfigState.APPLIED, admin_status=Status.UP, oper_status=Status.UP)


def test_only_what_is_different_is_told_and_numbered() -> None:
    seen = WatchedStates()
    assert seen.tell(Change.SNAPSHOT, "a", A).seq == 1
    assert seen.difference("a", A) is None
    changed = seen.difference("a", replace(A, mtu=1400))
    assert changed is not None
    assert (changed.seq, changed.event) == (2, Change.CHANGED)
    created = seen.difference("b", replace(A, name="b"), created=Change.SNAPSHOT)
    assert created is not None
    assert (created.seq, created.event) == (3, Change.SNAPSHOT)


def test_what_is_no_more_is_told_once_with_its_last_state() -> None:
    seen = WatchedStates()
    seen.tell(Change.CREATED, "a", A)
    gone = seen.withdraw("a")
    assert gone is not None
    assert gone.event is Change.DELETED
    assert gone.state == replace(A, admin_status=Status.DELETED, oper_status=Status.DELETED)
    assert seen.withdraw("a") is None
    assert seen.withdraw("never") is None


def test_a_gap_is_counted_and_changes_no_state() -> None:
    seen = WatchedStates()
    seen.tell(Change.CREATED, "a", A)
    gap = seen.tell(Change.GAP, "", None, missed=3)
    assert (gap.seq, gap.missed) == (2, 3)
    assert seen.states == {"a": A}
