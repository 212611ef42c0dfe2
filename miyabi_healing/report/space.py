"""What takes a filesystem's space: the ``space`` command's document (docs/space.md) and its lines
for people, and the lines of a healing run that was not enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from miyabi_healing.model.space import SpacePicture
from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import padded, unbroken, wrapped
from miyabi_healing.report.style import current
from miyabi_healing.support.files import MEGABYTE
from miyabi_healing.support.formatting import printable, size_text, timestamp
from miyabi_healing.support.invocation import own_command

_COLOURS = {"can go": "green", "costly": "yellow", "a person's": "cyan"}
_GAP, _INDENT = "  ", "    "
_LONGEST = 160  # letters of a path that is only mentioned
_LISTS = {
    "snapshots": "Snapshots, which keep what was in them",
    "unread": "Could not be read",
    "outside": "On other filesystems",
}
_NAMED = 5  # of folders that could not be read, and the like
_LEAST_TOLD = 0.01  # of what is used: less that is not explained is metadata


def build_space(pictures: Sequence[SpacePicture], unknown: Sequence[str]) -> dict[str, Any]:
    """The document; every text in it is one printable line."""
    document = {
        "timestamp": timestamp(),
        "filesystems": [asdict(each) for each in pictures],
        "unknown": list(unknown),
    }
    made = printable(document)
    assert isinstance(made, dict)
    return made


def space_lines(document: Mapping[str, Any], width: float) -> Iterator[str]:
    """For people, in `width` columns."""
    for number, each in enumerate(document["filesystems"]):
        if number:
            yield ""
        yield from _picture(each, width)
    for each in document["unknown"]:
        yield from wrapped(each, width, current().lead("bad"), _INDENT)


def _picture(row: Mapping[str, Any], width: float) -> Iterator[str]:
    name = f" ({row['filesystem']})" if row["filesystem"] else ""
    where, total = row["path"], f"{size_text(row['seen_bytes'])} in {row['seen_files']:,} files"
    if not row["whole"]:
        where = f"{where}: {total}; its filesystem"
    used = f"{size_text(row['used'])} of {size_text(row['size'])} used, {row['percent']:.1f} %"
    parts = [used, f"{size_text(row['free'])} free"]
    parts += [f"{size_text(row['reserved'])} kept for root"] if row["reserved"] else []
    if row["short"] == "files" or row["inodes_percent"] > row["percent"]:
        parts.append(f"{row['inodes_percent']:.1f} % of the inodes used")
    yield from wrapped(f"{where}{name}: {', '.join(parts)}", width, "", _INDENT)
    yield from _table(row["rows"], row["short"], width)
    yield from (line for text in _remarks(row) for line in wrapped(text, width, "", _INDENT))


def _table(rows: Sequence[Mapping[str, Any]], short: str, width: float) -> Iterator[str]:
    cells = [(_size(row), f"{row['files']:,}") for row in rows]
    first = max((len(each[0]) for each in cells), default=0)
    second = max((len(each[1]) for each in cells), default=0) + len(" files")
    for row, (size, files) in zip(rows, cells, strict=True):
        numbers = [padded(size, first, right=True), padded(f"{files} files", second, right=True)]
        lead = _GAP + _GAP.join(reversed(numbers) if short == "files" else numbers) + _GAP
        first_line, *rest = wrapped(_words(row), width, lead, _INDENT * 2)
        before, kind, after = first_line.partition(_kind(row))
        yield before + click.style(kind, fg=_COLOURS.get(row["verdict"])) + after
        yield from rest


def _size(row: Mapping[str, Any]) -> str:
    return f"{'≥ ' if row['at_least'] else ''}{size_text(row['bytes'])}"


def _kind(row: Mapping[str, Any]) -> str:
    return f"[{row['verdict']}]"


def _words(row: Mapping[str, Any]) -> str:
    besides = " (all but the others named here)" if row.get("besides") else ""
    what = f": {row['what']}" if row["what"] else ""
    return f"{_kind(row)} {home_folded(row['path'])}{besides}{what}"


def _remarks(row: Mapping[str, Any]) -> Iterator[str]:
    if row["stopped"]:
        yield f"There may be more of each: {row['stopped']}."
    by = "files" if row["short"] == "files" else "bytes"
    kinds = sorted(row["kinds"], key=lambda each: -each[by])
    if kinds := [each for each in kinds if each["bytes"] >= row["seen_bytes"] * _LEAST_TOLD]:
        together = (
            f"{each['folders']} × {each['name']} {size_text(each['bytes'])}"
            for each in kinds[:_NAMED]
        )
        yield f"In all places together: {', '.join(together)}"
    if row["deleted_bytes"] >= MEGABYTE:
        holders = "; ".join(
            f"{each['name']} (pid {each['pid']}) {size_text(each['bytes'])}"
            for each in row["deleted"][:_NAMED]
        )
        yield (
            f"Deleted, but still open: {size_text(row['deleted_bytes'])}, free once these have "
            f"closed them or ended: {holders}{_more(row['deleted'])}"
        )
    if held := row["quarantine_bytes"]:
        yield f"In quarantine: {size_text(held)} ({unbroken(f'{own_command()} quarantine list')})"
    yield from (f"{note[:1].upper()}{note[1:]}" for note in row["notes"])
    if row["unexplained"] is not None and row["unexplained"] > row["used"] * _LEAST_TOLD:
        yield f"Not found in any folder: {size_text(row['unexplained'])}; {_where_else(row)}"
    for key, text in _LISTS.items():
        if row[key]:
            named = ", ".join(_shortened(each) for each in row[key][:_NAMED])
            yield f"{text}: {named}{_more(row[key])}"


def _where_else(row: Mapping[str, Any]) -> str:
    places = ["what is in folders that could not be read"] if row["unread"] else []
    if count := row["unseen"]:
        places.append(f"deleted files of {count} processes that could not be looked into (as root)")
    return ", ".join(
        (
            *places,
            "the filesystem's own records",
            "snapshots",
            "or files below a folder that something is mounted on",
        )
    )


def _shortened(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST // 2]}…{path[-_LONGEST // 2 :]}"


def _more(every: Sequence[object]) -> str:
    return f", and {len(every) - _NAMED} more" if len(every) > _NAMED else ""


def detail_lines(details: Mapping[str, Any]) -> Iterator[str]:
    """What a healing run's report says of a filesystem that stays too full."""
    rows, glance = _rows(details, "largest_folders"), details.get("glance")
    glance = glance if isinstance(glance, dict) else {}
    by = "files" if glance.get("by") == "files" else "space"
    if rows:
        command = unbroken(f"{own_command()} space {glance.get('path', '')}")
        told = "" if glance.get("whole", True) else (
            f", by a glance at {glance.get('entries', 0):,} entries "
            f"({command} looks at all)"
        )  # fmt: skip
        yield f"     What takes most {by}{told}:"
        for row in rows:
            yield f"       {_amount(row, by)}  {_words(row)}"
    for row in _rows(details, "deleted_but_open"):
        holder = f"{row['name']} (pid {row['pid']})"
        yield f"     Deleted, but held open by {holder}: {size_text(row['bytes'])}"
    for note in glance.get("notes", ()):
        yield f"     {note[:1].upper()}{note[1:]}"


def named_folders(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The largest folders that a report's details have, as far as they have our form."""
    return _rows(details, "largest_folders")


def _rows(details: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Rows that any healer may have under that key, as long as they have our form."""
    wanted = {"largest_folders": ("path", "verdict", "what", "bytes", "files", "at_least")}
    keys = wanted.get(key, ("name", "pid", "bytes"))
    rows = details.get(key, ())
    if not isinstance(rows, (list, tuple)):
        return []
    return [row for row in rows if isinstance(row, dict) and all(each in row for each in keys)]


def _amount(row: Mapping[str, Any], by: str) -> str:
    count = row["files"] if by == "files" else row["bytes"]
    guess = row.get("estimate") or math.nan
    text = (lambda n: f"{n:,.0f} files") if by == "files" else size_text
    if not row["at_least"]:
        return text(count)
    return f"at least {text(count)}" + (f", about {text(guess)}" if guess == guess else "")
