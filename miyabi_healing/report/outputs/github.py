"""GitHub Actions: annotations by workflow commands, and a summary of the job in Markdown.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.report.style import MARKS
from miyabi_healing.support import console
from miyabi_healing.support.formatting import display, plain_number

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

SUMMARY = "GITHUB_STEP_SUMMARY"
_LARGEST_SUMMARY = 1 << 20  # bytes of summary that GitHub takes of one step
_LEAST = 2000  # bytes of it that are worth beginning with
_SHOWN_ISSUES = 10  # annotations of each kind that it shows of one step
_LONGEST_ANNOTATION = 1000  # characters of an annotation, or of a cell
_ICONS = {"error": "❌", "warning": "⚠️", "notice": "✅"}
_CUT = "\n…and more than fits here: see the log.\n"


def send(given: OutputRequest) -> None:
    """Print the annotations, and add to the job's summary. Raises OutputError."""
    shown = dict.fromkeys(_ICONS, 0)
    for kind, title, words in _remarks(given.document):
        shown[kind] += 1
        if shown[kind] <= _SHOWN_ISSUES:
            command = f"::{kind} title={_escape_workflow(title, ':,')}::{_escape_workflow(words)}"
            click.echo(command.encode("utf-8", "replace"), err=given.annotate == console.STDERR)
    if path := os.environ.get(SUMMARY):
        _append(path, "".join(job_summary(given.document)))


def _remarks(document: Document) -> Iterator[tuple[str, str, str]]:
    """Kind, title and words of each: what remains, what is unknown, what was healed, what is
    foreseen.
    """
    for row in document["issues_detected"]:
        kind = (
            "notice"
            if row["healed"]
            else "error"
            if row["severity"] in ("high", "critical")
            else "warning"
        )
        unit = f" {row['unit']}" if row["unit"] else ""
        numbers = f"{_figure(row['metric_value'])}{unit}, limit {_figure(row['threshold'])}{unit}"
        done = [
            each["message"]
            for each in document["actions_taken"]
            if _where(each, "issue") == _where(row, "name")
        ]
        yield kind, _name_of(row), "\n".join([f"{row['description']} ({numbers})", *done])
    for title, words in _foreseen(document):
        yield "notice", title, words
    for error in document["errors"]:
        yield "error", error["check"] or "Miyabi Healing", f"could not run: {error['message']}"


def _foreseen(document: Document) -> Iterator[tuple[str, str]]:
    """Title and words of what has not occurred."""
    if document.get("foreseen"):
        from miyabi_healing.report.foreseen_text import sentences

        for words in sentences(document, "weekdays"):
            yield "foreseen", words


def _where(row: Mapping[str, Any], key: str) -> tuple[str, str]:
    return row[key], row["target"]


def _name_of(row: Mapping[str, Any]) -> str:
    return f"{row['name']} {row['target']}".strip()


def _figure(value: float) -> str:
    return plain_number(value).removesuffix(".0")


def _escape_workflow(text: str, also: str = "") -> str:
    """As the runner takes it back: per cent, line breaks, and in a property colon and comma."""
    cut = text if len(text) <= _LONGEST_ANNOTATION else f"{text[:_LONGEST_ANNOTATION]}…"
    return "".join(f"%{ord(each):02X}" if each in f"%\r\n{also}" else each for each in cut)


def fenced(words: str) -> str:
    """Output in which the runner is to see no commands, whatever names of files and the like are in
    it.
    """
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{words}::{token}::\n"


def job_summary(document: Document) -> Iterator[str]:
    """The summary of the job, in pieces that may each be the last."""
    yield f"### Miyabi Healing: {_cell(document['summary'])}\n\n"
    if document["metrics"]:
        issues = {_where(row, "name"): row for row in document["issues_detected"]}
        yield "| | check | value | limit |\n| --- | --- | ---: | ---: |\n"
        for row in document["metrics"]:
            issue = issues.get(_where(row, "name"))
            icon = "📌" if row["outcome"] == "waived" else ""
            if issue:
                icon = _ICONS["notice" if issue["healed"] else "error"]
            unit = f" {_cell(row['unit'])}" if row["unit"] else ""
            numbers = f"{_figure(row['value'])}{unit} | {_figure(row['threshold'])}{unit}"
            yield f"| {icon} | {_cell(_name_of(row))} | {numbers} |\n"
        yield "\n"
    foreseen = list(_foreseen(document))
    for kind, title, words in _remarks(document):
        icon = MARKS["foreseen"].emoji if (title, words) in foreseen else _ICONS[kind]
        yield f"- {icon} **{_cell(title)}**: {_cell(words)}\n"
    for note in document["notes"]:
        yield f"- 📌 {_cell(note)}\n"
    yield "\n"


def _cell(text: str) -> str:
    """Words that are nothing but words in Markdown, on one line."""
    known = text[:_LONGEST_ANNOTATION].encode("utf-8", "replace").decode()
    clean = " ".join("".join(each if each.isprintable() else " " for each in known).split())
    return re.sub(r"([!-&(-+:-@\[-`{-~])", r"\\\1", clean)


def _append(path: str, words: str) -> None:
    """Add to a file as much as GitHub takes. Raises OutputError."""
    try:
        with open(
            path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o644)
        ) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{SUMMARY} names {display(path)}, which is no file")
            room = _LARGEST_SUMMARY - status.st_size
            if room < _LEAST:
                raise OutputError(f"the summary of this step is full: {display(path)}")
            file.write(_fitting(words, room))
    except OSError as error:
        raise OutputError(f"{display(path)}: {error.strerror}") from None


def _fitting(words: str, room: int) -> bytes:
    """Whole lines, as many as there is room for."""
    whole = words.encode()
    if len(whole) <= room:
        return whole
    cut = whole[: room - len(_CUT.encode())]
    return cut[: cut.rfind(b"\n") + 1] + _CUT.encode()
