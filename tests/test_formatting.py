"""Texts for people and for reports: each has one form, whoever writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from miyabi_healing.support import formatting

MOMENT = 1_769_860_805.9  # 2026-01-31 12:00:05 in Greenwich


@pytest.fixture
def an_hour_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "EAST-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("an_hour_east")
def test_moments_are_local_and_cut_to_the_second() -> None:
    assert formatting.timestamp(MOMENT) == "2026-01-31T13:00:05"
    assert formatting.time_text(formatting.timestamp(MOMENT)) == "2026-01-31 13:00:05"
    assert formatting.minute_text(MOMENT) == "2026-01-31 13:00"


def test_without_a_moment_it_is_now() -> None:
    before = formatting.timestamp(time.time())
    assert before <= formatting.timestamp() <= formatting.timestamp(time.time())


@pytest.mark.usefixtures("an_hour_east")
def test_names_of_runs_and_of_files_set_aside_are_as_older_versions_wrote_them() -> None:
    day, _, rest = formatting.name_stamp().partition("T")
    clock, _, process = rest.partition("-")
    assert (len(day), len(clock), process) == (8, 6, str(os.getpid()))
    assert (day + clock).isdecimal()
    assert abs(time.mktime(time.strptime(day + clock, "%Y%m%d%H%M%S")) - time.time()) < 60


def test_durations_are_rounded() -> None:
    seconds = (0, 59, 60, 119, 150, 3600, 7200, 172_800)
    told = ["0 s", "59 s", "1 min", "119 s", "2 min", "1 h", "2 h", "2 d"]
    assert [formatting.duration_text(each) for each in seconds] == told


def test_intervals_are_exact() -> None:
    told = ["90 s", "1 min", "90 min", "1 h", "48 h"]
    assert [formatting.interval_text(each) for each in (90, 60, 5400, 3600, 172_800)] == told
