"""What lies ahead, as the failure predictor's document has it, and for people.

The document has that predictor's keys, types and words, so that what reads its output reads ours,
and for each prediction what ours rests on.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, NotRequired, TypedDict

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.outlook import CRITICAL, IMMINENT, LEVELS, SERIES, Outlook, Prediction
from miyabi_healing.report import foreseen_text, layout, style
from miyabi_healing.report.foreseen import foreseen_row
from miyabi_healing.support.formatting import duration_text, figure, minute_text

if TYPE_CHECKING:
    from miyabi_healing.model.foreseen import Foreseen

_MARKS = {"warning": "medium", CRITICAL: "high", IMMINENT: "critical"}
_METRICS = (
    "cpu_percent", "memory_percent", "disk_percent", "miyabi_process_count",
    "zombie_process_count", "git_worktree_count", "git_uncommitted_count",
)  # fmt: skip
_STATUS = {CRITICAL: 1, IMMINENT: 2}  # as that predictor ends; 0 else


class PredictionRow(TypedDict):
    """A limit that is crossed or will be."""

    component: str
    level: str
    confidence: float | None
    predicted_time: str | None
    factors: list[str]
    recommendations: list[str]
    issue: str
    target: str
    eta_seconds: float
    earliest: str | None
    latest: str | None
    basis: str
    causes: list[str]


class AnomalyRow(TypedDict):
    """A value that is above its limit now."""

    metric: str
    current_value: float
    threshold: float
    severity: str


class PredictionDocument(TypedDict):
    """What ``predict --json`` prints, as ``prediction.schema.json`` describes it."""

    timestamp: str
    overall_health: str
    predictions: list[PredictionRow]
    anomalies: list[AnomalyRow]
    metrics_summary: dict[str, float]
    recommendations: list[str]
    could_not_tell: NotRequired[bool]


def exit_status(outlook: Outlook) -> int:
    """0 healthy or a warning, 1 critical, 2 imminent, 3 nothing could be told."""
    if outlook.could_not_tell:
        return ExitCode.UNKNOWN
    return _STATUS.get(outlook.health, 0)


def build_prediction(outlook: Outlook) -> PredictionDocument:
    """The document."""
    worst_first = _ordered(outlook)
    document: PredictionDocument = {
        "timestamp": _moment(outlook.now),
        "overall_health": outlook.health,
        "predictions": [_row(each) for each in worst_first],
        "anomalies": [
            {
                "metric": each.metric,
                "current_value": each.foreseen.value,
                "threshold": each.foreseen.threshold,
                "severity": each.level,
            }
            for each in worst_first
            if each.crossed
        ],
        "metrics_summary": {
            each: outlook.metrics[each] for each in (*_METRICS, SERIES) if each in outlook.metrics
        },
        "recommendations": _commands(outlook),
    }
    if outlook.could_not_tell:
        document["could_not_tell"] = True
    return document


def _ordered(outlook: Outlook) -> list[Prediction]:
    """The worst first, and the soonest of these."""
    return sorted(outlook.predictions, key=lambda each: (-LEVELS.index(each.level), each.seconds))


def _row(each: Prediction) -> PredictionRow:
    found = each.foreseen
    reached = found.measured + found.eta_seconds
    return {
        "component": each.component,
        "level": each.level,
        "confidence": found.confidence,
        "predicted_time": _moment(reached),
        "factors": [f"{each.metric}: {found.value:.1f} (threshold: {found.threshold:.1f})"],
        "recommendations": list(each.commands),
        "issue": found.issue,
        "target": found.target,
        "eta_seconds": round(each.seconds, 1),
        "earliest": _edge(found, found.earliest),
        "latest": _edge(found, found.latest),
        "basis": found.basis,
        "causes": list(found.causes),
    }


def _edge(found: Foreseen, seconds: float | None) -> str | None:
    return None if seconds is None else _moment(found.measured + seconds)


def _moment(seconds: float) -> str:
    """Local, with microseconds and without a zone, as that predictor writes it."""
    return datetime.datetime.fromtimestamp(seconds).isoformat(timespec="microseconds")


def prediction_lines(outlook: Outlook, width: float) -> Iterator[str]:
    """For people, on so many columns: a line for each, and what to run about it, never broken."""
    yield from layout.fitted(_sentences(outlook), width)
    yield from (f"   {command}" for command in _commands(outlook))
    yield from layout.fitted(outlook.notes, width)


def _sentences(outlook: Outlook) -> Iterator[str]:
    worst_first, look = _ordered(outlook), style.current()
    for each in worst_first:
        yield look.lead(_MARKS[each.level]) + _line(each, outlook.now)
    if outlook.horizon is None and worst_first:
        return  # all is said of the one series
    if all(each.crossed for each in worst_first):
        mark = "unknown" if not outlook.told else "low" if worst_first else "good"
        yield look.lead(mark) + _nothing_foreseen(outlook)
    else:
        yield f"It rests on {_rests_on(outlook)}."


def _commands(outlook: Outlook) -> list[str]:
    """What can be run about all of it, each once."""
    of_each = (command for each in _ordered(outlook) for command in each.commands)
    return list(dict.fromkeys((*of_each, *outlook.commands)))


def _line(each: Prediction, now: float) -> str:
    found, of_host = each.foreseen, each.component != SERIES
    value = figure(found.value, found.unit, found.threshold)
    last = "now" if of_host else "at its end"
    if of_host and not each.crossed:
        return f"{foreseen_text.sentence(foreseen_row(found), now)}; {value} {last}"
    name = foreseen_text.subject(foreseen_row(found)) if of_host else found.target
    limit = figure(found.threshold, found.unit, found.threshold)
    if each.crossed:
        above = "at" if found.value == found.threshold else "above"
        return f"{name}: {value} {last}, {above} the limit of {limit}"
    when = f"in {duration_text(each.seconds)}, {minute_text(found.measured + found.eta_seconds)}"
    if found.earliest is not None and found.latest is not None:
        first, end = (minute_text(found.measured + at) for at in (found.earliest, found.latest))
        day = f"{first.partition(' ')[0]} "
        when += f" (between {first} and {end.removeprefix(day)})" if first != end else ""
    return f"{name} reaches {limit} {when}, as it {found.basis}; {value} {last}"


def _nothing_foreseen(outlook: Outlook) -> str:
    where = "" if outlook.horizon is None else f" within {_hours(outlook.horizon)}"
    what = "Nothing else is foreseen" if outlook.predictions else "Nothing is foreseen"
    if outlook.told:
        return f"{what}{where}. It rests on {_rests_on(outlook)}."
    return f"What comes could not be told: {outlook.why_not or _rests_on(outlook)}."


def _rests_on(outlook: Outlook) -> str:
    """How much there was to tell it from."""
    if not outlook.samples:
        return "there is no history yet; runs make it"
    count = f"{outlook.samples} measurement{'s' if outlook.samples > 1 else ''}"
    values = "" if outlook.series < 2 else f" of {outlook.series} values"
    few = "" if outlook.told else "too few: "
    return f"{few}{count}{values} over {duration_text(outlook.span)}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:g} hour{'' if hours == 1 else 's'}"
