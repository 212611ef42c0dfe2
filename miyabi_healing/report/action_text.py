"""A paragraph for each action: what was done in a line or two, what was kept, how to undo it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.issue_table import change, limit_text
from miyabi_healing.report.kept_text import kept_lines
from miyabi_healing.report.layout import at_both_ends, flowed, shortened, titled, wrapped
from miyabi_healing.report.ranges import step_ranges
from miyabi_healing.report.step_text import one_by_one, paragraph
from miyabi_healing.report.style import Style
from miyabi_healing.support import console
from miyabi_healing.support.formatting import DAY, plain_number, size_text, timestamp_seconds
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document, IssueRow, StepRow

_COLOURS = {"success": "green", "partial": "yellow", "failed": "red", "skipped": "cyan"}
_INDENT = "     "
_MOST_FOLDERS = 5
# How a message ends that counts the steps that were not carried out.
_LEFT_OUT = re.compile(r" \([0-9]+ (?:skipped|blocked|failed|undone)\b.*\)$")
_BESIDE = 120  # columns; further away, nobody sees what belongs together


def action_lines(document: Document, style: Style) -> Iterator[tuple[int, str]]:
    """Each with its priority (`miyabi_healing.support.console`)."""
    actions = document["actions_taken"]
    if not actions:
        return
    title = (
        "Planned Actions (dry run, nothing was changed):"
        if document["dry_run"]
        else "Actions Taken:"
    )
    head, rule = titled("actions", title, style)
    for line in (*wrapped(head, style.width, "", "   "), rule):
        yield console.INFO, line
    for line in _brake_lines(actions, style):
        yield console.INFO, line
    for number, action in enumerate(actions, 1):
        level = console.NOTICE if action["status"] == "success" else console.INFO
        yield from ((level, line) for line in _paragraph(number, action, document, style))
    yield console.INFO, ""
    for line in _undo_lines(document, style):
        yield console.INFO, line


def _brake_lines(actions: Sequence[ActionRow], style: Style) -> Iterator[str]:
    """What holds whole plans back, each reason once."""
    held: dict[str, list[str]] = {}
    for each in actions:
        if each["brake"]:
            held.setdefault(each["brake"], []).append(each["action"])
    for brake, healers in held.items():
        lead = f"  {style.lead('blocked')}"
        who = list(dict.fromkeys(healers))
        text = f"{', '.join(who)} wait{'s' if len(who) == 1 else ''}: {brake}"
        yield from wrapped(text, style.width, lead, _INDENT)


def _paragraph(number: int, action: ActionRow, document: Document, style: Style) -> Iterator[str]:
    heading = f"{number:>2} {style.lead(action['status'])}{_heading(action, document)}"
    undo = _undo(action, document)
    first, *rest = at_both_ends(heading, undo, min(style.width, _BESIDE), _INDENT)
    before, name, after = first.partition(action["action"])
    yield before + click.style(name, fg=_COLOURS[action["status"]]) + after
    yield from rest
    if style.every_step:
        yield from _figures(action, style)
        yield from one_by_one(action["steps"], style, _INDENT)
        if any(step["status"] == "planned" for step in action["steps"]):
            goal = f"Between steps it looks again and stops when {action['goal']}."
            yield from wrapped(goal, style.width, _INDENT, _INDENT)
    else:
        steps = action["steps"]
        if action["brake"]:
            steps = [each for each in steps if each["message"] != action["brake"]]
        yield from paragraph(steps, style, _INDENT)
    yield from _room(action, document, style)
    yield from kept_lines(action["kept"], style, _INDENT)
    if action["status"] != "success":
        from miyabi_healing.report.space import detail_lines

        for line in shortened(detail_lines(action["details"]), style, _MOST_FOLDERS):
            yield from wrapped(line.strip(), style.width, _INDENT, f"{_INDENT}  ")


def _heading(action: ActionRow, document: Document) -> str:
    where = home_folded(action["target"])
    name = f"{action['action']} {where}".rstrip()
    planned = [step for step in action["steps"] if step["status"] == "planned"]
    if document["dry_run"] and planned and not action["brake"]:
        early = " (early)" if action.get("early") else ""  # elsewhere its message says so
        return f"{name}{early}: {_reach(action, document, planned)}"
    if action["brake"]:
        held = len(action["steps"])
        return f"{name}: waits" + (f", {held} step{'s' if held != 1 else ''}" if held else "")
    return f"{name}: {_shortly(action)}"


def _reach(action: ActionRow, document: Document, planned: Sequence[StepRow]) -> str:
    """What a dry run says it would come to."""
    steps = f"{len(planned)} step{'s' if len(planned) != 1 else ''}"
    issue = _issue(action, document)
    expected = action.get("expected")
    if issue is None or expected is None:
        return f"{steps}; what they come to is measured afterwards"
    still = ", still over it" if expected > issue["threshold"] else ""
    return f"{steps}, {change(issue, expected)}, limit {limit_text(issue)}{still}"


def _issue(action: ActionRow, document: Document) -> IssueRow | None:
    """What an action is for: an issue, or one that is foreseen as if it had occurred."""
    for each in document["issues_detected"]:
        if (each["name"], each["target"]) == (action["issue"], action["target"]):
            return each
    for row in document.get("foreseen", ()) if action.get("early") else ():
        if (row["name"], row["target"]) == (action["issue"], action["target"]):
            return {
                "name": row["name"],
                "description": "",
                "severity": "",
                "metric_value": row["value"],
                "threshold": row["threshold"],
                "unit": row["unit"],
                "target": row["target"],
                "healed": False,
            }
    return None


def _shortly(action: ActionRow) -> str:
    """An action's message without what is said below it: what was kept, and what was not done."""
    kept = sum(each["count"] for each in action["kept"])
    text, found, _ = action["message"].rpartition(f"; kept {kept}: ")
    text = text if kept and found else action["message"]
    text = text.removeprefix(f"{action['action']} ")
    if action["steps"] and text.startswith(("Nothing done: ", "Dry run: nothing done: ")):
        return "nothing done"
    if action["steps"] and text.startswith("Undid "):
        return text.partition(": ")[0]
    return _LEFT_OUT.sub("", text)


def _undo(action: ActionRow, document: Document) -> str:
    """How to undo an action, by the whole command; nothing where nothing was done."""
    done = [each for each in action["steps"] if each["status"] in ("applied", "planned")]
    if not done:
        return ""
    can = [each for each in done if each["undo"]]
    if not can:
        return "cannot be undone"
    if document["dry_run"]:
        return "can be undone" if len(can) == len(done) else "can be undone in part"
    part = "" if len(can) == len(done) else f" ({len(can)} of {len(done)} steps)"
    numbers = [each["number"] for each in can]
    which = f"--step {step_ranges(numbers)}" if all(numbers) else document["run_id"]
    return f"undo: {own_command()} rollback {which}{part}"


def _undo_lines(document: Document, style: Style) -> Iterator[str]:
    """What the command of several actions does."""
    undoable = [
        each
        for each in document["actions_taken"]
        if any(step["status"] == "applied" and step["undo"] for step in each["steps"])
    ]
    if document["dry_run"] or len(undoable) < 2:
        return
    text = f"rollback {document['run_id']} undoes all of this run that can be undone"
    yield from wrapped(text, style.width, "  ", "  ")
    yield ""


def _room(action: ActionRow, document: Document, style: Style) -> Iterator[str]:
    """What was freed, as measured, and what the quarantine holds of it for how long."""
    done = [each for each in action["steps"] if each["status"] == "applied"]
    planned = [each for each in action["steps"] if each["status"] == "planned"]
    rows = done or planned
    parts = []
    if done:
        freed = sum(each["freed"] for each in done)
        if freed or any(each["bytes"] for each in done):
            parts.append(f"freed {size_text(freed)}")
    elif expected := sum(each["bytes"] for each in planned):
        parts.append(f"frees about {size_text(expected)} (an estimate)")
    if later := sum(each["bytes_later"] for each in rows):
        most = "" if done else "up to "
        parts.append(f"{most}{size_text(later)} in quarantine {_until(document, bool(done))}")
    if parts:
        yield from flowed(parts, " · ", style.width, _INDENT, f"{_INDENT}  ")


def _until(document: Document, done: bool) -> str:
    row = document.get("quarantine")
    days = row.get("days") if row else None
    if days is None:
        return "until it is emptied"
    if not done:
        return f"for {days:g} days"
    began = timestamp_seconds(document["timestamp"])
    return f"until {time.strftime('%Y-%m-%d', time.localtime(began + float(days) * DAY))}"


def _figures(action: ActionRow, style: Style) -> Iterator[str]:
    yield f"{_INDENT}Duration: {action['duration_seconds']:.2f}s"
    for key, value in action["details"].items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = size_text(value) if key.startswith("bytes_") else plain_number(value)
            yield from wrapped(f"{key}: {shown}", style.width, _INDENT, _INDENT)
