"""What every run measured, found and did, kept in the journal's database for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from miyabi_healing.model import config
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import DAY, display

if TYPE_CHECKING:
    from miyabi_healing.model.actions import ActionResult
    from miyabi_healing.model.results import CheckResult

LEFT_OUT = "left out"  # the outcome of a check that is on and was not to run
_OLD = "({0} < ? or {0} > ?) and clock < ?"  # a wall time in the future says nothing
_PASS = "id, run, began, ended, checks, found, healed, unknown, freed, gone, killed"
UNUSED = "id not in (select base from report)"  # texts that no report is written with any more
_COLUMNS = (
    "pass, name, target, value, after, threshold, unit, outcome, severity, description, actions, "
    "critical"
)
_VALUES = ", ".join("?" * len(_COLUMNS.split(", ")))
HistoryRow = dict[str, Any]


def record(
    journal: Journal,
    run: str,
    began: float,
    records: Iterable[CheckResult],
    rules: config.HistorySettings,
    interrupted: bool = False,
    left_out: Iterable[str] = (),
    also: Iterable[Callable[[Journal, int, Moment], object]] = (),
) -> int:
    """Keep one run, with what it left out, and let go of what is too old or too much; returns its
    number. One that was `interrupted` has something unknown, also where no check is. What is to be
    written with it, `also`, is given the run's number and the moment. Raises sqlite3.Error.
    """
    kept = [each for each in records if not each.skipped]
    found = [each for each in kept if each.issue]
    freed = sum(action.counts["bytes_freed"] for each in kept for action in each.deeds)
    healed, unknown = sum(each.healed for each in found), sum(bool(each.error) for each in kept)
    unknown = max(unknown, int(interrupted))
    gone = sum(each.healed and not _helped(each) for each in found)
    database = journal.database
    database.execute("begin immediate")
    try:
        now = journal.keep_time()
        row = (run, began, now.wall, len(kept), len(found), healed, unknown, freed, now.seen, gone)
        columns = "run, began, ended, checks, found, healed, unknown, freed, clock, gone"
        number = journal.write(
            f"insert into pass ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        ).lastrowid
        for each in kept:
            _write_check(journal, number, each)
            for action in each.deeds:
                _count_heal(journal, action.healer, action.status)
        for name in left_out:
            nothing = (number, name, "", None, None, 0, "", LEFT_OUT, "", "", "", None)
            journal.write(f"insert into measurement ({_COLUMNS}) values ({_VALUES})", nothing)
        assert number is not None  # an insert has one
        for write in also:
            write(journal, number, now)
        prune(journal, rules, now)
        database.execute("commit")
    except BaseException:
        if database.in_transaction:
            database.execute("rollback")
        raise
    return number


def _helped(check: CheckResult) -> bool:
    return any(action.status.value == "success" for action in check.actions)


def keep_notes(journal: Journal, number: int, notes: str) -> None:
    """Keep the notes of a healthy run, a JSON list of texts. Raises sqlite3.Error."""
    journal.write("update pass set notes = ? where id = ?", (notes, number))


def _write_check(journal: Journal, number: int | None, each: CheckResult) -> None:
    outcome = "unknown" if each.error else "waived" if each.waived else "healthy"
    if each.issue and not each.error:
        outcome = "healed" if each.healed else "issue"
    severity = each.issue.severity.label if each.issue else ""
    value, description = (
        (each.measured["value"], each.measured["description"])
        if each.measured
        else (None, each.error)
    )
    if each.issue:
        value, description = each.issue.metric_value, each.issue.description
    deeds = each.deeds
    after = deeds[-1].value_after if deeds else None
    if deeds and not each.issue:  # measured again after an early repair
        value = deeds[0].issue.metric_value
    row = (
        number,
        each.name,
        each.target,
        value,
        after,
        each.limit.threshold,
        each.limit.unit,
        outcome,
        severity,
        display(description),
        display("; ".join(map(_deed, deeds))),
        each.limit.critical_from,
    )
    journal.write(f"insert into measurement ({_COLUMNS}) values ({_VALUES})", row)


def _deed(action: ActionResult) -> str:
    """What a healer came to, and what held it back."""
    early = ", early" if action.early else ""
    held = f" ({action.brake})" if action.brake else ""
    return f"{action.healer}: {action.status}{early}{held}"


def _count_heal(journal: Journal, healer: str, result: str) -> None:
    query = (
        "insert into heal_total values (?, ?, 1) on conflict (healer, result) do "
        "update set count = count + 1"
    )
    journal.write(query, (healer, result))


def heal_totals(journal: Journal) -> dict[tuple[str, str], int]:
    """How often each healer came to each result; nothing from a journal older than that count."""
    if journal.version < 4:
        return {}
    rows = journal.database.execute("select healer, result, count from heal_total")
    return {(healer, result): count for healer, result, count in rows}


def prune(journal: Journal, rules: config.HistorySettings, now: Moment) -> None:
    """Keep so many days and so many runs, by both clocks; SQLite uses the space again."""
    days, steps = rules.days * DAY, max(rules.days, 1) * DAY
    old_runs = journal.write(
        f"delete from pass where {_OLD.format('ended')}",
        (now.wall - days, now.wall, now.seen - days),
    )
    more = journal.write(
        "delete from pass where id <= (select max(id) from pass) - ?", (rules.passes,)
    )
    if old_runs.rowcount > 0 or more.rowcount > 0:
        # alarms of the time before: their count is of what history has
        oldest = "(select clock from pass order by id limit 1)"
        journal.write(f"delete from alarm where clock < coalesce({oldest}, 9e99)", ())
    journal.write(
        "delete from measurement where pass < coalesce((select min(id) from pass), 0)", ()
    )
    journal.write("delete from fleet_run where pass not in (select id from pass)", ())
    gone = journal.write("delete from report where pass not in (select id from pass)", ())
    if gone.rowcount > 0:
        journal.write(f"delete from report_base where {UNUSED}", ())
    old = f"finished is not null and status not in ('rolled back') and {_OLD.format('intended')}"
    journal.write(f"delete from step where {old}", (now.wall - steps, now.wall, now.seen - steps))


def passes(journal: Journal, since: float, limit: int) -> list[HistoryRow]:
    """The last runs, the newest first; `left_out` is how many checks were not to run."""
    columns, undone = _columns(journal), "step.run = pass.run and status = 'rolled back'"
    part = "measurement.pass = pass.id and outcome = ?"
    query = (
        f"select {columns}, (select count(*) from step where {undone}), "
        f"(select count(*) from measurement where {part}) from pass "
        "where ended >= ? order by id desc limit ?"
    )
    found = journal.database.execute(query, (LEFT_OUT, since, limit)).fetchall()
    return named(f"{_PASS}, rolled_back, left_out", found)


def _columns(journal: Journal) -> str:
    """Those of `_PASS`, also of a journal that does not have them all."""
    return _PASS if journal.version >= 8 else _PASS.replace("gone, killed", "0, 0")


def course(journal: Journal, issue: str, since: float, limit: int) -> list[HistoryRow]:
    """What one check measured in the last runs, the newest first."""
    columns = (
        "run, ended, target, value, after, threshold, unit, outcome, severity, description, actions"
    )
    query = (
        f"select {columns} from measurement join pass on pass.id = measurement.pass "
        "where name = ? and ended >= ? and outcome != ? "
        "order by measurement.rowid desc limit ?"
    )
    values = (issue, since, LEFT_OUT, limit)
    return named(columns, journal.database.execute(query, values).fetchall())


def outcomes(journal: Journal, issue: str, target: str, limit: int) -> list[str]:
    """How the last checks went (``issue``, ``healed``, ``healthy``), the oldest first; what is
    unknown says nothing.
    """
    query = (
        "select outcome from measurement where name = ? and target = ? "
        "and outcome in ('issue', 'healed', 'healthy') "
        "order by rowid desc limit ?"
    )
    rows = journal.database.execute(query, (issue, target, limit)).fetchall()
    return [outcome for (outcome,) in reversed(rows)]


def names(journal: Journal) -> list[str]:
    """Every check that was ever measured."""
    return [
        name
        for (name,) in journal.database.execute(
            "select distinct name from measurement where outcome != ? order by name", (LEFT_OUT,)
        )
    ]


def last(journal: Journal) -> tuple[HistoryRow | None, list[HistoryRow]]:
    """The last run, and how every check stood when it was measured last: what that run left out
    keeps its reading of an earlier one.
    """
    found = passes(journal, 0, 1)
    if not found:
        return None, []
    latest = found[0]["id"]
    rows = measured(journal, latest)
    for name, number in _earlier(journal, latest) if found[0]["left_out"] else ():
        rows += [row for row in measured(journal, number) if row["name"] == name]
    return found[0], rows


def find(journal: Journal, where: str, *values: object) -> list[HistoryRow]:
    """Runs that a condition picks; none in a journal that is older than history."""
    if journal.version < 3:
        return []
    notes = "notes" if journal.version >= 8 else "'[]'"
    rows = journal.all(f"select {_columns(journal)}, {notes} from pass where {where}", *values)
    return named(f"{_PASS}, notes", rows)


def runs_like(journal: Journal, beginning: str) -> list[str]:
    """The names of runs that begin so, the newest first."""
    rows = journal.all(
        "select run from pass where substr(run, 1, ?) = ? group by run order by max(id) desc",
        len(beginning),
        beginning,
    )
    return [run for (run,) in rows]


def undone_of(journal: Journal, run: str) -> tuple[int, float] | None:
    """How many steps of a run were rolled back, and when the last one was; None where none was."""
    row = journal.one(
        "select count(*), max(finished) from step where status='rolled back' and run=?", run
    )
    return (row[0], row[1]) if row and row[0] else None


def measured(journal: Journal, number: int) -> list[HistoryRow]:
    """What the run of that number measured."""
    columns = "name, target, value, after, threshold, unit, outcome, severity, description, actions"
    critical = "critical" if journal.version >= 8 else "null"
    rows = journal.all(
        f"select {columns}, {critical} from measurement where pass = ? and outcome != ? "
        "order by rowid",
        number,
        LEFT_OUT,
    )
    return named(f"{columns}, critical", rows)


def _earlier(journal: Journal, latest: int) -> list[tuple[str, int]]:
    """What a run left out, and the number of the last run that measured it."""
    rows = journal.database.execute(
        "select name, (select max(pass) from measurement as before where before.name = "
        "measurement.name and before.outcome != ?) from measurement where pass = ? and outcome = ?",
        (LEFT_OUT, latest, LEFT_OUT),
    )
    return [(name, number) for name, number in rows if number is not None]


def oldest_reading(journal: Journal, latest: HistoryRow) -> HistoryRow:
    """The run that the oldest of what `last` gives was measured in: what is known is as old."""
    numbers = [number for _, number in _earlier(journal, latest["id"])]
    rows = find(journal, "id = ?", min(numbers)) if numbers else []
    return rows[0] if rows else latest


def left_out(journal: Journal, number: int) -> list[str]:
    """The checks that a run was not to run."""
    query = "select name from measurement where pass = ? and outcome = ? order by rowid"
    return [name for (name,) in journal.database.execute(query, (number, LEFT_OUT))]


def never_measured(journal: Journal, number: int) -> list[str]:
    """Those of them that no other run has measured either."""
    known = names(journal)
    return [name for name in left_out(journal, number) if name not in known]


def undone_since(journal: Journal, latest: HistoryRow) -> tuple[int, float] | None:
    """How many steps were rolled back by hand since a run, its own among them, and when the last
    one was; None where none was.
    """
    later = "clock_end > (select clock from pass where id=?)" if journal.version >= 6 else "id < ?"
    row = journal.one(
        "select count(*), max(finished) from step "
        f"where status='rolled back' and (run=? or {later})",
        latest["run"],
        latest["id"] if journal.version >= 6 else 0,
    )
    return (row[0], row[1]) if row and row[0] else None


def named(columns: str, rows: Sequence[tuple[Any, ...]]) -> list[HistoryRow]:
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
