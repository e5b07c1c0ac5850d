"""One record for each resource: what was found about it, its drift, and what its state was made of. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ifagent.core.drift import NO_DRIFT, DriftHistory
from ifagent.core.plan import Verdict
from ifagent.core.reminders import Reminders
from ifagent.core.report import Findings
from ifagent.core.resources import Key


@dataclass(slots=True)
class Record:
    """What is known of one resource beside what is declared and what the kernel has.

    ``verdict`` is what the planner found last, ``fulfilled`` that it was as declared then. ``changed_by_intent`` says
    that something else is declared since, of it or of what it refers to, so what is different is no drift.
    ``being_removed`` is one that is not declared any more and of which something is left to be taken away. ``findings``
    are what its published state was made of.
    """

    verdict: Verdict | None = None
    fulfilled: bool = False
    changed_by_intent: bool = False
    being_removed: bool = False
    drift: DriftHistory = NO_DRIFT
    findings: Findings | None = None


class Records:
    """The records of all resources that are declared, or about which something is left to be done."""

    def __init__(self) -> None:
        self._records: dict[Key, Record] = {}
        self._reminders: Reminders[Key] = Reminders(self._left_until)

    def of(self, key: Key) -> Record:
        """Return the record of a resource, a new one if there is none."""
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record()
        return record

    def forget(self, key: Key) -> None:
        """Drop the record of a resource."""
        self._records.pop(key, None)

    # What happens to resources

    def declaration_changed(self, key: Key, *, is_declared: bool) -> None:
        """Note that something else is declared, or nothing any more."""
        record = self.of(key)
        record.changed_by_intent = True
        record.drift = record.drift.redeclared() if is_declared else NO_DRIFT

    def reference_changed(self, key: Key) -> None:
        """Note that something else is declared of what a resource refers to."""
        record = self.of(key)
        record.changed_by_intent = True
        record.drift = record.drift.resolved()

    def take_in(
        self, keys: Iterable[Key], verdicts: Mapping[Key, Verdict], now: float, *, repair: bool
    ) -> Iterator[tuple[Key, str]]:
        """Take in what a plan says of resources; yield those that were changed externally, and what is different.

        Without ``repair`` that is left so.
        """
        for key in keys:
            verdict = verdicts.get(key)
            record = self._records.get(key) if verdict is None else self.of(key)
            if record is None:
                continue
            if verdict is not None and verdict.differences and not record.changed_by_intent:
                different = "; ".join(verdict.differences)
                if record.fulfilled:
                    self._drifted(key, record, different, now, repair=repair)
                    yield key, different
                elif record.drift.different and verdict.link is None:
                    # A link that dies goes down and loses its addresses first; this is the whole of it.
                    record.drift = record.drift.with_difference(different)
            record.changed_by_intent = False
            record.verdict, record.fulfilled = verdict, verdict is not None and verdict.fulfilled
            if record.fulfilled:
                record.drift = record.drift.resolved()

    def _drifted(self, key: Key, record: Record, different: str, now: float, *, repair: bool) -> None:
        record.drift = record.drift.drifted(different, now, repair=repair)
        if record.drift.until > now:  # what may be repaired now is planned anyway
            self._reminders.add(record.drift.until, key)

    def resume_repairs(self) -> None:
        """Have drift repaired that was left as it is."""
        for record in self._records.values():
            record.drift = record.drift.resolved()

    # When drift is repaired

    def may_repair(self, keys: Collection[Key], now: float) -> bool:
        """Tell whether something may be done for all of these resources now."""
        return not any(now < record.drift.until for key in keys if (record := self._records.get(key)))

    def due(self, now: float) -> Iterator[Key]:
        """Yield, once, the resources that may be repaired by now."""
        return self._reminders.due(now)

    def next_time(self) -> float | None:
        """Return when a resource that waits may be repaired next, ``None`` if none waits for a time."""
        return self._reminders.next_time()

    def _left_until(self, key: Key) -> float | None:
        record = self._records.get(key)
        return None if record is None else record.drift.until
