"""Undoing what earlier runs did: a whole run or one step of it, refused with a reason where the
world has moved on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_healing.gate import endings, recover, undo
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.state import quarantine
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.journal_rows import Row
from miyabi_healing.support.formatting import display


@dataclass(frozen=True)
class Undone:
    """What became of one step.

    `status` is one of ``undone``, ``planned`` (dry run), ``refused``, ``impossible`` (it has no way
    back), ``nothing`` (to undo).
    """

    row: Row
    status: str
    message: str


class Unknown(Exception):
    """There is no such run or step; the message says what there is."""


def choose(
    state: Path, journal: Journal | None, run: str | None, steps: Sequence[int] = ()
) -> list[Row]:
    """The steps of a run, the last first: the run named, or the last one that did something; or
    the steps with these numbers. Raises Unknown.
    """
    held = _from_quarantine(state)
    if steps:
        return [_step(number, journal, held, run) for number in sorted(set(steps), reverse=True)]
    runs = list(
        dict.fromkeys([*(journal.runs() if journal else []), *(row.run for row in reversed(held))])
    )
    if not runs:
        raise Unknown("no run has changed anything yet")
    if run is not None and run not in runs:
        raise Unknown(f"there is no run {run!r}; the last ones: {', '.join(runs[:5])}")
    chosen = run or runs[0]
    rows = {row.id: row for row in held if row.run == chosen}
    rows |= {
        row.id: row
        for row in (journal.steps(chosen) if journal else [])
        if row.status not in ("skipped", None)
    }
    return [rows[number] for number in sorted(rows, reverse=True)]


def _step(number: int, journal: Journal | None, held: Sequence[Row], run: str | None) -> Row:
    for row in [journal.step(number) if journal else None, *held]:
        if row and row.id == number and run in (None, row.run):
            return row
    raise Unknown(f"there is no step {number}{f' in run {run}' if run else ''}")


def _from_quarantine(state: Path) -> list[Row]:
    """The steps that the quarantine itself tells of, the first first: it outlives a journal that
    was damaged.
    """
    found: dict[tuple[str, int], Row] = {}
    for each in quarantine.find_entries(state):
        if each.manifest and not each.manifest.get("purging"):
            target, when = display(each.original), each.time
            row = Row(
                each.step, each.run, "", "", "", each.kind, target, when, when, "applied", "", 0, {}
            )
            found.setdefault((each.run, each.step), row)
    return list(found.values())


def describe_rollback(rows: Sequence[Row], context: Context) -> list[Undone]:
    """What undoing would come to. Changes nothing."""
    return [_look_at(row, context) for row in rows]


def _look_at(row: Row, context: Context) -> Undone:
    if row.status in ("rolled back", "undone"):
        return Undone(row, "nothing", f"{row.status} already")
    found = undo.entries(context.state, row.run, row.id)
    if not found:
        changed = row.status == "applied"
        if changed or endings.is_unknown(row.kind):
            return Undone(row, "impossible", endings.no_way(row.kind))
        return Undone(row, "nothing", row.message)
    if row.damage:
        where = ", ".join(display(entry.folder) for entry in found)
        return Undone(row, "refused", f"{row.damage}; what it set aside lies in {where}")
    taken = row.undo.get("entries", [])
    if len(found) < len(taken):
        return Undone(
            row,
            "refused",
            f"{len(taken) - len(found)} part(s) of it are not in quarantine any more",
        )
    objection = undo.undo_objection(found, replace(context, run_id=row.run, step=row.id))
    if objection:
        return Undone(row, "refused", objection)
    elsewhere = undo.elsewhere(found)
    return Undone(row, "planned", f"can be undone; {elsewhere}" if elsewhere else "can be undone")


def carry_out_rollback(rows: Sequence[Row], context: Context, journal: Journal) -> list[Undone]:
    """Undo steps, each on record before and after. Raises sqlite3.Error."""
    results = []
    for row in rows:
        seen = _look_at(row, context)
        if seen.status == "planned":
            problem, told = recover.restore_step(
                row.run, row.id, context, journal, "rolled back", recover.BY_HAND
            )
            seen = (
                Undone(row, "refused", problem)
                if problem
                else Undone(row, "undone", told or "given back")
            )
        results.append(seen)
    return results
