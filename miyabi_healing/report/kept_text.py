"""What an action left alone, by why: first what a person must decide, with the command for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import flowed, wrapped
from miyabi_healing.report.step_text import names
from miyabi_healing.report.style import Style

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import KeptRow

_FEW = 3  # things of a reason that are each named where they are said shortly
_LONGEST = 80  # letters of a detail; all of them with -v
_WITH_WAY_OUT = 300  # of one that says what to do

_Groups = dict[str, list["KeptRow"]]


def kept_lines(kept: Sequence[KeptRow], style: Style, indent: str) -> Iterator[str]:
    """Grouped by reason; what is to be decided in the same way together."""
    if not kept:
        return
    inner, number = f"{indent}  ", _count(kept)
    if len(kept) == 1 and not kept[0].get("decide"):
        text = f"kept {number}: {_item(kept[0]['reason'], kept, '', style, '')}"
        yield from wrapped(text, style.width, indent, inner)
        return
    folder = _usual_folder(kept)
    place = f" in {home_folded(folder)}" if folder else ""
    decide = [each for each in kept if each.get("decide")]
    mine = f", {_count(decide)} of them for you to decide" if decide else ""
    yield from wrapped(f"kept {number}{place}{mine}:", style.width, indent, inner)
    for groups in _alike(decide):
        yield from _groups(groups, folder, style, inner)
        yield from _commands([row for rows in groups.values() for row in rows], style, inner)
    others = _by_reason([each for each in kept if not each.get("decide")])
    if style.every_step:
        yield from _groups(others, folder, style, inner)
    elif others:
        texts = [_shortly(reason, rows, folder, style) for reason, rows in others.items()]
        lead = f"{inner}as they are: " if decide else inner
        yield from flowed(texts, " · ", style.width, lead, f"{inner}  ")


def _count(kept: Sequence[KeptRow]) -> int:
    return sum(each["count"] for each in kept)


def _usual_folder(kept: Sequence[KeptRow]) -> str:
    """The folder that most of them lie in, empty where they share none."""
    folders = Counter(os.path.dirname(each["target"]) for each in kept if _is_path(each))
    (folder, times), *_ = folders.most_common(1) or [("", 0)]
    return folder if times > 1 and folder != "/" else ""


def _is_path(row: KeptRow) -> bool:
    return row["target"].startswith("/") and row["count"] == 1


def _name(row: KeptRow, folder: str) -> str:
    """A target, without the folder that is named for all."""
    if folder and _is_path(row) and os.path.dirname(row["target"]) == folder:
        return os.path.basename(row["target"])
    return home_folded(row["target"])


def _by_reason(kept: Sequence[KeptRow]) -> _Groups:
    """The most frequent reason first."""
    groups: _Groups = {}
    for each in kept:
        groups.setdefault(each["reason"], []).append(each)
    return dict(sorted(groups.items(), key=lambda item: -_count(item[1])))


def _alike(kept: Sequence[KeptRow]) -> list[_Groups]:
    """What the same command is for, but for its target, together."""
    alike: dict[str, list[KeptRow]] = {}
    for reason, rows in _by_reason(kept).items():
        for row in rows:
            same = row.get("command", "")
            for name in (row["target"], os.path.basename(row["target"])):
                same = same.replace(name, "…") if name else same
            same = same.replace("'…'", "…") or f" {reason}"
            alike.setdefault(same, []).append(row)
    return [_by_reason(rows) for rows in alike.values()]


def _groups(groups: _Groups, folder: str, style: Style, indent: str) -> Iterator[str]:
    for reason, rows in groups.items():
        deeper = f"{indent}  "
        if style.every_step:
            for row in rows:
                yield from wrapped(
                    _item(reason, [row], folder, style, f"{row['count']} "),
                    style.width, indent, deeper,
                )  # fmt: skip
        elif len(rows) <= _FEW or len({row["detail"] for row in rows}) > 1 == len(rows):
            text = _item(reason, rows, folder, style, f"{_count(rows)} ")
            yield from wrapped(text, style.width, indent, deeper)
        else:
            details = {row["detail"] for row in rows}
            same = f" – {_cut(rows[0], style)}" if len(details) == 1 and rows[0]["detail"] else ""
            yield from wrapped(f"{_count(rows)} {reason}{same}:", style.width, indent, deeper)
            yield from names([_name(row, folder) for row in rows], style, deeper)


def _item(reason: str, rows: Sequence[KeptRow], folder: str, style: Style, number: str) -> str:
    each = "; ".join(_with_detail(row, folder, style) for row in rows)
    return f"{number}{reason}: {each}"


def _with_detail(row: KeptRow, folder: str, style: Style) -> str:
    detail = _cut(row, style)
    return _name(row, folder) + (f" – {detail}" if detail else "")


def _cut(row: KeptRow, style: Style) -> str:
    """A detail, as much of it as is worth a line; the whole of one that stands for a command."""
    text = row["detail"]
    most = _WITH_WAY_OUT if row.get("decide") and not row.get("command") else _LONGEST
    if style.every_step or len(text) <= most:
        return text
    return f"{text[:most].rpartition(' ')[0].rstrip(' ,;:')} …"


def _commands(rows: Sequence[KeptRow], style: Style, indent: str) -> Iterator[str]:
    """What to type, never broken: for the first of them, or for all."""
    commands = list(dict.fromkeys(each["command"] for each in rows if each.get("command")))
    shown = commands if style.every_step else commands[:1]
    yield from (f"{indent}  {each}" for each in shown)
    if left := len(commands) - len(shown):
        other = "the other" if left == 1 else f"the other {left}"
        yield f"{indent}  (likewise for {other})"


def _shortly(reason: str, rows: Sequence[KeptRow], folder: str, style: Style) -> str:
    number = _count(rows)
    if len(rows) == 1:
        return f"{number} {reason} ({_with_detail(rows[0], folder, style)})"
    details = {row["detail"] for row in rows}
    same = _cut(rows[0], style) if len(details) == 1 else ""
    shown = ", ".join(_name(row, folder) for row in rows) if len(rows) <= _FEW else ""
    more = " – ".join(filter(None, (shown, same)))
    return f"{number} {reason}" + (f" ({more})" if more else "")
