"""What is known of a resource from one round to the next."""

from __future__ import annotations

import pytest

from ifagent.core.drift import FLAP_WINDOW, FREE_REPAIRS
from ifagent.core.link import LinkId, NsId
from ifagent.core.plan import Verdict
from ifagent.core.records import Records
from ifagent.core.resources import interface_key

KEY, OTHER = interface_key("a"), interface_key("b")
LINK = LinkId(NsId(1), 2)
AS_DECLARED, DIFFERENT, GONE = (
    Verdict(LINK),
    Verdict(LINK, None, ("mtu",)),
    Verdict(None, None, ("the link is missing",)),
)


def take_in(records: Records, verdict: Verdict | None, now: float = 0.0, *, repair: bool = True) -> list[str]:
    """Return what of the one resource is drift."""
    verdicts = {} if verdict is None else {KEY: verdict}
    return [different for _, different in records.take_in({KEY}, verdicts, now, repair=repair)]


def test_only_what_was_as_declared_drifts() -> None:
    records = Records()
    assert take_in(records, DIFFERENT) == []
    assert take_in(records, AS_DECLARED) == []
    assert take_in(records, DIFFERENT) == ["mtu"]
    assert take_in(records, DIFFERENT) == []
    assert records.of(KEY).drift.repairs == 1


def test_what_is_declared_otherwise_is_no_drift() -> None:
    records = Records()
    take_in(records, AS_DECLARED)
    records.declaration_changed(KEY, is_declared=True)
    assert take_in(records, DIFFERENT) == []
    take_in(records, AS_DECLARED)
    records.reference_changed(KEY)
    assert take_in(records, DIFFERENT) == []
    take_in(records, AS_DECLARED)
    assert take_in(records, DIFFERENT) == ["mtu"]


def test_of_a_link_that_dies_its_death_is_what_was_different() -> None:
    records = Records()
    take_in(records, AS_DECLARED)
    assert take_in(records, DIFFERENT) == ["mtu"]
    assert take_in(records, GONE) == []
    assert records.of(KEY).drift.different == "the link is missing"


def test_repairs_in_a_row_are_spaced_out_until_it_is_quiet() -> None:
    records = Records()

    def drift(now: float) -> None:
        take_in(records, AS_DECLARED, now)
        assert take_in(records, DIFFERENT, now) == ["mtu"]

    for _ in range(FREE_REPAIRS):
        drift(0.0)
        assert records.may_repair({KEY, OTHER}, 0.0)
    drift(0.0)
    assert not records.may_repair({KEY, OTHER}, 0.0)
    assert records.may_repair({OTHER}, 0.0)
    until = records.next_time()
    assert until is not None
    assert until == pytest.approx(0.1)
    assert list(records.due(0.09)) == []
    assert list(records.due(until)) == [KEY]
    assert records.next_time() is None
    drift(until + FLAP_WINDOW + 1)
    assert records.may_repair({KEY}, until + FLAP_WINDOW + 1)
    assert records.of(KEY).drift.repairs == FREE_REPAIRS + 2


@pytest.mark.parametrize("resumed", ["resync", "resolved", "declaration", "reference"])
def test_drift_that_is_only_reported_is_left_until(resumed: str) -> None:
    records = Records()
    take_in(records, AS_DECLARED)
    assert take_in(records, DIFFERENT, repair=False) == ["mtu"]
    assert records.of(KEY).drift.suspended
    assert not records.may_repair({KEY}, 1e9)
    assert records.next_time() is None or not list(records.due(1e9))
    match resumed:
        case "resync":
            records.resume_repairs()
        case "resolved":
            take_in(records, AS_DECLARED)
        case "declaration":
            records.declaration_changed(KEY, is_declared=True)
        case _:
            records.reference_changed(KEY)
    assert records.may_repair({KEY}, 0.0)


def test_what_is_forgotten_was_never_known() -> None:
    records = Records()
    take_in(records, AS_DECLARED)
    assert take_in(records, DIFFERENT) == ["mtu"]
    records.forget(KEY)
    assert take_in(records, None) == []
    assert records.of(KEY).drift.repairs == 0
    records.declaration_changed(KEY, is_declared=False)
    assert take_in(records, DIFFERENT) == []
