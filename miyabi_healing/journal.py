"""The durable record of every step: what was intended, written before it is done; what came of it, after."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from miyabi_healing.files import display
from miyabi_healing.plan import Outcome, Step

SCHEMA = """
create table if not exists step (
    id integer primary key,
    run text not null,
    healer text not null,
    kind text not null,
    target text not null,
    reason text not null,
    step text not null,
    intended real not null,
    finished real,
    status text,
    message text,
    freed integer,
    undo text
) strict;
"""


class Journal:
    """The journal of one state folder. Every call is on disk when it returns (``synchronous=FULL``)."""

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = sqlite3.connect(state / "journal.sqlite3", isolation_level=None)
        (state / "journal.sqlite3").chmod(0o600)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.executescript(SCHEMA)

    def intend(self, run: str, healer: str, step: Step) -> int:
        """Record what is about to be done; returns the entry's number."""
        row = (run, healer, step.kind, step.target, step.reason, display(repr(step)), time.time())
        columns = "run, healer, kind, target, reason, step, intended"
        cursor = self._database.execute(f"insert into step ({columns}) values (?, ?, ?, ?, ?, ?, ?)", row)
        assert cursor.lastrowid is not None  # an insert has one
        return cursor.lastrowid

    def finish(self, entry: int, outcome: Outcome) -> None:
        """Record what came of it."""
        row = (time.time(), outcome.status, outcome.message, outcome.freed, json.dumps(outcome.undo), entry)
        self._database.execute("update step set finished=?, status=?, message=?, freed=?, undo=? where id=?", row)

    def close(self) -> None:
        self._database.close()
