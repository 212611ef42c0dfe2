"""What the ``worktrees`` command shows: one JSON document (docs/worktrees.md), and from it a table
for any width of a screen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.cells import cell_len

from miyabi_healing.model.worktree_survey import WorktreeRow, WorktreeSurvey
from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import padded, wrapped
from miyabi_healing.report.style import current
from miyabi_healing.support.formatting import DAY, duration_text, size_text, timestamp

WorktreesDocument = dict[str, Any]

_HEADS = ("WORKTREE", "BRANCH", "IDLE", "OWN", "REGENERABLE", "SHARED")
_NUMBERS = 2  # from this column on: right-aligned
_SHORT = ("IDLE", "OWN", "REGEN.", "SHARED")  # the heads of these on a narrow screen
_GAP = "  "
_INDENT = "    "
_SHOWN_BRANCHES = 20


def build_worktrees(survey: WorktreeSurvey) -> WorktreesDocument:
    """The document; moments are timestamps in it."""
    trees, folders = survey.worktrees, survey.leftover_folders
    going = [row for row in trees if row.may_go]
    return {
        "timestamp": timestamp(),
        "idle_days": survey.idle_days,
        "worktrees": [_worktree(row) for row in trees],
        "leftover_folders": [asdict(row) for row in folders],
        "leftover_branches": [asdict(row) for row in survey.leftover_branches],
        "totals": {
            "worktrees": len(trees),
            "may_go": len(going),
            "own_bytes": sum(row.own_bytes for row in trees),
            "may_go_bytes": sum(row.own_bytes for row in going),
            "regenerable_bytes": sum(row.regenerable_bytes for row in trees),
            "shared_bytes": sum(row.shared_bytes for row in trees),
            "leftover_bytes": sum(row.own_bytes for row in folders),
            "at_least": any(row.at_least for row in (*trees, *folders)),
        },
        "unknown": list(survey.unknown),
    }


def _worktree(row: WorktreeRow) -> dict[str, Any]:
    used = row.last_used
    return {
        **asdict(row),
        "last_used": None if used is None else timestamp(used),
        "idle_days": None if used is None else round((time.time() - used) / DAY, 2),
    }


def worktrees_lines(document: WorktreesDocument, width: float) -> Iterator[str]:
    """For people, in `width` columns (without end: one line for each worktree)."""
    trees = document["worktrees"]
    yield from _table(trees, width)
    if trees:
        yield ""
    yield from wrapped(_totals(document), width)
    yield from _leftover_folders(document["leftover_folders"], width)
    yield from _leftover_branches(document["leftover_branches"], width)
    if document["unknown"]:
        yield ""
        for each in document["unknown"]:
            yield from wrapped(each, width, current().lead("bad"), _INDENT)


def _table(trees: Sequence[dict[str, Any]], width: float) -> Iterator[str]:
    """All of one in a line where that fits, else its verdict below, then its branch as well, and at
    last all but the numbers.
    """
    if not trees:
        return
    rows = [_cells(row) for row in trees]
    for shown in (_HEADS, _HEADS[:1] + _HEADS[2:]):
        columns = [_HEADS.index(head) for head in shown]
        picked = [tuple(cells[each] for each in columns) for cells in rows]
        sizes = _sizes(shown, picked)
        if _whole(sizes) <= width:
            yield from _aligned_table(trees, shown, picked, sizes, width)
            return
    numbers = [cells[_NUMBERS:] for cells in rows]
    sizes = _sizes(_SHORT, numbers)
    yield _line(_SHORT, sizes)
    for row, cells in zip(trees, numbers, strict=True):
        yield from wrapped(home_folded(row["path"]), width)
        yield _line(cells, sizes)
        yield from _branch(row, width)
        yield from _verdict(row, width)


def _aligned_table(
    trees: Sequence[dict[str, Any]],
    heads: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    sizes: Sequence[int],
    width: float,
) -> Iterator[str]:
    whole = heads == _HEADS
    longest = max(cell_len(_words(row)) for row in trees)
    beside = whole and _whole(sizes) + len(_GAP) + longest <= width
    yield _line(heads, sizes) + (f"{_GAP}VERDICT" if beside else "")
    for row, cells in zip(trees, rows, strict=True):
        line = _line(cells, sizes)
        if beside:
            yield f"{line}{_GAP}{_coloured(row, _words(row))}"
            continue
        yield line
        yield from () if whole else _branch(row, width)
        yield from _verdict(row, width)


def _sizes(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]


def _whole(sizes: Sequence[int]) -> int:
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def _line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    """Cells in their columns; the last ones are numbers."""
    text = len(cells) - len(_SHORT)
    return _GAP.join(
        padded(cell, size, right=number >= text)
        for number, (cell, size) in enumerate(zip(cells, sizes, strict=True))
    )


def _branch(row: dict[str, Any], width: float) -> Iterator[str]:
    name = f"branch {row['branch']}" if row["branch"] else _cells(row)[1]
    yield from wrapped(name, width, _INDENT, _INDENT + "  ")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    commit = (row["commit"] or "")[:7]
    idle = row["idle_days"]
    least = "≥ " if row["at_least"] else ""
    return (
        home_folded(row["path"]),
        row["branch"] or f"detached {commit}".rstrip(),
        "?" if idle is None else duration_text(max(0, idle * DAY)),
        least + size_text(row["own_bytes"]),
        least + size_text(row["regenerable_bytes"]),
        least + size_text(row["shared_bytes"]),
    )


def _words(row: dict[str, Any]) -> str:
    return f"{'may go' if row['may_go'] else 'stays'}: {row['verdict']}"


def _coloured(row: dict[str, Any], line: str) -> str:
    lead, colon, rest = line.partition(":")
    return click.style(lead, fg="green" if row["may_go"] else "yellow") + colon + rest


def _verdict(row: dict[str, Any], width: float) -> Iterator[str]:
    first, *rest = wrapped(_words(row), width, _INDENT, _INDENT + "  ")
    yield _coloured(row, first)
    yield from rest


def _totals(document: dict[str, Any]) -> str:
    totals = document["totals"]
    if not totals["worktrees"]:
        return "No linked worktrees."
    least = "at least " if totals["at_least"] else ""
    again, shared = totals["regenerable_bytes"], totals["shared_bytes"]
    parts = [f"{totals['worktrees']} worktree(s), {least}{size_text(totals['own_bytes'])}"]
    parts += [f"{totals['may_go']} may go, {size_text(totals['may_go_bytes'])}"]
    parts += [f"{size_text(again)} can be made again"] if again else []
    parts += [f"{size_text(shared)} besides are shared with other places"] if shared else []
    return "; ".join(parts) + "."


def _leftover_folders(rows: Sequence[dict[str, Any]], width: float) -> Iterator[str]:
    if not rows:
        return
    yield ""
    size = size_text(sum(row["own_bytes"] for row in rows))
    head = f"Folders that git does not know any more: {len(rows)}, {size}; they are left alone."
    yield from wrapped(head, width)
    for row in rows:
        least = "at least " if row["at_least"] else ""
        text = f"{home_folded(row['path'])}: {least}{size_text(row['own_bytes'])}; {row['why']}"
        yield from wrapped(text, width, "  ", _INDENT)


def _leftover_branches(rows: Sequence[dict[str, Any]], width: float) -> Iterator[str]:
    if not rows:
        return
    yield ""
    head = f"Branches that are merged and checked out nowhere: {len(rows)}; they are left alone."
    yield from wrapped(head, width)
    for row in rows[:_SHOWN_BRANCHES]:
        yield from wrapped(f"{row['branch']}: {row['evidence']}", width, "  ", _INDENT)
    if len(rows) > _SHOWN_BRANCHES:
        yield f"  … and {len(rows) - _SHOWN_BRANCHES} more (all of them with --json)"
