"""What was done, run by run, and the command that takes it back while that can be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from miyabi_healing.report.page import words
from miyabi_healing.report.page.parts import Deed
from miyabi_healing.state import reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.formatting import display

_MOST = 12  # deeds; `history` has the others
# What each healer did in each run. A step is held where what it set aside is in quarantine; `kept`
# counts those that set something aside at all.
_DEEDS = """
    select run, healer, issue, issue_target, min(intended), count(*),
        sum(status = 'rolled back'), max(case status when 'rolled back' then finished end),
        sum(id in (select value from json_each(?))),
        sum(json_valid(undo) and coalesce(json_array_length(undo, '$.entries'), 0) > 0)
    from step where healer != '' and kind != 'purge' and status in ('applied', 'rolled back')
    group by run, healer, issue, issue_target order by max(intended) desc, max(id) desc limit ?
"""
_VALUES = """
    select run, name, target, value, after, unit from measurement join pass on pass.id = pass
    where run in (select value from json_each(?)) and outcome in ('healed', 'issue')
"""


def read_deeds(
    journal: Journal, held: Iterable[QuarantineEntry], program: str, now: float
) -> tuple[Deed, ...]:
    """The last deeds, the newest first. Raises sqlite3.Error."""
    steps = sorted({each.step for each in held if not each.manifest.get("purging")})
    rows = journal.all(_DEEDS, json.dumps(steps), _MOST)
    runs = list(dict.fromkeys(row[0] for row in rows))
    values = {
        (run, name, target): rest
        for run, name, target, *rest in journal.all(_VALUES, json.dumps(runs))
    }
    documents = {run: reports.of_run(journal, run) or {} for run in runs}
    return tuple(
        _deed(row, values.get((row[0], row[2], row[3])), documents[row[0]], program, now)
        for row in rows
    )


def _deed(
    row: Sequence[Any],
    value: Sequence[Any] | None,
    document: Mapping[str, Any],
    program: str,
    now: float,
) -> Deed:
    run, healer, issue, target, began, steps, undone, undone_at, held, kept = row
    action = _action(document, healer, issue, target)
    before, after, unit = value if value else (None, None, "")
    undo, why = _undo(run, steps, undone, undone_at, held, kept, program, now)
    return Deed(
        when=words.moment(began, now),
        what=display(action.get("message", "")) or f"{words.many(steps, 'step')} by {healer}",
        where=f"{words.short_name(issue)} {words.place(target)}".strip(),
        change=_change(before, after, unit),
        undo=undo,
        undone=why,
        taken_back=undone == steps,
    )


def _change(before: float | None, after: float | None, unit: str) -> str:
    if before is None or after is None:
        return ""
    return words.change(words.bare(before, unit, after), words.value_text(after, unit))


def _action(document: Mapping[str, Any], healer: str, issue: str, target: str) -> Mapping[str, Any]:
    for each in document.get("actions_taken", ()):
        same = each.get("issue") == display(issue) and each.get("target", "") == display(target)
        if each.get("action") == healer and same:
            found: Mapping[str, Any] = each
            return found
    return {}


def _undo(
    run: str, steps: int, undone: int, undone_at: float | None, held: int, kept: int,
    program: str, now: float,
) -> tuple[str, str]:  # fmt: skip
    """The command that undoes it, and what else is to be said of that."""
    if undone == steps:
        return "", f"rolled back {words.moment(undone_at or 0, now)}"
    said = [f"{undone} of {steps} rolled back"] if undone else []
    if held:
        if held + undone < steps:
            said.append(f"{held} of {words.many(steps, 'step')}")
        return f"{program} rollback {run}", ", ".join(said)
    said.append("its time in quarantine is over" if kept > undone else "cannot be undone")
    return "", ", ".join(said)
