"""Issues that were foreseen, and what became of each: the memory that makes the next forecast of
the same value more or less worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from miyabi_healing.state.journal import Journal

if TYPE_CHECKING:
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.state.run_clock import Moment

CAME_TRUE, DID_NOT_COME = "came true", "did not come"
PREVENTED = "prevented"  # a repair came before it: nobody knows what would have been
WITHDRAWN = "withdrawn"  # the limit is another one by now
LATE = 2  # times as long as foreseen: what has not come by then does not count as foreseen
LOOKS = 3  # runs, of which it is known whether they foresaw it
_ALL_LOOKS = (1 << LOOKS) - 1
_COLUMNS = (
    "id, issue, target, made, clock, value, threshold, eta, basis, looks, tries, tried, result"
)


@dataclass(frozen=True)
class Alarm:
    """An issue that was foreseen first at `made` (seconds since the epoch) and `clock` (the run
    clock), to occur `eta` seconds later. `looks` has a bit for each of the last three runs, the
    newest lowest, which foresaw it or not. `tries` early repairs were tried, the last at `tried`
    (run clock). `result` is empty while nobody knows.
    """

    number: int
    issue: str
    target: str
    made: float
    clock: float
    value: float
    threshold: float
    eta: float
    basis: str
    looks: int = 1
    tries: int = 0
    tried: float | None = None
    result: str | None = None

    @property
    def seen(self) -> int:
        """In how many of the last three runs it was foreseen."""
        return self.looks.bit_count()

    def looked(self, foreseen: bool) -> Alarm:
        """With one more run."""
        return replace(self, looks=(self.looks << 1 | foreseen) & _ALL_LOOKS)

    def settled(self, value: float, threshold: float, now: Moment) -> str | None:
        """What has become of it by the value measured now; None while that is open.

        Over the limit at the first look after its time counts: nobody looked before. Its time is
        over once both clocks say so.
        """
        if value > self.threshold:
            return CAME_TRUE
        if threshold != self.threshold:
            return WITHDRAWN
        late = now.has_passed(LATE * self.eta, self.made, self.clock)
        return DID_NOT_COME if late else None


class Record(NamedTuple):
    """How many alarms of a value have come to their end, and how many came true."""

    alarms: int
    came_true: int


def open_alarms(journal: Journal) -> dict[tuple[str, str], Alarm]:
    """What is foreseen and undecided, by issue and target. Raises sqlite3.Error."""
    rows = journal.all(f"select {_COLUMNS} from alarm where ended is null")
    return {(alarm.issue, alarm.target): alarm for alarm in (Alarm(*row) for row in rows)}


def record_of(journal: Journal, issue: str, target: str) -> Record:
    """How past alarms of a value went, as far back as history is kept. Raises sqlite3.Error."""
    row = journal.one(
        "select count(*), coalesce(sum(result = ?), 0) from alarm "
        "where issue = ? and target = ? and result in (?, ?)",
        *(CAME_TRUE, issue, target, CAME_TRUE, DID_NOT_COME),
    )
    return Record(*row) if row else Record(0, 0)


def early_tries(journal: Journal, issue: str, target: str, now: Moment) -> list[float]:
    """How many seconds ago each early repair was tried that has not prevented its issue, the last
    first. Raises sqlite3.Error.
    """
    rows = journal.all(
        "select tries, tried from alarm where issue = ? and target = ? and tries > 0 "
        "and (result is null or result != ?)",
        *(issue, target, PREVENTED),
    )
    return sorted(max(now.seen - tried, 0) for tries, tried in rows for _ in range(tries))


def rested(journal: Journal, issue: str, target: str, now: Moment) -> float:
    """How many seconds ago an issue was prevented last; infinite where none was. Raises
    sqlite3.Error.
    """
    row = journal.one(
        "select max(tried) from alarm where issue = ? and target = ? and result = ?",
        *(issue, target, PREVENTED),
    )
    return inf if row is None or row[0] is None else max(now.seen - row[0], 0)


def keep(journal: Journal, alarm: Alarm, found: Foreseen | None, run: str, now: Moment) -> None:
    """Write down an alarm as it is after a run: a new one (its number is 0) with the forecast that
    raised it. Raises sqlite3.Error.
    """
    ended = now.wall if alarm.result else None
    if alarm.number:
        sets = "looks = ?, tries = ?, tried = ?, ended = ?, result = ?"
        row = (alarm.looks, alarm.tries, alarm.tried, ended, alarm.result, alarm.number)
        journal.write(f"update alarm set {sets} where id = ?", row)
        return
    columns = (
        "issue, target, run, made, clock, value, threshold, eta, earliest, latest, basis, looks, "
        "tries, tried, ended, result"
    )
    journal.write(
        f"insert into alarm ({columns}) values ({', '.join('?' * 16)})",
        (
            alarm.issue,
            alarm.target,
            run,
            alarm.made,
            alarm.clock,
            alarm.value,
            alarm.threshold,
            alarm.eta,
            found.earliest if found else None,
            found.latest if found else None,
            alarm.basis,
            alarm.looks,
            alarm.tries,
            alarm.tried,
            ended,
            alarm.result,
        ),
    )
