"""Whether a value that is within its limit will cross it soon, from its history and what was just
measured.

Every run loads this, so it asks the history for a few rows of each value, and loads the forecast,
and what remembers alarms, only where something grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miyabi_healing.model.issue import Limit
from miyabi_healing.model.results import CheckResult

if TYPE_CHECKING:
    from miyabi_healing.model.config import ForesightSettings
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.state.alarms import Alarm
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.run_clock import Moment

Key = tuple[str, str]  # a check's name and its target
# Checks that may pass above their limit, as swap that is full does no harm by itself; and those
# of which no value is known before they trip.
NEVER_FORESEEN = ("swap_usage", "stale_git_lock", "coordinator_down", "orphaned_tasks")
# Where in the past a value is looked up: so many seconds, and so many runs ago.
_AGO = (900, 3600, 6 * 3600, 86_400)
_RUNS_AGO = (12, 36)
_LONG_AGO = 8 * 86_400  # what grows once a week
_FEW = 6  # runs: with twice as many samples, were all of them healed, a forecast begins
_FASTER = 4  # times: a growth that has begun to hasten
_LEAST_VERSION = 9  # of a journal that has alarms
_RISE = 1 / 20  # of what is left to the limit; less is no growth that is trusted


@dataclass(frozen=True)
class Past:
    """What a run knows before it measures: the moment, the first runs to compare with (number, and
    when they ended), whether each is of long ago, and the alarms that are open.
    """

    journal: Journal
    now: Moment
    marks: tuple[tuple[int, float, bool], ...]
    alarms: dict[Key, Alarm]

    def may_come(self, name: str, target: str, limit: float, value: float, horizon: float) -> bool:
        """Whether it is worth to ask: it has risen so much since one of the marks that four times
        as fast it would be there. Raises sqlite3.Error.
        """
        gap = crossing(limit, (value,)) - value
        if gap <= 0 or not self.marks:
            return False
        query = (
            "select coalesce(after, value) from measurement where name = ? and target = ? "
            "and pass >= ? and value is not null order by pass limit 1"
        )
        for number, ended, long_ago in self.marks:
            row = self.journal.one(query, name, target, number)
            if row is None:
                continue
            rise = value - row[0]
            needed = gap if long_ago else gap * (self.now.wall - ended) / horizon / _FASTER
            if rise >= max(needed, _RISE * gap):
                return True
        return False


@dataclass
class Foresight:
    """What one run foresees. `off` is set where nothing can be: the rest of the run goes on."""

    found: dict[Key, Foreseen] = field(default_factory=dict)
    past: Past | None = None
    off: bool = False

    def give_up(self, error: Exception, notes: list[str]) -> None:
        self.off = True
        notes.append(f"nothing is foreseen in this run: {type(error).__name__}: {error}")

    @property
    def has_news(self) -> bool:
        """Whether there is something to write down."""
        return not self.off and self.past is not None and bool(self.found or self.past.alarms)

    def ask(
        self,
        record: CheckResult,
        rules: ForesightSettings,
        journal: Callable[[], Journal | None],
        notes: list[str],
    ) -> Foreseen | None:
        """What is foreseen of a check that has passed. Raises nothing."""
        if self.off or not rules.enabled or record.measured is None or record.early:
            return None
        if record.name in NEVER_FORESEEN:
            return None
        try:
            self.past = self.past or read_past(journal())
            if self.past is None:
                self.off = True
                return None
            name, target, value = record.name, record.target, record.measured["value"]
            horizon = rules.horizon * 3600
            if not self.past.may_come(name, target, record.limit.threshold, value, horizon):
                return None
            past = self.past
            found = foresee(past.journal, name, target, record.limit, value, past.now, horizon)
        except Exception as error:  # the run is worth more than its forecasts
            self.give_up(error, notes)
            return None
        if found:
            self.found[name, target] = found
        return found


def read_past(journal: Journal | None) -> Past | None:
    """None where nothing is on record. Raises sqlite3.Error."""
    if journal is None or journal.version < _LEAST_VERSION:
        return None
    now = journal.now()
    marks: dict[int, tuple[int, float, bool]] = {}
    since = "select id, ended from pass where ended >= ? order by ended limit 1"
    enough = journal.one("select count(*) from (select 1 from pass limit ?)", _FEW)[0] == _FEW
    for ago in (_LONG_AGO, *_AGO) if enough else ():
        if (row := journal.one(since, now.wall - ago)) and row[1] < now.wall:
            marks[row[0]] = (*row, ago == _LONG_AGO)
    before = (
        "select id, ended from pass where id <= (select max(id) from pass) - ? "
        "order by id desc limit 1"
    )
    for runs in _RUNS_AGO:
        if (row := journal.one(before, runs)) and row[1] < now.wall:
            marks[row[0]] = (*row, False)
    found = journal.one("select 1 from alarm where ended is null limit 1")
    alarms: dict[Key, Alarm] = {}
    if found:
        from miyabi_healing.state.alarms import open_alarms

        alarms = open_alarms(journal)
    return Past(journal, now, tuple(marks[each] for each in sorted(marks, reverse=True)), alarms)


def foresee(
    journal: Journal,
    name: str,
    target: str,
    limit: Limit,
    value: float,
    now: Moment,
    horizon: float,
) -> Foreseen | None:
    """The issue that a check will find within `horizon` seconds, as its value was measured `now`
    (`Journal.now`); None where none is foreseen, and where it has occurred. Raises sqlite3.Error.
    """
    from miyabi_healing.foresight import forecast
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.state import alarms, series

    if value > limit.threshold or now.doubt:
        return None  # where the clock is not believed, rates mean nothing
    times, values = as_if_unhealed(*series.read_series(journal, name, target))
    # times of a clock that was ahead once
    past = [each for each in zip(times, values, strict=True) if each[0] < now.wall]
    course = [*(each for _, each in past), value]
    over = crossing(limit.threshold, course)
    if value >= over:
        return None
    found = forecast([*(at for at, _ in past), now.wall], course, over)
    if found is None or found.eta_seconds > horizon:
        return None
    record = alarms.record_of(journal, name, target)
    alarm = alarms.open_alarms(journal).get((name, target))
    return Foreseen(
        issue=name,
        target=target,
        value=value,
        threshold=limit.threshold,
        unit=limit.unit,
        measured=now.wall,
        eta_seconds=found.eta_seconds,
        earliest=found.earliest,
        latest=found.latest,
        basis=found.basis,
        seen=alarm.looked(True).seen if alarm else 1,
        alarms=record.alarms,
        came_true=record.came_true,
    )


def crossing(threshold: float, values: Iterable[float]) -> float:
    """From where on a check trips, which it does above its threshold only: of what is counted, that
    is the next number.
    """
    counted = all(float(each).is_integer() for each in values)
    return math.floor(threshold) + 1 if counted else threshold


def as_if_unhealed(times: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """The same series without the falls that were repairs of ours, which have two values of one
    time: what comes if nothing is done is asked, and a habit of ours is none of the host's.
    """
    level, lower = list(values), 0.0
    for at in range(len(values) - 2, -1, -1):
        if times[at] == times[at + 1]:
            lower += max(values[at] - values[at + 1], 0)
        level[at] -= lower
    return times, level
