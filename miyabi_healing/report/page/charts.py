"""The geometry of a value's course: pure functions from numbers to paths and places.

Pictures are stretched to the room they get, so a path is in whole units of WIDTH by HEIGHT, lines
keep their width (``vector-effect``), and labels stand beside it, at a per cent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from miyabi_healing.report.page.parts import Mark, Plot
from miyabi_healing.state.courses import Bucket, Course, Courses
from miyabi_healing.support.formatting import DAY, day_text

WIDTH, HEIGHT = 480, 120  # units; no screen shows a chart much wider
_ROOM = 1.12  # above the highest value or limit
_APART = 15  # per cent of the height between two labels
_GAP = 2.5  # usual intervals without a run: the line is broken
_STEPS = (
    *(60 * each for each in (10, 30, 60, 120, 180, 360, 720)),
    *(DAY * each for each in (1, 2, 4, 7, 14, 28, 56, 91, 182, 365)),
)  # seconds between labels of time
_MANY = 12  # heals: their lines would hide the course
_LABELS = 6  # of time, at most
_FIRST_LABEL, _LAST_LABEL = 0.08, 0.7  # parts of the width: the label of the end has the rest


def plot(course: Course, courses: Courses, until: float, text: Callable[[float], str]) -> Plot:
    """A course from the first run to `until`, which may be later than now: what is expected goes
    there. `text` words a value.
    """
    top = _top(course)
    span = max(until - courses.begin, 1)

    def x_of(moment: float) -> int:
        return round(WIDTH * min(max((moment - courses.begin) / span, 0), 1))

    def y_of(value: float) -> int:
        return round(HEIGHT * (1 - max(value, 0) / top))

    pieces, holes = _pieces(course.buckets, courses)
    points = [_points(piece, x_of, y_of) for piece in pieces]
    last = points[-1][-1] if points and points[-1] else None
    if last and course.value is not None and course.buckets[-1].known:
        last = (last[0], y_of(course.value))
        points[-1].append(last)
    return Plot(
        line="".join(map(_line, points)),
        area="".join(map(_area, points)),
        limit=Mark(_percent(1 - course.threshold / top), text(course.threshold)),
        ticks=tuple(_ticks(top, course, text)),
        heals=_heals({x_of(each.end) for each in course.buckets if each.healed}),
        holes=tuple(
            (_percent(x_of(begin) / WIDTH), _percent(max(x_of(end) - x_of(begin), 1) / WIDTH))
            for begin, end in holes
        ),
        end=(_percent(last[0] / WIDTH), _percent(last[1] / HEIGHT)) if last else None,
    )


def ahead(
    course: Course, courses: Courses, until: float, reached: float, band: tuple[float, float] | None
) -> tuple[str, tuple[float, float] | None]:
    """How a course goes on in the same picture: a path from its end to its limit, and where the
    `band` (earliest, latest) is, from and width in per cent.
    """
    top, span = _top(course), max(until - courses.begin, 1)

    def x_of(moment: float) -> float:
        return min(max((moment - courses.begin) / span, 0), 1)

    def point(moment: float, value: float) -> str:
        return f"{round(WIDTH * x_of(moment))} {round(HEIGHT * (1 - max(value, 0) / top))}"

    known = [each.end for each in course.buckets if each.known]
    path = ""
    if known and course.value is not None:
        path = f"M{point(known[-1], course.value)}L{point(reached, course.threshold)}"
    if not band:
        return path, None
    first, last = (100 * x_of(each) for each in band)
    return path, (round(first, 2), round(max(last - first, 1), 2))


def _heals(places: set[int]) -> str:
    """A line at each heal; of many, only the upper end."""
    down = HEIGHT if len(places) <= _MANY else HEIGHT // 12
    return "".join(f"M{x} 0V{down}" for x in sorted(places))


def _percent(part: float) -> float:
    return round(100 * part, 2)


def _top(course: Course) -> float:
    """What the picture's upper edge stands for: all values and the limit are below it."""
    highs = [each.high for each in course.buckets if each.high is not None]
    highest = max([course.threshold, *highs])
    return highest * _ROOM if highest > 0 else 1


def _pieces(
    buckets: Sequence[Bucket], courses: Courses
) -> tuple[list[list[Bucket]], list[tuple[float, float]]]:
    """What was measured without a break, and the times of the breaks, the one at the end too."""
    # two buckets may end so far from each other without anything missing in between
    patience = max(_GAP * courses.interval, courses.width) + courses.interval + 1
    pieces: list[list[Bucket]] = []
    holes: list[tuple[float, float]] = []
    before: float | None = None
    for each in buckets:
        if not each.known:
            continue
        if before is None or each.end - before > patience:
            holes += [(before, each.end)] if before is not None else []
            pieces.append([])
        pieces[-1].append(each)
        before = each.end
    if before is not None and courses.end - before > patience:
        holes.append((before, courses.end))
    return pieces, holes


def _points(
    piece: Sequence[Bucket], x_of: Callable[[float], int], y_of: Callable[[float], int]
) -> list[tuple[int, int]]:
    """Both ends of each bucket, the nearer one first, so that peaks stay."""
    points: list[tuple[int, int]] = []
    for each in piece:
        assert each.low is not None  # it is known
        assert each.high is not None
        x, ends = x_of(each.end), [y_of(each.low), y_of(each.high)]
        if points and abs(points[-1][1] - ends[1]) < abs(points[-1][1] - ends[0]):
            ends.reverse()
        for y in dict.fromkeys(ends):
            if len(points) > 1 and points[-1][1] == points[-2][1] == y:
                points[-1] = (x, y)  # a level line needs its ends alone
            elif not points or points[-1] != (x, y):
                points.append((x, y))
    return points


def _line(points: Sequence[tuple[int, int]]) -> str:
    (x, y) = points[0]
    return f"M{x} {y}{_steps(points) or 'h0'}"


def _area(points: Sequence[tuple[int, int]]) -> str:
    """The same down to the lower edge, closed."""
    x, y = points[0]
    return f"M{x} {HEIGHT}V{y}{_steps(points)}V{HEIGHT}z"


def _steps(points: Sequence[tuple[int, int]]) -> str:
    """Lines from each point to the next, written as short as SVG lets them be."""
    numbers = ""
    for (x, y), (next_x, next_y) in pairwise(points):
        for each in (next_x - x, next_y - y):
            numbers += f"{each}" if each < 0 or not numbers else f" {each}"
    return f"l{numbers}" if numbers else ""


def _ticks(top: float, course: Course, text: Callable[[float], str]) -> Iterator[Mark]:
    """Round values at the left, none where the limit's own label is."""
    limit = 100 * course.threshold / top
    step = _round_step(top / 3, course.unit)
    for number in range(int(top / step) + 1):
        height = 100 * number * step / top
        if abs(height - limit) >= _APART and height <= 100 - _APART / 3:
            yield Mark(round(100 - height, 2), text(number * step))


def _round_step(least: float, unit: str) -> float:
    """The smallest round number that is not less; of whole things, a whole one."""
    if unit == "s":
        minutes = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720, 1440, 2880, 10_080)
        found = next((60.0 * each for each in minutes if 60 * each >= least), 0)
        if found and least > 20:
            return found
    power = 10.0 ** math.floor(math.log10(least))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= least * 0.999)
    return max(step, 1) if not unit else step


def time_marks(begin: float, end: float) -> tuple[Mark, ...]:
    """Round local times along the lower edge, and its end; they do not touch each other on a
    narrow screen.
    """
    span = max(end - begin, 1)
    step = next((each for each in _STEPS if span / each <= _LABELS - 1), _STEPS[-1])
    then = time.localtime(begin)
    moment = time.mktime((then.tm_year, then.tm_mon, then.tm_mday, 0, 0, 0, 0, 0, -1))
    marks = []
    for number in range(round(span / step + 2 * DAY / step) + 2):
        at = _later(moment, number * step)
        part = (at - begin) / span
        if _FIRST_LABEL <= part <= _LAST_LABEL:
            marks.append(Mark(_percent(part), day_text(at) if step >= DAY else _clock(at)))
    last = day_text(end) if step >= DAY else _clock(end)
    return (*marks, Mark(100, last))


def _later(midnight: float, seconds: float) -> float:
    """So much later by the clock on the wall, which may be moved in between."""
    then = time.localtime(midnight)
    days, rest = divmod(int(seconds), DAY)
    parts = (then.tm_year, then.tm_mon, then.tm_mday + days, rest // 3600, rest % 3600 // 60)
    return time.mktime((*parts, 0, 0, 0, -1))


def _clock(moment: float) -> str:
    then = time.localtime(moment)
    return f"{then.tm_hour:02}:{then.tm_min:02}"
