"""What the ``why`` command shows: a JSON document (docs/worktrees.md), and the same for people."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import click

from miyabi_healing.model.explanation import Explanation, Place
from miyabi_healing.report.layout import wrapped
from miyabi_healing.support.formatting import printable, time_text, timestamp

_INDENT = "  "
_SECTIONS = (
    ("evidence", "what that rests on:"),
    ("changes", "what would change it:"),
    ("commands", "commands:"),
)
_GOOD = ("may go", "goes", "the next run", "is cleaned")


def would_go(verdict: str) -> bool:
    """Whether a verdict says that the next run may change the thing."""
    return verdict.startswith(_GOOD)


def _may_go(verdict: str) -> bool:
    return would_go(verdict.rpartition("; then: ")[2])


def build_explanations(
    word: str,
    found: Sequence[Explanation],
    place: Place | None,
    past: Sequence[Mapping[str, Any]] = (),
    last: Mapping[str, Any] | None = None,
    path: str = "",
) -> dict[str, Any]:
    """The document; every text in it is one printable line. `past` is as
    `miyabi_healing.state.verdicts` has it; `last` is the last run's report, which may have
    foreseen something of `path`.
    """
    document = {
        "timestamp": timestamp(),
        "asked": word,
        "explanations": [asdict(each) for each in found],
        "place": asdict(place) if place else None,
        "certain": all(each.certain for each in found),
        "past": list(past),
        "foreseen": _foreseen(last or {}, path),
    }
    made = printable(document)
    assert isinstance(made, dict)
    return made


def _foreseen(last: Mapping[str, Any], path: str) -> list[Any]:
    """What the last run foresaw of a path, or of what it is a cause of, is in or is around."""
    return [
        row
        for row in last.get("foreseen", ())
        if path and (row["target"] == path or any(_is_related(e, path) for e in row["causes"]))
    ]


def _is_related(cause: str, path: str) -> bool:
    """Whether a cause names a path that is this one, or lies in it or around it; the root is around
    everything, and tells nothing.
    """
    asked = PurePath(path)
    for word in re.findall(r"[~/][^\s,;:()]+", cause):
        named = PurePath(os.path.expanduser(word))
        above_root = named.is_absolute() and min(len(named.parts), len(asked.parts)) > 1
        if above_root and (named.is_relative_to(asked) or asked.is_relative_to(named)):
            return True
    return False


def _foreseen_lines(document: Mapping[str, Any], width: float) -> Iterator[str]:
    from miyabi_healing.report.foreseen_text import sentence

    for row in document["foreseen"]:
        text = f"The last run foresaw: {sentence(row, time.time())}."
        yield from wrapped(text, width, _INDENT, _INDENT * 2)


def _minute_of(row: Mapping[str, Any]) -> str:
    return time_text(row["timestamp"]).rpartition(":")[0]


def explanation_lines(document: dict[str, Any], width: float) -> Iterator[str]:
    """For people, in `width` columns."""
    for each in document["explanations"]:
        yield from wrapped(f"{each['target']} ({each['kind']})", width)
        first, *rest = wrapped(each["verdict"], width, _INDENT, _INDENT * 2)
        yield click.style(first, fg="green" if would_go(each["verdict"]) else "yellow")
        yield from rest
        for key, title in _SECTIONS:
            if each[key]:
                yield f"{_INDENT}{title}"
            for line in each[key]:
                if key == "commands":  # to be copied, so in one line however long
                    yield _INDENT * 2 + line
                else:
                    yield from wrapped(line, width, _INDENT * 2, _INDENT * 3)
    yield from _place_lines(document, width)
    if document["foreseen"]:
        yield from _foreseen_lines(document, width)
    if document["past"]:
        yield from wrapped("what earlier runs said:", width, _INDENT)
    for row in document["past"]:
        yield from wrapped(_past_text(row, document["asked"]), width, _INDENT * 2, _INDENT * 3)


def _past_text(row: Mapping[str, Any], asked: str) -> str:
    """``2026-01-31 12:00 (run …): kept: not merged``."""
    when = _minute_of(row)
    where = "" if row["exact"] else f" {row['target']}:"
    back = "; rolled back since" if row["rolled_back"] else ""
    why = ": ".join(each for each in (row["reason"], row["detail"]) if each)
    return f"{when} (run {row['run_id']}):{where} {row['verdict']}: {why}{back}"


def _place_lines(document: dict[str, Any], width: float) -> Iterator[str]:
    place = document["place"]
    if not place:
        if not document["explanations"]:
            yield from wrapped(f"{document['asked']}: nothing there now, nor in quarantine", width)
        return
    if not document["explanations"]:
        yield from wrapped(place["path"], width)
        what = "no worktree, git lock, log or known cache, and nothing of the quarantine's"
        yield from wrapped(f"is {what}: no healer touches it", width, _INDENT, _INDENT * 2)
    root = f", in the allowed folder {place['root']}" if place["root"] else ""
    # a worktree may go wherever it is: its repository is what has to be allowed
    if not root and not any(_may_go(each["verdict"]) for each in document["explanations"]):
        root = ", in no allowed folder"
    text = f"It lies on {place['filesystem']}{root}."
    yield from wrapped(text, width, _INDENT, _INDENT * 2)
    for note in place["notes"]:
        yield from wrapped(note, width, _INDENT, _INDENT * 2)
