"""The durable record of every step: what was intended, written before it is done; what came of it,
after.

`miyabi_healing.state.store` opens it, whatever state its folder is in.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.state import run_clock
from miyabi_healing.state.journal_rows import _COLUMNS, Pause, Row, _decoded, _row_of
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.actions import Outcome
    from miyabi_healing.model.issue import Issue
    from miyabi_healing.model.steps import Step

VERSION = 11  # of the schema: how many migrations `schema` has
_CLOCK = 6  # the version from which on there is a run clock
_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_TRIED = ("applied", "failed", "interrupted", "undone")  # what counts as an attempt


class TooNew(Exception):
    """The journal was made by a newer version of this program; the message says so."""


class Journal:
    """The journal in one file. Every call is on disk when it returns (``synchronous=FULL``). Raises
    sqlite3.Error.
    """

    def __init__(self, file: Path, read_only: bool = False) -> None:
        self.file = file
        self.make_room: Callable[[], object] = lambda: None  # what to try when the disk is full
        self.clock: run_clock.State | None = None  # as it was stored last
        if read_only:
            self.database = sqlite3.connect(
                f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
            )
            self.database.text_factory = _decoded
            return
        self.database = sqlite3.connect(file, isolation_level=None, timeout=10)
        self.database.text_factory = _decoded
        file.chmod(0o600)
        try:
            self.database.execute("pragma journal_mode=wal")
            self.database.execute("pragma synchronous=full")
            self._migrate()
        except BaseException:
            self.database.close()
            raise

    @property
    def version(self) -> int:
        return int(self.database.execute("pragma user_version").fetchone()[0])

    def _migrate(self) -> None:
        """Bring an older journal up to date. Raises TooNew."""
        if (before := self.version) > VERSION:
            raise TooNew(f"{display(self.file)} was made by a newer version of this program")
        if before < VERSION:
            from miyabi_healing.state import schema  # a journal is seldom new, or older

            # the run clock's name is on record before anything else is
            then = self.keep_time if before < _CLOCK else lambda: None
            schema.migrate(self.database, before, then)

    def now(self) -> Moment:
        """The moment by all clocks. Raises sqlite3.Error."""
        if self.version < _CLOCK:  # read-only, and older than the run clock
            return run_clock.unknown_moment()
        return run_clock.moment_of(self.clock_at(run_clock.read_clocks()))

    def clock_at(self, now: run_clock.Reading) -> run_clock.State:
        self.clock = self.clock or run_clock.load_clock(self.database) or run_clock.begin_clock(now)
        return run_clock.advance(self.clock, now)

    def keep_time(self) -> Moment:
        """Store the run clock, in the transaction in hand where there is one, and end the pauses
        that are over.
        """
        self.clock = state = self.clock_at(run_clock.read_clocks())
        self.write(
            (
                f"insert or replace into run_clock (only, {run_clock.COLUMNS}) "
                "values (1, ?, ?, ?, ?, ?, ?, ?)"
            ),
            state,
        )
        now = run_clock.moment_of(state)
        for pause in self.pauses():
            if pause.is_over(now):  # or it would begin again when the wall clock is set back
                self.write("update pause set ended=? where id=?", (now.wall, pause.number))
        return now

    def write(self, query: str, values: Sequence[object]) -> sqlite3.Cursor:
        try:
            return self.database.execute(query, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_SPACE:
                raise
            self.make_room()
            return self.database.execute(query, values)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Records that reach the disk together, or not at all. Raises sqlite3.Error."""
        self.database.execute("begin immediate")
        try:
            yield
            self.database.execute("commit")
        finally:
            if self.database.in_transaction:
                self.database.execute("rollback")

    def intend(self, run: str, healer: str, issue: Issue | None, step: Step) -> int:
        """Record what is about to be done; returns the step's number."""
        now = self.now()
        row = (
            run,
            healer,
            issue.name if issue else "",
            issue.target if issue else "",
            step.kind,
            display(step.target),
            display(step.reason),
            display(repr(step)),
            step.bytes,
            now.wall,
            now.seen,
        )
        columns = (
            "run, healer, issue, issue_target, kind, target, reason, step, bytes, intended, clock"
        )
        cursor = self.write(
            f"insert into step ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        )
        assert cursor.lastrowid is not None  # an insert has one
        return cursor.lastrowid

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record what came of it."""
        now = self.now()
        row = (
            now.wall,
            now.seen,
            outcome.status,
            display(outcome.message),
            outcome.freed,
            json.dumps(outcome.undo),
            outcome.duration,
            number,
        )
        sets = "finished=?, clock_end=?, status=?, message=?, freed=?, undo=?, duration=?"
        self.write(f"update step set {sets} where id=?", row)

    def mark(self, number: int, status: str, message: str = "") -> None:
        """Record that a step is being undone, or what became of it later on."""
        now = self.now()
        row = (status, display(message), now.wall, now.seen, number)
        self.write("update step set status=?, message=?, finished=?, clock_end=? where id=?", row)

    def rows(self, where: str, *values: object) -> list[Row]:
        """Steps, the first first."""
        old = self.version < 2  # read-only, and from before a step was known to be for an issue
        columns = _COLUMNS.replace("issue, issue_target", "'', ''") if old else _COLUMNS
        try:
            found = self.database.execute(
                f"select {columns} from step where {where} order by id", values
            ).fetchall()
        except sqlite3.OperationalError:
            if not old:
                raise
            return []
        return [_row_of(each) for each in found]

    def unfinished(self) -> list[Row]:
        """Steps that a crash left in hand."""
        return self.rows("finished is null or status='undoing'")

    def steps(self, run: str) -> list[Row]:
        return self.rows("run=?", run)

    def step(self, number: int) -> Row | None:
        return next(iter(self.rows("id=?", number)), None)

    def runs(self) -> list[str]:
        """Every run that carried something out, the last first."""
        applied = self.rows(
            "kind != 'purge' and status in ('applied', 'failed', "
            "'interrupted', 'undone', 'rolled back')"
        )
        return list(dict.fromkeys(row.run for row in reversed(applied)))

    def attempts(
        self, healer: str, issue: str, target: str, now: Moment
    ) -> list[tuple[float, float]]:
        """How many seconds ago runs of a healer began, and ended, to change something for an issue;
        the last first.

        Only those since the check was last seen to be healthy, be it that it was healed.
        """
        old = self.version < _CLOCK
        measured = "seen, null" if old else "seen, clock"
        wall, clock = self.one(
            f"select {measured} from healthy where issue=? and target=?", issue, target
        ) or (None, None)
        marks = ", ".join("?" * len(_TRIED))
        where = f"healer=? and issue=? and issue_target=? and status in ({marks})"
        began: dict[str, float] = {}
        ended: dict[str, float] = {}
        query = (
            f"select run, intended, {'null' if old else 'clock'} from step "
            f"where {where} order by id"
        )
        for run, intended, begun in self.all(query, healer, issue, target, *_TRIED):
            forgiven = wall is not None and (
                intended <= wall <= now.wall if old else begun <= clock
            )
            # the clock was set back: older versions knew no better
            if forgiven or (old and intended > now.wall):
                continue
            ago = now.wall - intended if old else max(now.seen - begun, 0)
            began.setdefault(run, ago)
            ended[run] = ago
        return sorted((began[run], ended[run]) for run in began)

    def rolled_back(
        self, kind: str, target: str, seconds: float, now: Moment
    ) -> tuple[int, float] | None:
        """The step on a target that was rolled back by hand so lately, and when at the earliest it
        is not.
        """
        columns = "id, finished, null" if self.version < _CLOCK else "id, finished, clock_end"
        query = (
            f"select {columns} from step where kind=? and target=? and "
            "status='rolled back' and finished is not null"
        )
        found = [
            (number, now.end_of(seconds, wall, clock)[0])
            for number, wall, clock in self.all(query, kind, display(target))
            if not now.has_passed(seconds, wall, clock)
        ]
        return max(found, key=lambda each: each[1], default=None)

    def is_known(self, issue: str, target: str) -> bool:
        """Whether something was ever done about an issue."""
        return (
            self.one("select 1 from step where issue=? and issue_target=? limit 1", issue, target)
            is not None
        )

    def healthy(self, issue: str, target: str) -> None:
        """Record that a check passes: attempts so far are forgiven."""
        now = self.now()
        row = (issue, target, now.wall, now.seen)
        self.write(
            "insert or replace into healthy (issue, target, seen, clock) values (?, ?, ?, ?)", row
        )

    def pause(self, until: float, reason: str, person: str) -> None:
        now = self.now()
        columns, values = (
            "begun, until, reason, person, clock",
            (now.wall, until, reason, person, now.seen),
        )
        self.write(f"insert into pause ({columns}) values (?, ?, ?, ?, ?)", values)

    def resume(self) -> int:
        """End every pause; returns how many there were."""
        now = self.now()
        holding = [each for each in self.pauses() if not each.is_over(now)]
        self.write("update pause set ended=? where ended is null", (now.wall,))
        return len(holding)

    def pauses(self) -> Iterator[Pause]:
        """Those that nobody has ended, and no run has seen to be over."""
        columns = "begun, until, reason, person, " + (
            "null, id" if self.version < _CLOCK else "clock, id"
        )
        yield from (
            Pause(*row) for row in self.all(f"select {columns} from pause where ended is null")
        )

    def paused(self, now: Moment) -> Pause | None:
        """The pause that holds now; of several, the one that ends last."""
        return max(
            (each for each in self.pauses() if not each.is_over(now)),
            key=lambda each: each.end(now),
            default=None,
        )

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of an answer; none for a table that an older journal does not have."""
        try:
            return self.database.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            if self.version >= VERSION:
                raise
            return []

    def one(self, query: str, *values: object) -> Any:
        """The first row of an answer; None without one, and for a table that an older journal does
        not have.
        """
        try:
            return self.database.execute(query, values).fetchone()
        except sqlite3.OperationalError:
            if self.version >= VERSION:
                raise
            return None

    def close(self) -> None:
        self.database.close()
