"""One frame of the live view, as lines for a screen of some size. Draws nothing itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import click

from miyabi_healing.report.check_states import BAD, CheckState, Key, Kind, counts
from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.layout import end_of_path, padded, wrapped
from miyabi_healing.report.sparkline import over_limit, sparkline
from miyabi_healing.report.style import MARKS, TO_ASCII

_TABLE_FROM = 72  # columns; narrower screens have two lines a check
_NAME, _WHERE, _COURSE = 24, 8, 8  # columns: at most, at least, at least
_DETAIL_LINES = 2  # of why nothing was done; the report has it all
_MARKS = {
    Kind.OVER: ("✗", "red"),
    Kind.UNKNOWN: ("?", "yellow"),
    Kind.WAITS: ("–", "yellow"),
    Kind.HEALED: ("✓", "green"),
    Kind.WAIVED: ("–", ""),
    Kind.WITHIN: ("✓", "green"),
}
_SEVERITIES = ("critical", "high", "medium", "low", "")

Look = str  # "bold", "dim", a colour, or empty
Line = list[tuple[str, Look]]


@dataclass(frozen=True)
class Picture:
    """What there is to show. `last` and `next` are when the last run was and the next one is, in
    words; `healed` is when a check was healed last, where that was lately; `done` is what the last
    runs did, the newest at the end; `foreseen` are sentences, the next first.
    """

    host: str
    summary: str
    last: str = ""
    next: str = ""
    states: Sequence[CheckState] = ()
    courses: Mapping[Key, Sequence[float | None]] = field(default_factory=dict)
    healed: Mapping[Key, str] = field(default_factory=dict)
    done: Sequence[str] = ()
    complaint: str = ""
    blocks: bool = True
    foreseen: Sequence[str] = ()

    @property
    def dots(self) -> str:
        return "…" if self.blocks else "..."


def draw_frame(picture: Picture, width: int, height: float = math.inf) -> list[Line]:
    """The lines of a frame: none is wider than `width`, and not more than `height` of them. What
    does not fit is counted.
    """
    ordered = sorted(picture.states, key=lambda each: (*_rank(each, picture), each.label))
    head, tail = _head(picture, width, 2), _tail(picture, width, 5, 2)
    rows = _rows(ordered, picture, width, details=True)
    titles = [_titles(ordered, picture, width)] if ordered and width >= _TABLE_FROM else []
    gap: list[Line] = [[]]
    whole = [*head, *gap, *titles, *_flat(rows), *(gap if tail else ()), *tail]
    if len(whole) <= height:
        return whole
    head, tail = _head(picture, width, 1), _tail(picture, width, 1, 1)
    for details in (True, False):
        rows = _rows(ordered, picture, width, details)
        if len(close := [*head, *_flat(rows), *tail]) <= height:
            return close
    if height <= len(head) + len(tail) + 2:  # what counts is how many checks stand how
        return [_cut([(counts(ordered), "")], width), *head[-1:]][: max(int(height), 1)]
    fitting = int(height) - len(head) - len(tail) - 1
    left = ordered[fitting:]
    more = f"{picture.dots} and {len(left)} more: {counts(left)}"
    return [*head, *_flat(rows[:fitting]), _cut([(more, "dim")], width), *tail]


def render_line(line: Line, colour: bool, blocks: bool = True) -> str:
    """A line as it is written to the terminal."""
    text = "".join(
        _styled(words, style) if colour and style and words else words for words, style in line
    )
    return text if blocks else text.translate(TO_ASCII)


def _styled(words: str, style: Look) -> str:
    if style in ("bold", "dim"):
        return click.style(words, bold=style == "bold" or None, dim=style == "dim" or None)
    return click.style(words, fg=style)


def _head(picture: Picture, width: int, most: int) -> list[Line]:
    """Whose view it is, what the last run came to in at most so many lines, and the times."""
    title: Line = [("Miyabi Healing", "bold"), (f" on {picture.host}", "")]
    summary = _shortened(picture.summary, width, "", most, picture)
    joined = " · ".join(filter(None, (picture.last, picture.next)))
    times = [joined] if len(joined) <= width else [picture.last, picture.next]
    return [
        *([_cut(title, width)] if most > 1 else []),
        *([(each, "")] for each in summary),
        *(_cut([(each, "dim")], width) for each in (times if most > 1 else times[-1:])),
    ]


def _tail(picture: Picture, width: int, most: int, lines: int) -> list[Line]:
    """What is foreseen, the last things that were done, and what went wrong: at most so many of
    each, in at most so many lines.
    """
    done = [_cut([(each, "")], width, picture.dots) for each in list(picture.done)[-most:]]
    wrong = _shortened(picture.complaint, width, "", lines, picture) if picture.complaint else []
    return [*_foreseen(picture, width, most, lines), *done, *([(each, "red")] for each in wrong)]


def _foreseen(picture: Picture, width: int, most: int, lines: int) -> list[Line]:
    """No failures, so in no colour."""
    mark, found = MARKS["foreseen"].plain, list[Line]()
    number = len(picture.foreseen)
    for text in picture.foreseen[:most]:
        said = f"{number} foreseen: {text}" if number > most else text
        first, *rest = _shortened(said, width, "  ", lines, picture)
        found += [[(f"{mark} {first[2:]}", "")], *([(each, "")] for each in rest)]
        number = most
    return found


def _value(state: CheckState) -> str:
    """``12 of 50 MB``, also where it was healed: the course shows what it was."""
    return f"{state.now} of {state.limit}" if state.now else ""


def _rank(state: CheckState, picture: Picture) -> tuple[int, int]:
    kind = Kind.HEALED if state.key in picture.healed and state.kind == Kind.WITHIN else state.kind
    severity = _SEVERITIES.index(state.severity) if state.severity in _SEVERITIES else 0
    return list(Kind).index(kind), severity


def _words(state: CheckState, picture: Picture) -> str:
    """The state in words; a colour only repeats it."""
    when = picture.healed.get(state.key)
    if when and state.kind in (Kind.HEALED, Kind.WITHIN):
        return f"healed {when}"
    return state.kind.value


def _rows(
    states: Sequence[CheckState], picture: Picture, width: int, details: bool
) -> list[list[Line]]:
    """The lines of each check. Without `details`, one line a check."""
    if width >= _TABLE_FROM:
        columns = _columns(states, picture, width)
        return [_table_row(each, picture, width, columns, details) for each in states]
    return [_narrow_row(each, picture, width, details) for each in states]


@dataclass(frozen=True)
class _Columns:
    """How wide each column of the table is."""

    name: int
    where: int
    now: int
    limit: int
    course: int
    words: int

    @property
    def end(self) -> int:
        where = self.where + 2 if self.where else 0
        return 2 + self.name + 2 + where + self.now + 2 + self.limit + 2 + self.course + 2


def _columns(states: Sequence[CheckState], picture: Picture, width: int) -> _Columns:
    name = min(max((len(each.name) for each in states), default=0), _NAME)
    now = max([3, *(len(each.now) for each in states)])
    limit = max([5, *(len(each.limit) for each in states)])
    words = max([5, *(len(_words(each, picture)) for each in states)])
    where = max((len(home_folded(each.target)) for each in states), default=0)
    rest = width - (2 + name + 2 + now + 2 + limit + 2 + 2 + words)
    longest = max((len(course) for course in picture.courses.values()), default=0)
    where = min(where, max(rest * 3 // 5 - 2, rest - 2 - longest, _WHERE))
    course = min(max(longest, _COURSE), max(rest - bool(where) * (where + 2), _COURSE))
    return _Columns(name, where, now, limit, course, words)


def _titles(states: Sequence[CheckState], picture: Picture, width: int) -> Line:
    columns = _columns(states, picture, width)
    where = f"{padded('where', columns.where)}  " if columns.where else ""
    numbers = (("now", columns.now), ("limit", columns.limit), ("course", columns.course))
    right = "  ".join(padded(name, size, right=True) for name, size in numbers)
    text = f"  {padded('check', columns.name)}  {where}{right}  state"
    return _cut([(text, "dim")], width)


def _table_row(
    state: CheckState, picture: Picture, width: int, columns: _Columns, details: bool
) -> list[Line]:
    sign, colour = _MARKS[state.kind]
    dots = picture.dots
    target = end_of_path(home_folded(state.target), columns.where, dots)
    where = f"{padded(target, columns.where)}  " if columns.where else ""
    words = _words(state, picture)
    line: Line = [
        (f"{sign} ", colour),
        (f"{padded(_clip(state.name, columns.name, dots), columns.name)}  {where}", ""),
        (f"{padded(state.now, columns.now, right=True)}", colour if state.kind in BAD else ""),
        (f"  {padded(state.limit, columns.limit, right=True)}  ", ""),
        *_course(state, picture, columns.course, fill=True),
        ("  ", ""),
        (words, colour),
    ]
    room = width - columns.end - len(words) - 2
    if details and state.detail and len(state.detail) <= room:
        return [[*line, (f"  {state.detail}", "")]]
    return [_cut(line, width), *(_details(state, picture, width) if details else [])]


def _narrow_row(state: CheckState, picture: Picture, width: int, details: bool) -> list[Line]:
    sign, colour = _MARKS[state.kind]
    mark = (f"{sign} ", colour)
    if not details:
        end = f" {_value(state) or state.kind.value}"
        label = _clip(state.label, width - 2 - len(end), picture.dots)
        return [[mark, (padded(label, width - 2 - len(end)), ""), (end, colour)]]
    target = end_of_path(home_folded(state.target), width - 3 - len(state.name), picture.dots)
    words, value = _words(state, picture), _value(state)
    room = width - 2 - len(value) - len(words) - 3
    line: Line = [
        ("  ", ""),
        (f"{value} " if value else "", colour if state.kind in BAD else ""),
        *_course(state, picture, min(room, 24)),
        (" ", ""),
        (words, colour),
    ]
    name = [mark, (f"{state.name} {target}".rstrip(), "")]
    return [_cut(name, width), _cut(line, width), *_details(state, picture, width)]


def _course(state: CheckState, picture: Picture, width: int, fill: bool = False) -> Line:
    """The bars; those over the limit are red, and higher than any below it."""
    bars = sparkline(picture.courses.get(state.key, ()), state.threshold, width, picture.blocks)
    found: Line = [(" " * (width - len(bars)), "")] if fill else []
    for bar in bars:
        style = "red" if over_limit(bar) else "dim"
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + bar, style)
        else:
            found.append((bar, style))
    return found


def _details(state: CheckState, picture: Picture, width: int) -> list[Line]:
    if not state.detail or state.kind not in BAD:
        return []
    lines = _shortened(state.detail, width, "    ", _DETAIL_LINES, picture)
    return [[(each, "")] for each in lines]


def _shortened(text: str, width: int, lead: str, most: int, picture: Picture) -> list[str]:
    """A text in at most so many lines; what is left out is marked."""
    lines = list(wrapped(text, width, lead, lead))
    if len(lines) <= most:
        return lines
    last = f"{lines[most - 1]} {lines[most].strip()}"
    return [*lines[: most - 1], _clip(last, width, picture.dots, cut=True)]


def _clip(text: str, width: int, dots: str, cut: bool = False) -> str:
    """The beginning of a text that fits; `cut` is whether something was left out already."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width and not cut:
        return text
    return set_cell_size(text, max(width - len(dots), 0)).rstrip() + dots[: max(width, 0)]


def _cut(line: Line, width: int, dots: str = "") -> Line:
    """A line without what does not fit."""
    from rich.cells import cell_len

    found: Line = []
    for text, style in line:
        if cell_len(text) > width:
            found.append((_clip(text, width, dots), style))
            break
        found.append((text, style))
        width -= cell_len(text)
    return found


def _flat(rows: Iterable[Sequence[Line]]) -> list[Line]:
    return [line for row in rows for line in row]
