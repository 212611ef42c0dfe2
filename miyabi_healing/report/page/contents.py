"""Everything that the page says, from the journal, the last reports and the quarantine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from miyabi_healing import __version__
from miyabi_healing.model.config import Config
from miyabi_healing.report.page import charts, words
from miyabi_healing.report.page.deeds import read_deeds
from miyabi_healing.report.page.held import quarantine_rows
from miyabi_healing.report.page.kept import kept_groups
from miyabi_healing.report.page.parts import Ahead, Chart, Page, Space, Why
from miyabi_healing.report.page.space_map import space_of
from miyabi_healing.report.page.state_now import lines, state_of, tiles, verdict
from miyabi_healing.report.status import Service, StatusDocument, build_status
from miyabi_healing.state import history, quarantine, reports, run_clock
from miyabi_healing.state.courses import Course, Courses, Heal, read_courses
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import DAY, day_text, display, duration_text, interval_text
from miyabi_healing.support.invocation import own_command

_BUCKETS, _FEWEST = 240, 48  # of a course: with many of them, each has less of the page
_FULL = 12  # courses with all of them
_MOST_CHARTS = 60
_LATELY = 20  # usual intervals, and two days: what was not measured since is not any more
_LOOKED_BACK = 8  # runs with issues whose reports are looked at for what was kept


def build_page(
    journal: Journal | None,
    document: Mapping[str, Any] | None,
    state: Path,
    config: Config,
    now: float,
    services: Sequence[Service] = (),
) -> Page:
    """The page as of `now`. `document` is the report of the run that has just ended; None for the
    last one that the journal has. `services` are what begins runs. Raises sqlite3.Error.
    """
    known = journal if journal and journal.version >= 3 else None
    program = own_command()
    courses = _courses(known, config, now) if known else Courses(now, now)
    if document is None and known:
        document = reports.latest(known)
    moment = journal.now() if journal else run_clock.unknown_moment()
    entries = quarantine.find_entries(state)
    status = build_status(journal, state, config, services)
    looked = _looked(known, document) if known else []
    kept = kept_groups((each for _, each in looked), program)
    held = quarantine_rows(entries, config.quarantine, moment, program)
    values, gone = _shown(courses)
    return Page(
        host=display((document or {}).get("host") or os.uname().nodename),
        made=words.moment(now),
        checked=_checked(courses, now),
        verdict=verdict(document, status, courses, program),
        lines=tuple(lines(document, status, program, now)),
        tiles=tiles(values, courses, held, kept),
        ahead=_ahead(known, document, status, now),
        whys=_whys(document),
        charts=tuple(_chart(each, courses) for each in values[:_MOST_CHARTS]),
        times=charts.time_marks(courses.begin, courses.end),
        span=words.span_text(courses.end - courses.begin),
        unshown=(*map(_name, values[_MOST_CHARTS:]), *gone),
        space=_space(looked, now),
        deeds=read_deeds(known, entries, program, now) if known else (),
        kept=kept,
        kept_when=looked[0][0] if looked else "",
        quarantine=held,
        program=program,
        version=__version__,
    )


def _ahead(
    journal: Journal | None, document: Mapping[str, Any] | None, status: StatusDocument, now: float
) -> tuple[Ahead, ...]:
    """What the last run foresaw; nothing where that is too old to count."""
    if not journal or not document or not document.get("foreseen") or status["stale"]:
        return ()
    from miyabi_healing.report.page.foreseen import ahead_of

    return ahead_of(journal, document, now)


def _whys(document: Mapping[str, Any] | None) -> tuple[Why, ...]:
    issues = [row for row in (document or {}).get("issues_detected", ()) if row.get("because")]
    if not issues:
        return ()
    from miyabi_healing.report.page.why import whys_of

    return whys_of(issues)


def _courses(journal: Journal, config: Config, now: float) -> Courses:
    query = "select count(*) from measurement where pass = (select max(id) from pass)"
    number = max(journal.one(query)[0], _FULL)
    buckets = max(_BUCKETS * _FULL // number, _FEWEST)
    return read_courses(journal, now - max(config.history.days, 1) * DAY, now, buckets)


def _looked(
    journal: Journal, document: Mapping[str, Any] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The last reports in which a healer looked at anything, the newest first, and when."""
    where = "found > 0 order by id desc limit ?"
    runs = [row["run"] for row in history.find(journal, where, _LOOKED_BACK)]
    newest = [document] if document and document.get("run_id") not in ("", *runs) else []
    found = [*newest, *(reports.of_run(journal, run) for run in runs)]
    return [
        (words.moment(words.seconds_of(each["timestamp"])), each)
        for each in found
        if each and each["actions_taken"]
    ]


def _space(looked: Sequence[tuple[str, Mapping[str, Any]]], now: float) -> Space | None:
    return next((found for when, each in looked if (found := space_of(each, when))), None)


def _checked(courses: Courses, now: float) -> str:
    """How old the numbers are."""
    if not courses.runs:
        return ""
    ago = now - courses.known_until
    age = f", {duration_text(ago)} before this page was made" if ago >= 60 else ""
    usual = interval_text(_rounded(courses.interval))
    usual = {"1 h": "hour", "24 h": "day"}.get(usual, usual)
    every = f" A run every {usual}." if courses.interval >= 1 else ""
    return f"Checked {words.moment(courses.known_until, now)}{age}.{every}"


def _rounded(seconds: float) -> int:
    """A pace without what single runs are early or late."""
    return round(seconds) if seconds < 90 else round(seconds / 60) * 60


def _shown(courses: Courses) -> tuple[list[Course], list[str]]:
    """The values that are still measured, those that matter most first; and the names of others."""
    since = courses.known_until - max(_LATELY * courses.interval, 2 * DAY)
    values = [each for each in courses.values if each.last >= since and _is_of_use(each)]
    gone = [
        f"{_name(each)} (last {day_text(each.last, courses.end)})"
        for each in courses.values
        if each.last < since and _is_of_use(each)
    ]
    ranks = {"issue": 0, "unknown": 1}
    values.sort(key=lambda each: (ranks.get(each.outcome, 2), -_part(each), each.name, each.target))
    return values, gone


def _is_of_use(course: Course) -> bool:
    """Whether it was measured, or should have been: a check that is skipped has nothing to show."""
    return course.outcome == "unknown" or any(each.known for each in course.buckets)


def _part(course: Course) -> float:
    """Of its limit, how much a value is."""
    return (course.value or 0) / course.threshold if course.threshold else course.value or 0


def _name(course: Course) -> str:
    return f"{words.short_name(course.name)} {words.place(course.target)}".strip()


def _chart(course: Course, courses: Courses) -> Chart:
    text = partial(words.value_text, unit=course.unit)
    state, tone = state_of(course)
    return Chart(
        title=words.short_name(course.name),
        where=words.place(course.target),
        now=text(course.value),
        limit=text(course.threshold),
        state=state,
        tone=tone,
        caption=_caption(course, courses),
        plot=charts.plot(course, courses, courses.end, text),
    )


def _caption(course: Course, courses: Courses) -> str:
    """The picture in words."""
    lows = [each.low for each in course.buckets if each.low is not None]
    highs = [each.high for each in course.buckets if each.high is not None]
    over = sum(each.over for each in course.buckets)
    healed = sum(each.healed for each in course.buckets)
    unknown = sum(each.unknown for each in course.buckets)
    said = []
    if lows:
        low, high = min(lows), max(highs)
        high_text = words.value_text(high, course.unit)
        low_text = words.bare(low, course.unit, high)
        once = sum(each.known for each in course.buckets) == 1
        is_level = words.value_text(low, course.unit) == high_text
        level = "measured once" if once else f"always {high_text}"
        said.append(level if is_level else f"{low_text} to {high_text}")
    if over:
        said.append(f"over its limit {words.times(over)}")
    if healed and (heal := course.last_heal):
        said.append(_heals(healed, heal, course.unit, courses.end))
    if unknown:
        said.append(f"not known {words.times(unknown)}")
    if course.last < courses.known_until:
        said.append(f"measured last {words.moment(course.last, courses.end)}")
    return "\N{NO-BREAK SPACE}· ".join(said)


def _heals(count: int, heal: Heal, unit: str, now: float) -> str:
    """How often a value was healed, and what the last time came to."""
    last = f"{', last' if count > 1 else ''} {words.moment(heal.time, now)}"
    change = ""
    if heal.after is not None:
        before = words.bare(heal.before, unit, heal.after)
        change = f" ({words.change(before, words.value_text(heal.after, unit))})"
    return f"healed {words.times(count)}{last}{change}"
