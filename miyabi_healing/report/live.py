"""What watch mode shows: a live view on a terminal, lines for logs elsewhere, one document a line
for programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import text
from miyabi_healing.support import console, formatting

if TYPE_CHECKING:
    from rich.table import Table

    from miyabi_healing.report.document_types import Document

_BARS = "▁▂▃▄▅▆▇█"
_REMEMBERED = 24  # values of each metric that are drawn
Show = Callable[["Document", int, float], None]


@contextlib.contextmanager
def showing(as_json: bool, quiet: bool, lines: bool = False) -> Iterator[Show]:
    """The way to show a run: its document, its exit status, and how many seconds it is to the next
    one. With `lines`, no view that stays in its place: others write to the terminal as well.
    """
    if as_json:
        yield lambda document, _code, _wait: write_live(json.dumps(document))
    elif sys.stdout.isatty() and not (quiet or lines) and os.environ.get("TERM") != "dumb":
        with _view() as show:
            yield show
    else:
        yield lambda document, code, wait: write_live(plain_report(document, code, wait, quiet))


def write_live(words: str) -> None:
    if words:
        click.echo(words.rstrip("\n").encode(sys.stdout.encoding or "utf-8", "replace"))


def plain_report(document: Document, code: int, wait: float, quiet: bool) -> str:
    """A line while all is well, the whole report when it is not; with `quiet`, nothing while all is
    well. With `quiet` and in systemd's journal, a line where it is what the last run has said.
    """
    journal = console.is_journal(console.STDOUT)
    if "unchanged" in document and (quiet or journal):
        from miyabi_healing.report import unchanged

        if not unchanged.is_news(document):
            words = unchanged.line(document)
            return console.marked(words, console.WARNING) if journal else words
    if code != ExitCode.HEALTHY or document["issues_detected"]:
        return text.render_report(document, False, journal)
    when = formatting.time_text(document["timestamp"])
    line = f"{when} {document['summary']} Next run in {wait:.0f} s."
    return "" if quiet else console.marked(line, console.INFO) if journal else line


@contextlib.contextmanager
def _view() -> Iterator[Show]:
    """A table that stays in its place: each metric against its limit, its recent course, the last
    actions, the next run.
    """
    from rich.console import Console
    from rich.live import Live

    courses: dict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
    actions: deque[str] = deque(maxlen=5)
    with Live(console=Console(), auto_refresh=False) as live:

        def show(document: Document, _code: int, wait: float) -> None:
            for metric in document["metrics"]:
                courses[metric["name"], metric["target"]].append(metric["value"])
            when = document["timestamp"].split("T")[1]
            actions.extend(
                f"{when} {each['action']}: {each['message']}" for each in document["actions_taken"]
            )
            live.update(_table(document, courses, list(actions), wait), refresh=True)

        yield show


def _table(
    document: Document,
    courses: dict[tuple[str, str], deque[float]],
    actions: list[str],
    wait: float,
) -> Table:
    from rich.markup import escape
    from rich.table import Table

    due = formatting.timestamp(time.time() + wait).split("T")[1]
    found = Table(
        title=escape(document["summary"]),
        caption=escape("\n".join([*actions, f"next run at {due}"])),
        expand=True,
    )
    found.add_column("check", no_wrap=True)
    found.add_column("target", overflow="fold")
    for name in ("value", "limit"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("course", no_wrap=True)
    for metric in document["metrics"]:
        over = metric["value"] > metric["threshold"]
        colour = "red" if over else "green"
        unit = f" {metric['unit']}" if metric["unit"] else ""
        value, limit = (
            f"{formatting.plain_number(metric[key])}{escape(unit)}"
            for key in ("value", "threshold")
        )
        course = spark(courses[metric["name"], metric["target"]], metric["threshold"])
        found.add_row(
            escape(metric["name"]), escape(metric["target"]), f"[{colour}]{value}[/]", limit, course
        )
    for error in document["errors"]:
        found.add_row(
            escape(error["check"] or "all checks"),
            "",
            "[red]unknown[/]",
            "",
            escape(error["message"]),
        )
    return found


def spark(values: deque[float], threshold: float) -> str:
    """The course of a metric; the highest bar is its limit, or what went over it."""
    top = max([threshold, *values]) or 1
    return "".join(
        _BARS[min(int(max(value, 0) / top * (len(_BARS) - 1)), len(_BARS) - 1)] for value in values
    )
