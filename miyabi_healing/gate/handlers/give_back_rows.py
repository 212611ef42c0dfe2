"""Giving claims back in a table: the user's own statement, which compares and sets, once for each,
in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from miyabi_healing.gate.handlers.give_back import anothers_way, result, settings_of, still_gone
from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.coordinators import claims as reading
from miyabi_healing.host.coordinators.health import claim_name
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.model.steps import GiveBackRows

_OTHERS = "it is another's now, or done"


class GiveBackRowsHandler(StepHandler[GiveBackRows]):
    """Setting rows of a table back to pending whose owners are gone."""

    step_type = GiveBackRows
    after_crash = "whether the transaction was committed is not known"
    next_run = after_crash
    undo = Irreversible("what another's statement did is its own")

    def target_use(self, step: GiveBackRows) -> TargetUse:
        return TargetUse()

    def recheck(self, step: GiveBackRows, context: Context) -> str | None:
        try:
            settings = settings_of(step.coordinator, _has_table, context)
            if settings.sqlite and (reason := anothers_way(settings.sqlite)):
                return reason
        except Refused as error:
            return str(error)
        gone, kept = still_gone(step.claims, settings, context)
        return None if gone else kept[0] if kept else "there are no claims"

    def apply(self, step: GiveBackRows, context: Context) -> StepResult:
        settings = settings_of(step.coordinator, _has_table, context)
        wanted, kept = still_gone(step.claims, settings, context)
        work = _in_sqlite if settings.sqlite else _in_postgres
        given = work(settings, wanted, kept)
        if not given:
            raise Refused(kept[0] if kept else "there are no claims")
        return result(given, kept)

    def cost(self, step: GiveBackRows, deadline: float) -> Cost:
        return Cost(files=1)


def _has_table(settings: Coordinator) -> bool:
    return bool(settings.give_back)


def _values(claim: Claim) -> dict[str, object]:
    return {"id": claim.id, "status": claim.status, "owner": claim.owner}


def _counted(claim: Claim, rows: int, kept: list[str]) -> int:
    """How many rows one statement changed. Raises Refused for more than one: it compares too
    little, and nothing of the transaction may stay.
    """
    if rows > 1:
        raise Refused(f"give_back changed {rows} rows for {claim_name(claim)}: nothing was done")
    if rows < 1:
        kept.append(f"{claim_name(claim)}: {_OTHERS}")
    return max(rows, 0)


def _in_sqlite(settings: Coordinator, claims: Sequence[Claim], kept: list[str]) -> int:
    """Raises OSError, sqlite3.Error."""
    path = Path(settings.sqlite).expanduser()
    with closing(reading.sqlite_at(path, write=True)) as database:
        database.isolation_level = None
        database.execute("begin immediate")
        given = 0
        for each in claims:
            cursor = database.execute(settings.give_back, _values(each))
            cursor.fetchall()  # with RETURNING, rows are counted when all have been read
            given += _counted(each, cursor.rowcount, kept)
        database.execute("commit")
    return given


def _in_postgres(settings: Coordinator, claims: Sequence[Claim], kept: list[str]) -> int:
    """Raises psycopg.Error. What is not committed is undone when it is closed."""
    with closing(reading.postgres_at(settings)) as connection:
        given = sum(
            _counted(each, connection.execute(settings.give_back, _values(each)).rowcount, kept)
            for each in claims
        )
        connection.commit()
    return given
