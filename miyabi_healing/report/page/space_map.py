"""What took the space, from a report's details: cells of a treemap, and the same as rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_healing.report.page.parts import GOOD, OWN, QUIET, WARN, Cell, Folder, Space
from miyabi_healing.report.page.treemap import squarify
from miyabi_healing.report.page.words import place
from miyabi_healing.report.space import named_folders
from miyabi_healing.support.formatting import display, size_text

_TONES = {"can go": GOOD, "costly": WARN, "a person's": OWN}
_MOST = 16  # cells; smaller ones could not be told apart
_SHAPE = (640, 320)  # between that on a wide screen and that on a narrow one
_WIDE, _NARROW, _HEIGHT = 640, 320, 320  # pixels, at least
_LETTER, _PADDING, _LINES = 7.4, 16, 44  # pixels of a label


def space_of(document: Mapping[str, Any], when: str) -> Space | None:
    """What the last action that looked at a full filesystem saw; None where none did."""
    for action in document.get("actions_taken", ()):
        details = action.get("details", {})
        if rows := named_folders(details):
            return _space(rows, details, action, when)
    return None


def _space(
    rows: Sequence[Mapping[str, Any]],
    details: Mapping[str, Any],
    action: Mapping[str, Any],
    when: str,
) -> Space:
    glance = details.get("glance")
    glance = glance if isinstance(glance, dict) else {}
    by = "files" if glance.get("by") == "files" else "bytes"
    sized = sorted(((_amount(row, by), row) for row in rows), key=lambda each: -each[0])
    sized = [(amount, row) for amount, row in sized if amount > 0][:_MOST]
    areas = squarify([amount for amount, _ in sized], *_SHAPE)
    cells = [
        _cell(row, by, area.x, area.y, area.width, area.height)
        for (_, row), area in zip(sized, areas, strict=True)
    ]
    return Space(
        where=place(glance.get("path") or action.get("target", "")),
        when=when,
        cells=tuple(cells),
        folders=tuple(_folder(row, by) for _, row in sized),
        notes=tuple(display(each) for each in glance.get("notes", ())),
    )


def _amount(row: Mapping[str, Any], by: str) -> float:
    return float(row.get("estimate") or row[by] or 0)


def _text(row: Mapping[str, Any], by: str) -> str:
    text = f"{row['files']:,} files" if by == "files" else size_text(row["bytes"])
    return f"≥ {text}" if row["at_least"] else text


def _folder(row: Mapping[str, Any], by: str) -> Folder:
    return Folder(
        size=_text(row, by),
        path=place(row["path"]),
        verdict=display(row["verdict"]),
        what=display(row["what"]),
        tone=_TONES.get(row["verdict"], QUIET),
    )


def _cell(row: Mapping[str, Any], by: str, x: float, y: float, width: float, height: float) -> Cell:
    path, size = display(row["path"]), _text(row, by)
    name = os.path.basename(path.rstrip("/")) or path
    across, down = width / _SHAPE[0], height / _SHAPE[1]
    needed = max(len(name), len(size)) * _LETTER + _PADDING
    high = down * _HEIGHT >= _LINES
    return Cell(
        x=round(100 * x / _SHAPE[0], 2),
        y=round(100 * y / _SHAPE[1], 2),
        width=round(100 * across, 2),
        height=round(100 * down, 2),
        name=name,
        size=size,
        tone=_TONES.get(row["verdict"], QUIET),
        wide=high and needed <= across * _WIDE,
        narrow=high and needed <= across * _NARROW,
    )
