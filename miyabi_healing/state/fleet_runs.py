"""Which runs of a fleet this host has finished, and the highest token that it was asked with.

Without it, a coordinator that was killed, or stood still, has the same run made twice.
"""

from __future__ import annotations

from collections.abc import Callable

from miyabi_healing.model.fleet import FleetOrder
from miyabi_healing.state import reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Moment

_LEAST_VERSION = 10  # of a journal that knows of fleets


def superseding(journal: Journal, order: FleetOrder) -> int | None:
    """The highest token seen, where the order's is lower; None where it is not. Raises
    sqlite3.Error.
    """
    if order.token is None or journal.version < _LEAST_VERSION:
        return None
    row = journal.one("select highest from fleet_token")
    return row[0] if row and row[0] > order.token else None


def raise_token(journal: Journal, order: FleetOrder) -> None:
    """Remember the order's token, where it is the highest so far. Raises sqlite3.Error."""
    if order.token is not None:
        journal.write(
            "insert into fleet_token values (1, ?) on conflict (only) "
            "do update set highest = max(highest, excluded.highest)",
            (order.token,),
        )


def finished(journal: Journal, label: str) -> dict[str, object] | None:
    """The report of the run of that label; None where this host has finished none, or history has
    let go of it. Raises sqlite3.Error.
    """
    if not label or journal.version < _LEAST_VERSION:
        return None
    row = journal.one("select run from fleet_run where label = ?", label)
    return reports.of_run(journal, row[0]) if row else None


def finishing(order: FleetOrder, run: str) -> Callable[[Journal, int, Moment], object]:
    """What is to be written in the transaction that writes a run down: that its label is done."""

    def write(journal: Journal, number: int, now: Moment) -> None:
        journal.write(
            "insert into fleet_run (label, pass, run, token, finished) values (?, ?, ?, ?, ?) "
            "on conflict (label) do nothing",
            (order.label, number, run, order.token, now.wall),
        )

    return write
