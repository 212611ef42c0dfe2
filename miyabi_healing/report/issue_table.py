"""The issues of a run in one table: what, where, how much of what is allowed, and what became of
it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.cells import cell_len

from miyabi_healing.report.check_states import blocked_by
from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import end_of_path, padded, shortened, titled, wrapped
from miyabi_healing.report.style import Style
from miyabi_healing.report.summary import short_name
from miyabi_healing.support import console
from miyabi_healing.support.formatting import figure

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document, IssueRow

_INDENT, _GAP = "  ", "  "
_WHERE = 1  # the column that goes to a line of its own where there is no room
_NUMBERS = (2, 3)  # columns of figures
_LEAST_WHERE = 24  # columns for a path of which the end is shown
_MOST_USERS = 3
# What the table says of these as well.
_SAID = (
    "excessive_worktrees",
    "large_log_files",
    "stale_git_lock",
    "zombie_processes",
)  # fmt: skip
_COLOURS = {"healed": "green", "gone": "green", "failed": "red"}


class _Row(NamedTuple):
    cells: tuple[str, ...]
    colour: str
    level: int
    issue: IssueRow


def issue_lines(document: Document, style: Style) -> Iterator[tuple[int, str]]:
    """Each with its priority (`miyabi_healing.support.console`)."""
    if not document["issues_detected"]:
        return
    for line in titled("issues", "Issues Detected:", style):
        yield console.INFO, line
    last = "would be" if document["dry_run"] else "done"
    rows = [_row(issue, document, style) for issue in document["issues_detected"]]
    yield from _table(("check", "where", "now", "limit", last), rows, style)
    for row in rows:
        yield from ((row.level, line) for line in _besides(row.issue, style))
    yield console.INFO, ""


def actions_on(issue: IssueRow, document: Document) -> list[ActionRow]:
    """The actions for an issue."""
    return [
        each
        for each in document["actions_taken"]
        if (each["issue"], each["target"]) == (issue["name"], issue["target"])
    ]


def _row(issue: IssueRow, document: Document, style: Style) -> _Row:
    actions = actions_on(issue, document)
    ended, colour = (
        (_would_be(issue, actions), "") if document["dry_run"] else _became(issue, actions)
    )
    cells = (
        f"{style.lead(issue['severity'])}{short_name(issue['name'])}",
        home_folded(issue["target"]) or "host",
        _now(issue, actions),
        limit_text(issue),
        ended,
    )
    return _Row(tuple(map(style.finished, cells)), colour, _level(issue), issue)


def _level(issue: IssueRow) -> int:
    if issue["healed"]:
        return console.NOTICE
    return console.ERROR if issue["severity"] in ("high", "critical") else console.WARNING


def _now(issue: IssueRow, actions: Sequence[ActionRow]) -> str:
    """What was measured, and what the check that ran again measured where something was done, or
    it went away.
    """
    changed = issue["healed"] or any(
        step["status"] == "applied" for each in actions for step in each["steps"]
    )
    after = [each["details"].get("metric_after") for each in actions if changed]
    known = [each for each in after if isinstance(each, (int, float))]
    if not known or known[-1] == issue["metric_value"]:
        return value_text(issue["metric_value"], issue)
    return change(issue, known[-1])


def change(issue: IssueRow, after: float) -> str:
    """An issue's value, and what it became or would become: ``86 → 12 MB``; once, where a reader
    sees no difference.
    """
    value = value_text(issue["metric_value"], issue)
    if value == value_text(after, issue):
        return value
    short = value.removesuffix(f" {issue['unit']}") if issue["unit"] != "s" else value
    return f"{short} → {value_text(after, issue)}"


def limit_text(issue: IssueRow) -> str:
    return figure(issue["threshold"], issue["unit"], issue["threshold"])


def value_text(value: float, issue: IssueRow) -> str:
    if issue["unit"] == "s" and not value:
        return "gone"
    return figure(value, issue["unit"], issue["threshold"])


def _would_be(issue: IssueRow, actions: Sequence[ActionRow]) -> str:
    if not actions:
        return "as it is: no healer"
    planned = [
        (each, step)
        for each in actions
        for step in each["steps"]
        if step["status"] == "planned"
    ]  # fmt: skip
    if not planned:
        return "as it is: waits" if blocked_by(actions) else "as it is"
    expected = [each.get("expected") for each in actions]
    if expected[-1] is not None:
        return value_text(expected[-1], issue)
    tools = {step["target"].split()[0] for _, step in planned if step["kind"] == "run"}
    return f"? ({', '.join(sorted(tools))} says after)" if tools else "? (measured after)"


def _became(issue: IssueRow, actions: Sequence[ActionRow]) -> tuple[str, str]:
    """How an issue ended, as the summary counts it, and its colour."""
    statuses = {each["status"] for each in actions}
    if issue["healed"]:
        return ("healed", "green") if "success" in statuses else ("went away without help", "green")
    if any(each.get("stopped") for each in actions):
        return "stopped", "yellow"
    if "failed" in statuses:
        return "failed", "red"
    if "partial" in statuses:
        return "better, still over", "yellow"
    if blocked_by(actions):
        return "waits", "cyan"
    return ("left as it is" if actions else "no healer"), "cyan"


def _besides(issue: IssueRow, style: Style) -> Iterator[str]:
    """What the table has not: the check's own words, who takes what was measured, and why."""
    indent = f"{_INDENT}   "
    if style.every_step or issue["name"] not in _SAID or issue.get("because"):
        text = f"{issue['name']} ({issue['severity']}): {issue['description']}"
        yield from wrapped(text, style.width, _INDENT, indent)
    users = (f"used by {row['text']}" for row in issue.get("used_by", ()))
    for line in shortened(users, style, _MOST_USERS):
        yield from wrapped(line, style.width, indent, f"{indent}  ")
    if issue.get("because"):
        from miyabi_healing.report.because_text import styled_lines

        yield from styled_lines(issue, style, indent)


def _table(head: tuple[str, ...], rows: Sequence[_Row], style: Style) -> Iterator[tuple[int, str]]:
    widths = [
        max(map(cell_len, column))
        for column in zip(head, *(each.cells for each in rows), strict=True)
    ]
    room = style.width - len(_INDENT)
    if sum(widths) + len(_GAP) * (len(widths) - 1) <= room - (4 if style.terminal else 0):
        if style.terminal:
            yield from _lined(head, rows, style)
        else:
            yield from _aligned(head, rows, widths, style)
        return
    gaps = len(_GAP) * (len(widths) - 1)
    if (left := room - sum(widths) - gaps + widths[_WHERE]) >= _LEAST_WHERE:
        widths[_WHERE] = left
        yield from _aligned(head, [_clipped(row, left, style) for row in rows], widths, style)
        return
    del widths[_WHERE]
    if sum(widths) + len(_GAP) * (len(widths) - 1) <= room:
        yield from _aligned(head, rows, widths, style, below=True)
        return
    for row in rows:
        check, where, now, limit, ended = row.cells
        text = f"{check} {where}: {now}, limit {limit}; {head[-1]}: {ended}"
        for line in wrapped(text, style.width, _INDENT, f"{_INDENT}   "):
            yield row.level, line


def _clipped(row: _Row, width: int, style: Style) -> _Row:
    """With the end of what is too long: what is said below has the whole."""
    where = end_of_path(row.cells[_WHERE], width, style.finished("…"))
    return row._replace(cells=(*row.cells[:_WHERE], where, *row.cells[_WHERE + 1 :]))


def _aligned(
    head: tuple[str, ...],
    rows: Sequence[_Row],
    widths: list[int],
    style: Style,
    below: bool = False,
) -> Iterator[tuple[int, str]]:
    """Plain columns; with `below`, where something is comes below its row."""

    def line(cells: Iterable[str], colour: str = "") -> str:
        shown = [padded(cell, width) for cell, width in zip(cells, widths, strict=True)]
        shown[-1] = click.style(shown[-1].rstrip(), fg=colour or None)
        return (_INDENT + _GAP.join(shown)).rstrip()

    def without(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells[:_WHERE] + cells[_WHERE + 1 :] if below else cells

    yield console.INFO, line(without(head))
    for row in rows:
        yield row.level, line(without(row.cells), row.colour)
        if below:
            where = wrapped(row.cells[_WHERE], style.width, f"{_INDENT}   ", f"{_INDENT}   ")
            yield from ((row.level, text) for text in where)


def _lined(head: tuple[str, ...], rows: Sequence[_Row], style: Style) -> Iterator[tuple[int, str]]:
    """The same with lines, as a terminal shows them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD if style.letters else box.ASCII2, show_edge=False, pad_edge=True
    )
    for name in head:
        table.add_column(name, no_wrap=True)
    for row in rows:
        *cells, ended = row.cells
        table.add_row(*map(Text, cells), Text(ended, style=row.colour))
    page = Console(
        file=io.StringIO(), width=style.width, force_terminal=style.colour, highlight=False,
        color_system="standard" if style.colour else None, emoji=False, legacy_windows=False,
    )  # fmt: skip
    with page.capture() as written:
        page.print(table)
    for line in written.get().splitlines():
        yield console.INFO, line.rstrip()
