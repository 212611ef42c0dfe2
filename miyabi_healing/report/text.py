"""The report for people: coloured on a terminal, plain in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.support import console
from miyabi_healing.support.formatting import plain_number, size_text, time_text
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import (
        ActionRow,
        Document,
        IssueRow,
        QuarantineRow,
        StepRow,
    )

_RULE = "=" * 60
_THIN = "-" * 40
_SEVERITIES = {"low": "🔵", "medium": "🟡", "high": "🟠", "critical": "🔴"}
_STATUSES = {"success": "✅", "partial": "⚠️ ", "failed": "❌", "skipped": "⏭️ "}
_STEPS = {
    "applied": "✓",
    "planned": "·",
    "not needed": "–",
    "skipped": "↷",
    "vetoed": "⛔",
    "failed": "✗",
    "undone": "↩",
}
_COLOURS = {"success": "green", "partial": "yellow", "failed": "red", "skipped": "cyan"}
_ALERTS = {"queued": "being sent", "planned": "would be sent"}
_SHOWN_ROWS = 12


def render_report(document: Document, colour: bool, journal: bool = False) -> str:
    """The whole report as text, ending in a line break; for systemd's journal, every line with its
    priority.
    """
    rows = report_lines(document)
    text = (
        "\n".join(console.marked(line, level) if journal else line for level, line in rows) + "\n"
    )
    return text if colour else click.unstyle(text)


def report_lines(document: Document) -> Iterator[tuple[int, str]]:
    """Each with its priority (`miyabi_healing.support.console`)."""
    yield from _ranked(console.INFO, _head_lines(document))
    if document["issues_detected"]:
        yield from _ranked(console.INFO, ("🔍 Issues Detected:", _THIN))
        for issue in document["issues_detected"]:
            yield from _ranked(_issue_level(issue), _issue_lines(issue))
        yield console.INFO, ""
    if document["actions_taken"]:
        title = (
            "🔧 Planned Actions (dry run, nothing was changed):"
            if document["dry_run"]
            else "🔧 Actions Taken:"
        )
        yield from _ranked(console.INFO, (title, _THIN))
        for action in document["actions_taken"]:
            yield from _ranked(
                console.NOTICE if action["status"] == "success" else console.INFO,
                _action_lines(action),
            )
        yield console.INFO, ""
    yield from _ranked(console.INFO, _side_lines(document))
    yield from _ranked(console.ERROR, _error_lines(document))
    yield from _ranked(console.INFO, (closing(document), _RULE))


def _ranked(level: int, rows: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((level, row) for row in rows)


def _issue_level(issue: IssueRow) -> int:
    if issue["healed"]:
        return console.NOTICE
    return console.ERROR if issue["severity"] in ("high", "critical") else console.WARNING


def _head_lines(document: Document) -> Iterator[str]:
    good = document["overall_success"]
    yield from (_RULE, click.style("🔧 Miyabi Self-Healing Report", bold=True), _RULE, "")
    yield f"📅 Timestamp: {document['timestamp'].replace('T', ' ')}"
    verdict = click.style("Success", fg="green") if good else click.style("Issues remain", fg="red")
    yield f"{'✅' if good else '❌'} Overall: {verdict}"
    yield f"📝 Summary: {document['summary']}"
    yield ""


def _side_lines(document: Document) -> Iterator[str]:
    """What there is to know besides issues and actions."""
    if document["recovered"]:
        yield from ("🩹 Left Half Done By An Earlier Run:", _THIN)
        for row in document["recovered"]:
            when = time_text(row["intended"])
            yield f"  {row['kind']} {row['target']} (step {row['step']}, {when})"
            yield f"     {row['result']}"
        yield ""
    yield from _quarantine_lines(document.get("quarantine"))
    if document.get("alerts"):
        yield from (
            "📣 Alerts:",
            _THIN,
            *(f"  {alert['text']} [{_ALERTS[alert['status']]}]" for alert in document["alerts"]),
            "",
        )
    if document["notes"]:
        yield from ("📌 Notes:", _THIN, *(f"  {note}" for note in document["notes"]), "")


def _error_lines(document: Document) -> Iterator[str]:
    if not document["errors"]:
        return
    yield from ("⚠️  Checks That Could Not Run:", _THIN)
    checks: dict[str, list[str]] = {}  # what is unknown to several is said once
    for error in document["errors"]:
        checks.setdefault(error["message"], []).append(error["check"] or "all checks")
    for message, names in checks.items():
        yield f"  ❌ {', '.join(names)}"
        yield f"     {message}"
    yield ""


def closing(document: Document) -> str:
    if document["errors"]:
        return "❌ What could not be checked is unknown, not healthy."
    if not document["overall_success"]:
        planned = (
            step["status"] == "planned"
            for action in document["actions_taken"]
            for step in action["steps"]
        )
        return (
            f"💡 {own_command()} without --dry-run carries this out."
            if document["dry_run"] and any(planned)
            else "❌ Some issues remain: see above."
        )
    return (
        "✅ All issues have been addressed successfully!"
        if document["issues_detected"]
        else "✅ Nothing to do."
    )


def _issue_lines(issue: IssueRow) -> Iterator[str]:
    unit = f" {issue['unit']}" if issue["unit"] else ""
    yield f"  {_SEVERITIES[issue['severity']]} {issue['name']}"
    yield f"     {issue['description']}"
    value, threshold = plain_number(issue["metric_value"]), plain_number(issue["threshold"])
    yield f"     Value: {value}{unit} (threshold: {threshold}{unit})"
    yield from (f"     used by {row['text']}" for row in issue.get("used_by", ()))


def _action_lines(action: ActionRow) -> Iterator[str]:
    status = action["status"]
    yield f"  {_STATUSES[status]} {click.style(action['action'], fg=_COLOURS[status])}"
    yield f"     {action['message']}"
    yield f"     Duration: {action['duration_seconds']:.2f}s"
    for key, value in action["details"].items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = size_text(value) if key.startswith("bytes_") else plain_number(value)
            yield f"     {key}: {shown}"
    yield from shortened(
        [line for step in action["steps"] for line in _step_lines(step)], whole=status == "skipped"
    )
    if any(step["status"] == "planned" for step in action["steps"]):
        yield f"     Between steps it looks again and stops when {action['goal']}."
    kept = [
        f"     kept {each['target']}: {each['reason']}"
        + (f" – {each['detail']}" if each["detail"] else "")
        for each in action["kept"]
    ]
    yield from shortened(kept, whole=False)
    if status != "success":
        from miyabi_healing.report.space import detail_lines

        yield from detail_lines(action["details"])


def _quarantine_lines(row: QuarantineRow | None) -> Iterator[str]:
    """What is kept, how much it takes and until when; nothing where nothing is."""
    if not row or not (row["things"] or row["purged"]):
        return
    yield from ("📦 Quarantine:", _THIN)
    if row["things"]:
        first = f"; {next_expiry(row)}" if row["next_expiry"] else ""
        yield f"  {row['things']} thing(s), {size_text(row['bytes'])}{first}"
        yield f"     {own_command()} rollback, {own_command()} quarantine list"
    yield from shortened(
        [line for step in row["purged"] for line in _step_lines(step)], whole=False
    )
    yield ""


def next_expiry(row: Mapping[str, Any]) -> str:
    """When the first thing leaves the quarantine, for people."""
    only = (
        ", as only time that runs see pass counts"
        if row.get("next_expiry_by") == "run clock"
        else ""
    )
    return f"the first goes on {time_text(row['next_expiry'])} at the earliest{only}"


def shortened(rows: list[str], whole: bool) -> Iterator[str]:
    """Long lists end with how much was left out; the JSON report has it all."""
    yield from (
        rows
        if whole or len(rows) <= _SHOWN_ROWS
        else [
            *rows[:_SHOWN_ROWS],
            f"     … and {len(rows) - _SHOWN_ROWS} more (all of them with --json)",
        ]
    )


def _step_lines(step: StepRow) -> Iterator[str]:
    size, done = size_text(step["bytes"]), step["status"] == "applied"
    gains = [f"frees {size}"] if step["bytes"] else []
    if gains and step["bytes_estimated"]:
        gains = [f"frees {size} at most (an estimate)"]
    if done and (gains or step["freed"]):
        gains = [f"freed {size_text(step['freed'])}"]
    gains += (
        [f"frees {size_text(step['bytes_later'])} once the quarantine is emptied"]
        if step["bytes_later"]
        else []
    )
    undo = f"undo: {step['undo']}" if step["undo"] else "cannot be undone"
    facts = "; ".join([step["reason"], *gains, undo])
    why = f" [{step['status']}: {step['message']}]" if step["message"] and not done else ""
    number = f" (step {step['number']})" if step["number"] else ""
    mark = _STEPS[step["status"]]
    came = f"\n       {step['message']}" if step["message"] and done else ""
    yield f"     {mark} {step['kind']} {step['target']}{number}{why}\n       {facts}{came}"
