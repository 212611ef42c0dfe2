"""What became of what was foreseen: written down at the end of a run, and told where it did not
come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from miyabi_healing.model.results import CheckResult
from miyabi_healing.report.moments import moment_text
from miyabi_healing.state import alarms
from miyabi_healing.state.alarms import Alarm
from miyabi_healing.support.formatting import figure, minute_text

if TYPE_CHECKING:
    from miyabi_healing.model.actions import ActionResult
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.runner.foreseeing import Foresight
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.run_clock import Moment


def remember(
    foresight: Foresight,
    journal: Journal,
    run: str,
    records: Iterable[CheckResult],
    notes: list[str],
) -> None:
    """Settle the alarms that are open, and open those of this run. What was prevented is foreseen
    no more. Raises nothing.
    """
    try:
        _remember(foresight, journal, run, records, notes)
    except Exception as error:  # the run is worth more than its forecasts
        foresight.give_up(error, notes)


def _remember(
    foresight: Foresight,
    journal: Journal,
    run: str,
    records: Iterable[CheckResult],
    notes: list[str],
) -> None:
    past = foresight.past.alarms if foresight.past else {}
    now = journal.now()
    with journal.at_once():
        for record in records:
            key = record.name, record.target
            alarm, found = past.get(key), foresight.found.get(key)
            if record.error or record.waived or not record.measured or not (alarm or found):
                continue
            for each in _after(record, alarm, found, now):
                alarms.keep(journal, each, found, run, now)
                if each.result == alarms.DID_NOT_COME:
                    notes.append(_not_come(each, record.limit.unit))
                elif each.result == alarms.PREVENTED:
                    foresight.found.pop(key, None)


def _after(
    record: CheckResult, alarm: Alarm | None, found: Foreseen | None, now: Moment
) -> Iterator[Alarm]:
    """The alarms of a value as they are after this run: one that has ended, one that is open."""
    assert record.measured
    value = record.measured["value"]
    if record.issue:
        value = record.issue.metric_value
    elif record.early:
        value = record.early.issue.metric_value
    looks = 1
    if alarm:
        alarm = alarm.looked(found is not None)
        if result := alarm.settled(value, record.limit.threshold, now):
            yield replace(alarm, result=result)
            looks, alarm = alarm.looks, None
    if alarm is None and found:
        alarm = Alarm(
            0,
            record.name,
            record.target,
            found.measured,
            now.seen,
            found.value,
            found.threshold,
            found.eta_seconds,
            found.basis,
            looks,
        )
    if alarm and record.early:
        alarm = replace(alarm, tries=alarm.tries + 1, tried=now.seen)
        if record.issue:
            alarm = replace(alarm, result=alarms.CAME_TRUE)
        elif _gained(record.early):
            alarm = replace(alarm, result=alarms.PREVENTED)
    if alarm:
        yield alarm


def _gained(early: ActionResult) -> bool:
    return bool(early.outcomes) and early.status.value in ("success", "partial")


def _not_come(alarm: Alarm, unit: str) -> str:
    """That a forecast was wrong, once."""
    what = f"{alarm.issue} {alarm.target}".rstrip()
    limit = figure(alarm.threshold, unit)
    verb = "reach" if unit else "exceed"
    when = moment_text(alarm.made + alarm.eta, alarm.made, "dates")
    made = minute_text(alarm.made)
    return f"{what}: foreseen on {made} to {verb} {limit} {when}; it did not come"
