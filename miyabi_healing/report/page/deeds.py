"""What was done, run by run, and the command that takes it back while that can be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from miyabi_healing.report.page import words
from miyabi_healing.report.page.parts import Deed
from miyabi_healing.report.ranges import step_ranges
from miyabi_healing.state import reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.formatting import display

_MOST = 12  # deeds; `history` has the others
_LONGEST = 20  # letters of steps' numbers that have room in the column
# What each healer did in each run. A step is held where what it set aside is in quarantine; `kept`
# counts those that set something aside at all.
_DEEDS = """
    select run, healer, issue, issue_target, min(intended), count(*),
        group_concat(case when id in (select value from json_each(?)) then id end),
        sum(status = 'rolled back'), max(case status when 'rolled back' then finished end),
        sum(id in (select value from json_each(?))),
        sum(json_valid(undo) and coalesce(json_array_length(undo, '$.entries'), 0) > 0)
    from step where healer != '' and kind != 'purge' and status in ('applied', 'rolled back')
    group by run, healer, issue, issue_target order by max(intended) desc, max(id) desc limit ?
"""
_VALUES = """
    select run, name, target, value, after, unit from measurement join pass on pass.id = pass
    where run in (select value from json_each(?)) and after is not null
"""


class _Row(NamedTuple):
    """What a healer did for an issue in a run. Of its `steps`, so many are `undone`, so many can be
    (`held`, `ids` are these, with commas between them), and so many `kept` something for that.
    """

    run: str
    healer: str
    issue: str
    target: str
    began: float
    steps: int
    ids: str | None
    undone: int
    undone_at: float | None
    held: int
    kept: int


def read_deeds(
    journal: Journal, held: Iterable[QuarantineEntry], program: str, now: float
) -> tuple[Deed, ...]:
    """The last deeds, the newest first. Raises sqlite3.Error."""
    steps = sorted({each.step for each in held if not each.manifest.get("purging")})
    rows = [_Row(*each) for each in journal.all(_DEEDS, *[json.dumps(steps)] * 2, _MOST)]
    names = json.dumps([each.run for each in rows])
    values = {tuple(key): rest for *key, rest in _values(journal, names)}
    documents = {run: reports.of_run(journal, run) or {} for run in {each.run for each in rows}}
    return tuple(
        _deed(
            row,
            values.get((row.run, row.issue, row.target), ""),
            documents[row.run],
            _undo(row, program, now),
            now,
        )
        for row in rows
    )


def _values(journal: Journal, runs: str) -> Iterator[tuple[str, str, str, str]]:
    """Run, check, target, and what its value was before and after, in words."""
    for run, name, target, before, after, unit in journal.all(_VALUES, runs):
        if before is not None and after is not None:
            change = words.change(words.bare(before, unit, after), words.value_text(after, unit))
            yield run, name, target, change


def _deed(
    row: _Row, change: str, document: Mapping[str, Any], undo: tuple[str, str], now: float
) -> Deed:
    action = _action(document, row.healer, row.issue, row.target)
    plainly = f"{words.many(row.steps, 'step')} by {row.healer}"
    return Deed(
        when=words.moment(row.began, now),
        what=display(action.get("message", "")) or plainly,
        where=f"{words.short_name(row.issue)} {words.place(row.target)}".strip(),
        change=change,
        undo=undo[0],
        undone=undo[1],
        taken_back=row.undone == row.steps,
    )


def _action(document: Mapping[str, Any], healer: str, issue: str, target: str) -> Mapping[str, Any]:
    for each in document.get("actions_taken", ()):
        same = each.get("issue") == display(issue) and each.get("target", "") == display(target)
        if each.get("action") == healer and same:
            found: Mapping[str, Any] = each
            return found
    return {}


def _undo(row: _Row, program: str, now: float) -> tuple[str, str]:
    """The command that undoes it, and what else is to be said of that."""
    if row.undone == row.steps:
        return "", f"rolled back {words.moment(row.undone_at or 0, now)}"
    said = [f"{row.undone} of {row.steps} rolled back"] if row.undone else []
    if not row.held:
        over = row.kept > row.undone
        return "", ", ".join(
            (*said, "its time in quarantine is over" if over else "cannot be undone")
        )
    if row.held + row.undone < row.steps:
        said.append(f"{row.held} of {words.many(row.steps, 'step')}")
    numbers = step_ranges([int(each) for each in (row.ids or "").split(",")])
    if len(numbers) <= _LONGEST:
        return f"{program} rollback --step {numbers}", ", ".join(said)
    return f"{program} rollback {row.run}", ", ".join((*said, "undoes all of that run"))
