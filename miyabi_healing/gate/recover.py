"""Taking back what was left half done: by a step that failed, and by a run that was ended."""

from __future__ import annotations

from dataclasses import replace

from miyabi_healing.gate import endings, undo
from miyabi_healing.gate.handlers.table import HANDLERS, PURGE
from miyabi_healing.gate.primitives.context import Context, error_text
from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.journal_rows import Row

BY_HAND = "rolled back by hand"


def take_back(outcomes: list[Outcome], context: Context, journal: Journal) -> None:
    """Undo what was applied before something failed, the last first, as far as it can be undone."""
    for index in reversed(range(len(outcomes))):
        outcome = outcomes[index]
        if outcome.status != StepStatus.APPLIED or not outcome.undo:
            continue
        why = "a later step failed"
        problem, told = restore_step(
            context.run_id, outcome.number, context, journal, StepStatus.UNDONE, why
        )
        if problem is None:
            outcomes[index] = replace(
                outcome,
                status=StepStatus.UNDONE,
                freed=0,
                message=f"{why}; {told}" if told else why,
            )
        else:
            outcomes[index] = replace(
                outcome, message=f"could not be undone when a later step failed: {problem}"
            )


def restore_step(
    run_id: str, number: int, context: Context, journal: Journal, status: str, reason: str
) -> tuple[str | None, str]:
    """Undo one step and record it as `status`; returns why it could not be done, None where it was,
    and what there is to say.

    Raises sqlite3.Error.
    """
    found = undo.entries(context.state, run_id, number)
    there = replace(context, run_id=run_id, step=number)
    if objection := undo.undo_objection(found, there):
        return objection, ""
    row = journal.step(number)
    # a journal that was begun anew numbers from 1 again
    known = row if row and row.run == run_id else None
    if known:
        journal.mark(number, "undoing", reason)
    try:
        told = undo.restore(found, there)
    except Exception as error:
        if known:
            failure = f"{known.message}; undoing it failed: {error_text(error)}".lstrip("; ")
            journal.mark(number, known.status or StepStatus.FAILED, failure)
        return error_text(error), ""
    if known:
        journal.mark(number, status, reason)
    return None, told


def recover(context: Context, journal: Journal) -> list[tuple[Row, str]]:
    """Take back, or finish, what a crash left half done; returns each such step with what became of
    it. Raises sqlite3.Error.
    """
    return [(row, _recover_one(row, context, journal)) for row in reversed(journal.unfinished())]


def _recover_one(row: Row, context: Context, journal: Journal) -> str:
    there = replace(context, run_id=row.run, step=row.id)
    status = "interrupted"
    try:
        if row.kind in HANDLERS:
            found = undo.entries(context.state, row.run, row.id)
            if not found and (away := undo.away(context.state, row.target)):
                return (
                    f"what it set aside lies in {away}, which is not there now; a later run "
                    "looks again"
                )
            elsewhere = undo.restore(found, there)
            result = (
                PURGE.resume(row.target, there)
                if row.kind == "purge"
                else endings.crash_not_repaired(row.kind)
            )
            if found or row.status == "undoing":
                status, result = (
                    "rolled back" if row.message == BY_HAND else StepStatus.UNDONE,
                    "taken back",
                )
                result += f"; {elsewhere}" if elsewhere else ""
        else:
            # what it has in quarantine may be a part of what it did, and stays
            result = endings.crash_not_repaired(row.kind)
    except Exception as error:
        result = f"it stays as it is: {error_text(error)}"
    journal.mark(row.id, status, f"the program was ended in the middle of it; {result}")
    return result
