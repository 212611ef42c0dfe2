"""What is foreseen, with the course of late and how it goes on to the limit.

Its pictures have a time of their own: in one of 90 days, the hours to come would be a line's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from miyabi_healing.report.foreseen_text import acted_early, confidence, sentence
from miyabi_healing.report.page import charts, words
from miyabi_healing.report.page.parts import QUIET, Ahead, Chart
from miyabi_healing.state.courses import Courses, read_courses
from miyabi_healing.state.journal import Journal

_MOST = 6  # pictures
_BUCKETS = 120
_BACK = 2  # times as long as what is to come
_LEAST_RUNS = 12  # that the picture goes back
_MARGIN = 0.08  # of the picture, after the last moment in it


def ahead_of(journal: Journal, document: Mapping[str, Any], now: float) -> tuple[Ahead, ...]:
    """The next first. Raises sqlite3.Error."""
    rows = sorted(document["foreseen"], key=lambda each: float(each["eta_seconds"]))
    return tuple(_pictures(journal, rows[:_MOST], document, now))


def _pictures(
    journal: Journal, rows: list[Any], document: Mapping[str, Any], now: float
) -> Iterator[Ahead]:
    interval = 0.0
    for row in rows:
        reached = words.seconds_of(row["reached"])
        edges = None
        if row["earliest"] and row["latest"]:
            edges = words.seconds_of(row["earliest"]), words.seconds_of(row["latest"])
        end = max(reached, edges[1] if edges else reached, now)
        courses = _courses(journal, now, max(_BACK * (end - now), _LEAST_RUNS * interval))
        interval = courses.interval
        if courses.begin > now - _LEAST_RUNS * interval:
            courses = _courses(journal, now, _LEAST_RUNS * interval)
        key = row["name"], row["target"]
        course = next((each for each in courses.values if (each.name, each.target) == key), None)
        if course is None:
            continue
        until = end + _MARGIN * (end - courses.begin)
        text = partial(words.value_text, unit=course.unit)
        dashes, band = charts.ahead(course, courses, until, reached, edges)
        chart = Chart(
            title=words.short_name(course.name),
            where=words.place(course.target),
            now=text(course.value),
            limit=text(course.threshold),
            state="",
            tone=QUIET,
            caption=confidence(row),
            plot=charts.plot(course, courses, until, text),
        )
        said = sentence(row, now, "dates")
        if healers := acted_early(row, document):
            said += f"; {healers} acted early"
        yield Ahead(chart, dashes, band, charts.time_marks(courses.begin, until), f"{said}.")


def _courses(journal: Journal, now: float, seconds: float) -> Courses:
    return read_courses(journal, now - max(seconds, 3600), now, _BUCKETS)
