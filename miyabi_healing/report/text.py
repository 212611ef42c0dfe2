"""The report for people: short first, with marks, colour and columns as its reader's screen has
them.

A run in which all is well needs this module alone; the others are loaded where there is something
to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import click

from miyabi_healing.report import style as styles
from miyabi_healing.report.style import Style
from miyabi_healing.report.summary import numbers
from miyabi_healing.support import console
from miyabi_healing.support.formatting import expiry_text, time_text

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

_RULE = 60  # columns


def render_report(
    document: Document, colour: bool, journal: bool = False, style: Style | None = None
) -> str:
    """The whole report as text, ending in a line break; for systemd's journal, every line with its
    priority. In the style of standard output, unless told otherwise.
    """
    given = style or styles.current()
    chosen = replace(given, colour=colour, terminal=given.terminal and colour)
    rows = report_lines(document, chosen)
    return "".join(f"{console.marked(line, level) if journal else line}\n" for level, line in rows)


def report_lines(document: Document, style: Style) -> Iterator[tuple[int, str]]:
    """Each with its priority (`miyabi_healing.support.console`)."""
    shown = cast("Document", style.shown(dict(document)))
    for level, line in _lines(shown, style):
        done = style.finished(line if style.colour else click.unstyle(line))
        yield from (
            (level, each) for each in ([done] if style.letters else _again(line, done, style))
        )


def _again(line: str, done: str, style: Style) -> Iterable[str]:
    """A line that got too long by the letters that it is written in (three dots for one) as two."""
    from rich.cells import cell_len

    from miyabi_healing.report.layout import wrapped

    if cell_len(line) > style.width or cell_len(done) <= style.width:
        return (done,)
    indent = " " * (len(done) - len(done.lstrip()))
    return wrapped(done.lstrip(), style.width, indent, f"{indent}  ")


def _lines(document: Document, style: Style) -> Iterator[tuple[int, str]]:
    yield from _ranked(_head_lines(document, style))
    if document["issues_detected"] or document["actions_taken"]:
        from miyabi_healing.report import action_text, issue_table

        yield from issue_table.issue_lines(document, style)
        yield from action_text.action_lines(document, style)
    measured = list(_number_lines(document, style))
    yield from _ranked(measured)
    if document.get("foreseen"):
        from miyabi_healing.report.foreseen_text import foreseen_lines

        yield from ((console.NOTICE, line) for line in foreseen_lines(document, style))
    if measured or document.get("foreseen"):
        yield console.INFO, ""
    if _has_more(document):
        from miyabi_healing.report import side_text

        yield from side_text.side_lines(document, style)
    if document["issues_detected"] or document["errors"] or not measured:
        yield from _ranked(_fitting(closing(document, style), style, "   "))
    yield console.INFO, "=" * min(_RULE, style.width)


def _ranked(rows: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((console.INFO, row) for row in rows)


def _head_lines(document: Document, style: Style) -> Iterator[str]:
    good, rule = document["overall_success"], "=" * min(_RULE, style.width)
    title = click.style(f"{style.lead('title')}Miyabi Self-Healing Report", bold=True)
    yield from (rule, title, rule, "")
    yield f"{style.lead('when')}Timestamp: {time_text(document['timestamp'])}"
    verdict = click.style("Success", fg="green") if good else click.style("Issues remain", fg="red")
    if document["errors"] and not document["issues_detected"]:
        verdict = click.style("Not known", fg="red")
    yield f"{style.lead('good' if good else 'bad')}Overall: {verdict}"
    yield from _fitting(f"{style.lead('summary')}Summary: {document['summary']}", style, "   ")
    yield ""


def _number_lines(document: Document, style: Style) -> Iterator[str]:
    """What is within its limits, in one line where that fits."""
    items = list(numbers(document, style.every_step))
    if not items:
        return
    seconds = document.get("duration_seconds")
    items[-1] += f"   {seconds:.1f} s" if seconds is not None else ""
    line, more = f"{style.mark('fine')} ", ""
    for number, item in enumerate(items):
        end = " ·" if number + 1 < len(items) else ""
        if more and not _surely_fits(f"{line}{more}{item}{end}", style.width):
            yield line
            line, more = "  ", ""
        line, more = f"{line}{more}{item}{end}", " "
        if not _surely_fits(line, style.width):  # one item alone
            yield from _fitting(line, style, "  ")
            line, more = "  ", ""
    if line.strip():
        yield line


def _fitting(line: str, style: Style, indent: str) -> Iterable[str]:
    if _surely_fits(line, style.width):
        return (line,)
    from miyabi_healing.report.layout import wrapped

    return wrapped(line, style.width, "", indent)


def _surely_fits(line: str, width: int) -> bool:
    """Whether it fits however wide its letters are; what measures them is loaded where needed."""
    wide = sum(each > "\u10ff" and each not in "…→–✓✗" for each in line)
    return len(line) + wide <= width


def _has_more(document: Document) -> bool:
    row = document.get("quarantine")
    return bool(
        document["recovered"]
        or document["notes"]
        or document["errors"]
        or document.get("alerts")
        or (row and (row["things"] or row["purged"]))
    )


def closing(document: Document, style: Style) -> str:
    """What to do next, or that there is nothing."""
    bad = style.lead("bad")
    if document["errors"]:
        return f"{bad}What could not be checked is unknown, not healthy."
    if not document["overall_success"]:
        steps = [step for action in document["actions_taken"] for step in action["steps"]]
        if document["dry_run"] and any(step["status"] == "planned" for step in steps):
            hint = f"{style.lead('hint')}The same command without --dry-run carries this out"
            every = (
                "" if style.every_step or len(steps) < 2 else f"; -v shows all {len(steps)} steps"
            )
            return f"{hint}{every}."
        return f"{bad}Some issues remain: see above."
    good = style.lead("good")
    if document["issues_detected"]:  # what went away by itself, nobody has addressed
        by_us = any(action["status"] == "success" for action in document["actions_taken"])
        all_of_it = "All issues have been addressed successfully!"
        return f"{good}{all_of_it if by_us else 'Nothing is left to do.'}"
    return f"{good}Nothing to do."


def next_expiry(row: Mapping[str, Any]) -> str:
    """When the first thing leaves the quarantine, for people."""
    return expiry_text(row["next_expiry"], row.get("next_expiry_by"))
