"""What this host has told a fleet's store, and when it may try again where it could not."""

from __future__ import annotations

from typing import NamedTuple

from miyabi_healing.state.journal import Journal


class Told(NamedTuple):
    """`outcome` is what the last report said that the store took, as a checksum, and `kept` when
    that was; empty and 0 before the first. Since then `failures` tries have failed, `problem` is
    what was said about it, and the next one is to be made not before `not_before`. Times are
    seconds since the epoch.
    """

    outcome: str = ""
    kept: float = 0
    failures: int = 0
    not_before: float = 0
    problem: str = ""


_COLUMNS = ", ".join(Told._fields)


def told(journal: Journal | None) -> Told:
    """What is on record. Raises sqlite3.Error."""
    row = journal.one(f"select {_COLUMNS} from fleet_told") if journal else None
    return Told(*row) if row else Told()


def remember(journal: Journal, what: Told) -> None:
    """Raises sqlite3.Error."""
    journal.write(
        f"insert or replace into fleet_told (only, {_COLUMNS}) values (1, ?, ?, ?, ?, ?)", what
    )
