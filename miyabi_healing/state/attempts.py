"""What the repairs of each healer came to, in sums that outlive what history lets go of: one row
for an issue, its target and a healer.

A heal that holds writes nothing: its quiet time is the time until the check was last seen healthy,
and is looked up where it is asked for. Nor does a rollback: the runs that were rolled back are
counted.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from miyabi_healing.model.learned import DECAY, Sums, after_relapse, after_rollback, after_try
from miyabi_healing.model.risk import Risk
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import DAY

_KEPT_DAYS = 400  # since a repair was tried last, by the run clock
_MOST = 2000  # rows; those that were tried longest ago go first
_MOST_OF_ALL = 1e11  # of any sum, and seconds since the epoch: more is no number of ours
_LEAST_VERSION = 9
_SUMS = "risk, tries, gained, seconds, quiet, relapses, count, gains, undone, since"
_LAST = "options, gain, before, after, position, outcome, last"
_COLUMNS = f"issue, target, healer, clock, {_SUMS}, {_LAST}"
_MARKS = ", ".join("?" * len(_COLUMNS.split(", ")))
_OF = "where issue = ? and target = ?"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one call of a healer came to.

    `share` is the part of the excess that it removed, 1 where it `healed`; `options` a digest of
    what it was set to; `risk` the class of what it planned. `position` counts from 1.
    """

    healer: str
    options: str
    share: float
    healed: bool
    outcome: str
    before: float
    after: float | None
    seconds: float
    position: int
    risk: Risk | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of one healer's repairs. `gain` is the decayed sum of what the metric lost by
    them; `before` to `last` are of the last one, `last` in seconds since the epoch.
    """

    issue: str
    target: str
    sums: Sums
    options: str = ""
    gain: float = 0
    before: float | None = None
    after: float | None = None
    position: int = 0
    outcome: str = ""
    last: float = 0


def read_all(journal: Journal) -> list[Known]:
    """Everything that was learned, as it is now. Raises sqlite3.Error."""
    return [_as_it_is_now(journal, each) for each in _rows(journal, "")]


def read_sums(journal: Journal, issue: str, target: str) -> dict[str, Known]:
    """What is known of each healer that was tried for an issue of a target, as it is now. Raises
    sqlite3.Error.
    """
    found = _rows(journal, _OF, issue, target)
    return {each.sums.healer: _as_it_is_now(journal, each) for each in found}


def forget(journal: Journal, issue: str | None = None) -> int:
    """Let go of what was learned, or of what was about one issue; returns how many rows there were.
    Raises sqlite3.Error.
    """
    where, values = ("", ()) if issue is None else (" where issue = ?", (issue,))
    return journal.write(f"delete from attempt{where}", values).rowcount


def record(
    journal: Journal, number: int, now: Moment, found: Mapping[tuple[str, str], Sequence[Attempt]]
) -> str:
    """Add what a run, by its number, did about each issue and target that it found, in the
    transaction in hand. Returns why it could not be added, empty where it was: the run itself is to
    be on record all the same. Raises sqlite3.Error where that transaction is lost.
    """
    database = journal.database
    database.execute("savepoint attempts")
    try:
        for (issue, target), attempts in found.items():
            _record_issue(journal, number, now, issue, target, attempts)
        if any(found.values()):
            _prune(journal, now)
    except (sqlite3.Error, ValueError, TypeError) as error:
        database.execute("rollback to attempts")
        return f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(sqlite3.Error):
            database.execute("release attempts")
    return ""


def _record_issue(
    journal: Journal, number: int, now: Moment, issue: str, target: str, attempts: Sequence[Attempt]
) -> None:
    rows = {each.sums.healer: each for each in _rows(journal, _OF, issue, target)}
    for name, row in list(rows.items()):
        rows[name] = _with_rollbacks(journal, row)
        since = rows[name].sums.since
        if since is not None:  # it held from then on, and does not any more
            healthy = _last_healthy(journal, issue, target, number) or since
            quiet = max((healthy + now.seen) / 2 - since, 0)  # somewhere between the two runs
            rows[name] = replace(rows[name], sums=after_relapse(rows[name].sums, quiet))
    for each in attempts:
        known = rows.get(each.healer)
        if known is None or known.options != each.options:  # with others it does something else
            undone = _rollbacks(journal, issue, target, each.healer)
            known = Known(issue=issue, target=target, sums=Sums(healer=each.healer, undone=undone))
        rows[each.healer] = _after(known, each, now)
    for row in rows.values():
        _write(journal, row, now)


def _after(row: Known, attempt: Attempt, now: Moment) -> Known:
    sums = after_try(row.sums, attempt.share, attempt.seconds, attempt.risk)
    lost = attempt.before - attempt.after if attempt.after is not None else 0
    return replace(
        row,
        sums=replace(sums, since=now.seen) if attempt.healed else sums,
        options=attempt.options,
        gain=row.gain * DECAY + lost,
        before=attempt.before,
        after=attempt.after,
        position=attempt.position,
        outcome=attempt.outcome,
        last=now.wall,
    )


def _rows(journal: Journal, where: str, *values: object) -> list[Known]:
    if journal.version < _LEAST_VERSION:
        return []
    query = f"select {_COLUMNS} from attempt {where} order by issue, target, clock, healer"
    return [_known(row) for row in journal.database.execute(query, values)]


def _known(row: tuple[Any, ...]) -> Known:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    known = {int(each) for each in Risk}
    risk = values["risk"]
    values["risk"] = None if risk is None else Risk(risk) if risk in known else Risk.UNKNOWN
    for name in ("tries", "gained", "seconds", "quiet", "relapses", "gains", "since", "last"):
        if values[name] is not None:
            values[name] = min(max(values[name], 0), _MOST_OF_ALL)  # whoever wrote it
    sums = Sums(healer=values["healer"], **{name: values[name] for name in _SUMS.split(", ")})
    last = {name: values[name] for name in _LAST.split(", ")}
    return Known(issue=values["issue"], target=values["target"], sums=sums, **last)


def _write(journal: Journal, row: Known, now: Moment) -> None:
    sums = row.sums
    values = (
        *(row.issue, row.target, sums.healer, now.seen),
        *(getattr(sums, name) for name in _SUMS.split(", ")),
        *(getattr(row, name) for name in _LAST.split(", ")),
    )
    journal.write(f"insert or replace into attempt ({_COLUMNS}) values ({_MARKS})", values)


def _prune(journal: Journal, now: Moment) -> None:
    journal.write("delete from attempt where clock < ?", (now.seen - _KEPT_DAYS * DAY,))
    newest = "select rowid from attempt order by clock desc limit ?"
    journal.write(f"delete from attempt where rowid not in ({newest})", (_MOST,))


def _as_it_is_now(journal: Journal, row: Known) -> Known:
    """With the rollbacks since the last run that found it, and the quiet time so far."""
    row = _with_rollbacks(journal, row)
    if row.sums.since is None:
        return row
    healthy = _last_healthy(journal, row.issue, row.target) or row.sums.since
    quiet = row.sums.quiet + max(healthy - row.sums.since, 0)
    return replace(row, sums=replace(row.sums, quiet=quiet))


def _with_rollbacks(journal: Journal, row: Known) -> Known:
    new = _rollbacks(journal, row.issue, row.target, row.sums.healer) - row.sums.undone
    return replace(row, sums=after_rollback(row.sums, new)) if new > 0 else row


def _rollbacks(journal: Journal, issue: str, target: str, healer: str) -> int:
    """How many runs of a healer had a step rolled back by hand; such steps are never pruned."""
    query = (
        "select count(distinct run) from step where issue = ? and issue_target = ? and healer = ? "
        "and status = 'rolled back'"
    )
    return int(journal.one(query, issue, target, healer)[0])


def _last_healthy(
    journal: Journal, issue: str, target: str, before: int | None = None
) -> float | None:
    """The run clock's value when a check was last seen healthy, in runs before that number; None
    where history does not reach so far.
    """
    limit = "" if before is None else "and measurement.pass < ? "
    query = (
        "select clock from measurement join pass on pass.id = measurement.pass where name = ? "
        f"and target = ? and outcome in ('healthy', 'healed') {limit}"
        "order by measurement.pass desc limit 1"
    )
    row = journal.one(query, issue, target, *(() if before is None else (before,)))
    return None if row is None else float(row[0])
