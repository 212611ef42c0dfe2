"""What a report says besides issues and actions: what a crash left, the quarantine, alerts, notes,
and checks that could not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import shortened, titled, wrapped
from miyabi_healing.report.style import Style
from miyabi_healing.support import console
from miyabi_healing.support.formatting import expiry_text, size_text, time_text
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

_ALERTS = {"queued": "being sent", "planned": "would be sent"}


def side_lines(document: Document, style: Style) -> Iterator[tuple[int, str]]:
    """Each with its priority (`miyabi_healing.support.console`)."""
    for level, rows in (
        (console.INFO, _recovered(document, style)),
        (console.INFO, _quarantine(document, style)),
        (console.INFO, _alerts(document, style)),
        (console.INFO, _notes(document, style)),
        (console.ERROR, _errors(document, style)),
    ):
        yield from ((level, row) for row in rows)


def _recovered(document: Document, style: Style) -> Iterator[str]:
    if not document["recovered"]:
        return
    yield from titled("recovered", "Left Half Done By An Earlier Run:", style)
    for row in document["recovered"]:
        what = f"{row['kind']} {home_folded(row['target'])}"
        when = f"step {row['step']}, {time_text(row['intended'])}"
        yield from wrapped(f"{what} ({when}): {row['result']}", style.width, "  ", "     ")
    yield ""


def _quarantine(document: Document, style: Style) -> Iterator[str]:
    """What is kept, how much it takes and until when; nothing where nothing is."""
    row = document.get("quarantine")
    if not row or not (row["things"] or row["purged"]):
        return
    yield from titled("quarantine", "Quarantine:", style)
    if row["things"]:
        things = f"{row['things']} thing{'s' if row['things'] != 1 else ''}"
        first = (
            f"; {expiry_text(row['next_expiry'], row.get('next_expiry_by'))}"
            if row["next_expiry"]
            else ""
        )
        yield from wrapped(
            f"{things}, {size_text(row['bytes'])}{first}", style.width, "  ", "     "
        )
        yield f"  {own_command()} quarantine list"
    if row["purged"]:
        done = [step for step in row["purged"] if step["status"] == "applied"]
        yield from wrapped(
            f"{len(done)} of {len(row['purged'])} whose time was over deleted for good: "
            f"freed {size_text(sum(step['freed'] for step in done))}",
            style.width, "  ", "     ",
        )  # fmt: skip
        left = {step["message"] for step in row["purged"] if step["status"] != "applied"}
        for message in shortened(sorted(left - {""}), style):
            yield from wrapped(message, style.width, "     ", "     ")
    yield ""


def _alerts(document: Document, style: Style) -> Iterator[str]:
    if not document.get("alerts"):
        return
    yield from titled("alerts", "Alerts:", style)
    for alert in document["alerts"]:
        text = f"{alert['text']} [{_ALERTS[alert['status']]}]"
        yield from wrapped(text, style.width, "  ", "     ")
    yield ""


def _notes(document: Document, style: Style) -> Iterator[str]:
    if not document["notes"]:
        return
    yield from titled("notes", "Notes:", style)
    for note in shortened(document["notes"], style):
        yield from wrapped(note, style.width, "  ", "     ")
    yield ""


def _errors(document: Document, style: Style) -> Iterator[str]:
    if not document["errors"]:
        return
    yield from titled("warning", "Checks That Could Not Run:", style)
    checks: dict[str, list[str]] = {}  # what is unknown to several is said once
    for error in document["errors"]:
        target = error.get("target", "")
        name = error["check"] or "all checks"
        name += f" {home_folded(target)}" if target and target not in error["message"] else ""
        checks.setdefault(error["message"], []).append(name)
    for message, names in checks.items():
        lead = f"  {style.lead('bad')}"
        yield from wrapped(f"{', '.join(names)}: {message}", style.width, lead, "     ")
    yield ""
