"""The durable record of every step: what was intended, written before it is done; what came of it, after.

`miyabi_healing.safekeeping` opens it, whatever state its folder is in.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.files import display

if TYPE_CHECKING:
    from miyabi_healing.issue import Issue
    from miyabi_healing.plan import Outcome, Step

MIGRATIONS = (
    # 1: as the first version made it, which did not number its schema
    """
    create table if not exists step (
        id integer primary key, run text not null, healer text not null, kind text not null, target text not null,
        reason text not null, step text not null, intended real not null, finished real, status text, message text,
        freed integer, undo text
    ) strict;
    """,
    # 2: what a step was for, pauses, and when an issue was last seen to be gone
    """
    alter table step add column issue text not null default '';
    alter table step add column issue_target text not null default '';
    alter table step add column bytes integer not null default 0;
    alter table step add column duration real;
    create index step_by_run on step (run);
    create index step_by_target on step (target);
    create table pause (
        id integer primary key, begun real not null, until real not null, reason text not null, person text not null, ended real
    ) strict;
    create table healthy (issue text, target text, seen real not null, primary key (issue, target)) strict;
    """,
    # 3: what every pass measured, found and did
    """
    create table pass (
        id integer primary key, run text not null, began real not null, ended real not null, checks integer not null,
        found integer not null, healed integer not null, unknown integer not null, freed integer not null
    ) strict;
    create index pass_by_end on pass (ended);
    create table measurement (
        pass integer not null, name text not null, target text not null, value real, after real, threshold real not null,
        unit text not null, outcome text not null, severity text not null, description text not null, actions text not null
    ) strict;
    create index measurement_by_pass on measurement (pass);
    create index measurement_by_name on measurement (name, pass);
    """,
    # 4: how often every healer came to every result, which outlives what history lets go of
    """
    create table heal_total (
        healer text not null, result text not null, count integer not null, primary key (healer, result)
    ) strict;
    """,
    # 5: what somebody was told of, and what is still to be sent
    """
    create table alert_state (
        name text not null, target text not null, state text not null, severity text not null, brake text not null,
        since real not null, told real not null, course text not null, primary key (name, target)
    ) strict;
    create table outbox (
        id integer primary key autoincrement, channel text not null, made real not null, message text not null,
        tries integer not null, next real not null
    ) strict;
    """,
)
NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
TRIED = ("applied", "failed", "interrupted", "undone")  # what counts as an attempt
COLUMNS = "id, run, healer, issue, issue_target, kind, target, intended, finished, status, message, freed, undo"


class TooNew(Exception):
    """The journal was made by a newer version of this program; the message says so."""


@dataclass(frozen=True)
class Row:
    """One step as the journal has it. `finished` and `status` are None while it is in hand, and after a crash."""

    id: int
    run: str
    healer: str
    issue: str
    issue_target: str
    kind: str
    target: str
    intended: float
    finished: float | None
    status: str | None
    message: str
    freed: int
    undo: dict[str, Any]
    damage: str = ""  # why `undo` cannot be relied on


def row_of(values: tuple[Any, ...]) -> Row:
    named = dict(zip(COLUMNS.split(", "), values, strict=True))
    undo, damage = note_of(named["undo"])
    empty = {"message": named["message"] or "", "freed": named["freed"] or 0, "undo": undo, "damage": damage}
    return Row(**{**named, **empty})


def note_of(text: str | None) -> tuple[dict[str, Any], str]:
    """What a step noted down for undoing it, and what is wrong with that: one damaged note must not stop anything else."""
    try:
        note = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}, "its undo note in the journal is no JSON"
    lists = [note.get("entries", []), note.get("refs", [])] if isinstance(note, dict) else [None]
    if not all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in lists):
        return {}, "its undo note in the journal is not as it should be"
    return note, ""


def decoded(raw: bytes) -> str:
    """Text of the journal, damaged or not."""
    return raw.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Pause:
    """When healing rests, and why. Times in seconds since the epoch."""

    begun: float
    until: float
    reason: str
    person: str


class Journal:
    """The journal in one file. Every call is on disk when it returns (``synchronous=FULL``). Raises sqlite3.Error."""

    def __init__(self, file: Path, read_only: bool = False) -> None:
        self.file = file
        self.make_room: Callable[[], object] = lambda: None  # what to try when the disk is full
        if read_only:
            self.database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
            self.database.text_factory = decoded
            return
        self.database = sqlite3.connect(file, isolation_level=None, timeout=10)
        self.database.text_factory = decoded
        file.chmod(0o600)
        try:
            self.database.execute("pragma journal_mode=wal")
            self.database.execute("pragma synchronous=full")
            self.migrate()
        except BaseException:
            self.database.close()
            raise

    @property
    def version(self) -> int:
        return int(self.database.execute("pragma user_version").fetchone()[0])

    def migrate(self) -> None:
        """Bring an older journal up to date, one version in one transaction. Raises TooNew."""
        if self.version > len(MIGRATIONS):
            raise TooNew(f"{display(self.file)} was made by a newer version of this program")
        for number in range(self.version + 1, len(MIGRATIONS) + 1):
            script = f"begin immediate; {MIGRATIONS[number - 1]} pragma user_version={number}; commit;"
            try:
                self.database.executescript(script)
            except BaseException:
                if self.database.in_transaction:
                    self.database.rollback()
                raise

    def write(self, query: str, values: Sequence[object]) -> sqlite3.Cursor:
        try:
            return self.database.execute(query, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in NO_SPACE:
                raise
            self.make_room()
            return self.database.execute(query, values)

    def intend(self, run: str, healer: str, issue: Issue | None, step: Step) -> int:
        """Record what is about to be done; returns the step's number."""
        row = (
            run, healer, issue.name if issue else "", issue.target if issue else "", step.kind, display(step.target),
            display(step.reason), display(repr(step)), step.bytes, time.time(),
        )  # fmt: skip
        columns = "run, healer, issue, issue_target, kind, target, reason, step, bytes, intended"
        cursor = self.write(f"insert into step ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        assert cursor.lastrowid is not None  # an insert has one
        return cursor.lastrowid

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record what came of it."""
        row = (
            time.time(),
            outcome.status,
            display(outcome.message),
            outcome.freed,
            json.dumps(outcome.undo),
            outcome.duration,
            number,
        )
        sets = "finished=?, status=?, message=?, freed=?, undo=?, duration=?"
        self.write(f"update step set {sets} where id=?", row)

    def mark(self, number: int, status: str, message: str = "") -> None:
        """Record that a step is being undone, or what became of it later on."""
        row = (status, display(message), time.time(), number)
        self.write("update step set status=?, message=?, finished=? where id=?", row)

    def rows(self, where: str, *values: object) -> list[Row]:
        """Steps, the first first."""
        old = self.version < 2  # read-only, and from before a step was known to be for an issue
        columns = COLUMNS.replace("issue, issue_target", "'', ''") if old else COLUMNS
        try:
            found = self.database.execute(f"select {columns} from step where {where} order by id", values).fetchall()
        except sqlite3.OperationalError:
            if not old:
                raise
            return []
        return [row_of(each) for each in found]

    def unfinished(self) -> list[Row]:
        """Steps that a crash left in hand."""
        return self.rows("finished is null or status='undoing'")

    def steps(self, run: str) -> list[Row]:
        return self.rows("run=?", run)

    def step(self, number: int) -> Row | None:
        return next(iter(self.rows("id=?", number)), None)

    def runs(self) -> list[str]:
        """Every run that carried something out, the last first."""
        applied = self.rows("kind != 'purge' and status in ('applied', 'failed', 'interrupted', 'undone', 'rolled back')")
        return list(dict.fromkeys(row.run for row in reversed(applied)))

    def attempts(self, healer: str, issue: Issue, since: float, now: float) -> list[float]:
        """When runs of a healer began to change something for an issue, since it was last seen healthy; the last first.

        What lies in the future, because the clock was set back, does not count.
        """
        return self.attempts_at(healer, issue.name, issue.target, since, now)

    def attempts_at(self, healer: str, issue: str, target: str, since: float, now: float) -> list[float]:
        """The same, for an issue and a target by name."""
        seen = self.one("select seen from healthy where issue=? and target=?", issue, target)
        earliest = max(since, seen[0] if seen and seen[0] <= now else 0)
        marks = ", ".join("?" * len(TRIED))
        rows = self.rows(
            f"healer=? and issue=? and issue_target=? and intended>? and intended<=? and status in ({marks})",
            healer, issue, target, earliest, now, *TRIED,
        )  # fmt: skip
        begun: dict[str, float] = {}
        for row in rows:
            begun.setdefault(row.run, row.intended)
        return sorted(begun.values(), reverse=True)

    def last_attempt(self, healer: str, issue: Issue, now: float) -> float | None:
        """When a healer last changed something for an issue, whatever came of it."""
        marks = ", ".join("?" * len(TRIED))
        where = f"healer=? and issue=? and issue_target=? and intended<=? and status in ({marks})"
        found = self.one(f"select max(intended) from step where {where}", healer, issue.name, issue.target, now, *TRIED)
        return float(found[0]) if found and found[0] is not None else None

    def rolled_back(self, kind: str, target: str, since: float) -> Row | None:
        """The step on a target that somebody had rolled back last."""
        found = self.rows("kind=? and target=? and status='rolled back' and finished>?", kind, display(target), since)
        return found[-1] if found else None

    def is_known(self, issue: str, target: str) -> bool:
        """Whether something was ever done about an issue."""
        return self.one("select 1 from step where issue=? and issue_target=? limit 1", issue, target) is not None

    def healthy(self, issue: str, target: str) -> None:
        """Record that a check passes: attempts so far are forgiven."""
        row = (issue, target, time.time())
        self.write("insert or replace into healthy values (?, ?, ?)", row)

    def pause(self, until: float, reason: str, person: str) -> None:
        self.write("insert into pause (begun, until, reason, person) values (?, ?, ?, ?)", (time.time(), until, reason, person))

    def resume(self) -> int:
        """End every pause; returns how many there were."""
        now = time.time()
        return self.write("update pause set ended=? where ended is null and until>?", (now, now)).rowcount

    def paused(self, now: float) -> Pause | None:
        """The pause that holds now; of several, the one that ends last."""
        query = "select begun, until, reason, person from pause where ended is null and until>? order by until desc limit 1"
        found = self.one(query, now)
        return Pause(*found) if found else None

    def one(self, query: str, *values: object) -> Any:
        """The first row of an answer; None without one, and for a table that an older journal does not have."""
        try:
            return self.database.execute(query, values).fetchone()
        except sqlite3.OperationalError:
            if self.version >= len(MIGRATIONS):
                raise
            return None

    def close(self) -> None:
        self.database.close()
