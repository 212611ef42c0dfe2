"""GitHub Actions: annotations by workflow commands, and a summary of the job in Markdown.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator

import click

from miyabi_healing.report.outputs.output import Document, Problem, Told
from miyabi_healing.support import console
from miyabi_healing.support.formatting import display, plain

SUMMARY = "GITHUB_STEP_SUMMARY"
ROOM = 1 << 20  # bytes of summary that GitHub takes of one step
LEAST = 2000  # bytes of it that are worth beginning with
SHOWN = 10  # annotations of each kind that it shows of one step
LONGEST = 1000  # characters of an annotation, or of a cell
ICONS = {"error": "❌", "warning": "⚠️", "notice": "✅"}
CUT = "\n…and more than fits here: see the log.\n"


def tell(told: Told) -> None:
    """Print the annotations, and add to the job's summary. Raises Problem."""
    shown = dict.fromkeys(ICONS, 0)
    for kind, title, words in remarks(told.document):
        shown[kind] += 1
        if shown[kind] <= SHOWN:
            command = f"::{kind} title={escaped(title, ':,')}::{escaped(words)}"
            click.echo(command.encode("utf-8", "replace"), err=told.annotate == console.STDERR)
    if path := os.environ.get(SUMMARY):
        append(path, "".join(summary(told.document)))


def remarks(document: Document) -> Iterator[tuple[str, str, str]]:
    """Kind, title and words of each: what remains, what is unknown, what was healed."""
    for row in document["issues_detected"]:
        kind = (
            "notice"
            if row["healed"]
            else "error"
            if row["severity"] in ("high", "critical")
            else "warning"
        )
        unit = f" {row['unit']}" if row["unit"] else ""
        numbers = f"{figure(row['metric_value'])}{unit}, limit {figure(row['threshold'])}{unit}"
        done = [
            each["message"]
            for each in document["actions_taken"]
            if where(each, "issue") == where(row, "name")
        ]
        yield kind, name_of(row), "\n".join([f"{row['description']} ({numbers})", *done])
    for row in document["errors"]:
        yield "error", row["check"] or "Miyabi Healing", f"could not run: {row['message']}"


def where(row: Document, key: str) -> tuple[str, str]:
    return row[key], row["target"]


def name_of(row: Document) -> str:
    return f"{row['name']} {row['target']}".strip()


def figure(value: float) -> str:
    return plain(value).removesuffix(".0")


def escaped(text: str, also: str = "") -> str:
    """As the runner takes it back: per cent, line breaks, and in a property colon and comma."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(f"%{ord(each):02X}" if each in f"%\r\n{also}" else each for each in cut)


def fenced(words: str) -> str:
    """Output in which the runner is to see no commands, whatever names of files and the like are in
    it.
    """
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{words}::{token}::\n"


def summary(document: Document) -> Iterator[str]:
    """The summary of the job, in pieces that may each be the last."""
    yield f"### Miyabi Healing: {cell(document['summary'])}\n\n"
    if document["metrics"]:
        issues = {where(row, "name"): row for row in document["issues_detected"]}
        yield "| | check | value | limit |\n| --- | --- | ---: | ---: |\n"
        for row in document["metrics"]:
            issue = issues.get(where(row, "name"))
            icon = "📌" if row["outcome"] == "waived" else ""
            if issue:
                icon = ICONS["notice" if issue["healed"] else "error"]
            unit = f" {cell(row['unit'])}" if row["unit"] else ""
            yield f"| {icon} | {cell(name_of(row))} | {figure(row['value'])}{unit} | {figure(row['threshold'])}{unit} |\n"
        yield "\n"
    for kind, title, words in remarks(document):
        yield f"- {ICONS[kind]} **{cell(title)}**: {cell(words)}\n"
    for note in document["notes"]:
        yield f"- 📌 {cell(note)}\n"
    yield "\n"


def cell(text: str) -> str:
    """Words that are nothing but words in Markdown, on one line."""
    known = text[:LONGEST].encode("utf-8", "replace").decode()
    clean = " ".join("".join(each if each.isprintable() else " " for each in known).split())
    return re.sub(r"([!-&(-+:-@\[-`{-~])", r"\\\1", clean)


def append(path: str, words: str) -> None:
    """Add to a file as much as GitHub takes. Raises Problem."""
    try:
        with open(
            path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o644)
        ) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Problem(f"{SUMMARY} names {display(path)}, which is no file")
            room = ROOM - status.st_size
            if room < LEAST:
                raise Problem(f"the summary of this step is full: {display(path)}")
            file.write(fitting(words, room))
    except OSError as error:
        raise Problem(f"{display(path)}: {error.strerror}") from None


def fitting(words: str, room: int) -> bytes:
    """Whole lines, as many as there is room for."""
    whole = words.encode()
    if len(whole) <= room:
        return whole
    cut = whole[: room - len(CUT.encode())]
    return cut[: cut.rfind(b"\n") + 1] + CUT.encode()
