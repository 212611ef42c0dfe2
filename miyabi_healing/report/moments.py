"""Moments to come, in words: the day by its name, and no finer than anybody can know."""

from __future__ import annotations

import time
from typing import Literal

from miyabi_healing.support.formatting import DAY, day_text

# how a day is named: to be read at once, or some hours later, or whenever
Days = Literal["words", "weekdays", "dates"]

_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_NEAR = ("today", "tomorrow", "yesterday")  # by how many days they are off
_WEEK = 7  # days from which on a day has its date, and no time
# a moment that is so many seconds off is said in steps of so many minutes
_STEPS = ((900, 1), (7200, 5), (8 * 3600, 10), (DAY, 30))
_EVENING, _MORNING = 18, 6  # hours: between them it is night


def moment_text(moment: float, now: float, days: Days = "words") -> str:
    """About when something is (seconds since the epoch): ``today about 21:40``, ``about 3 Dec``."""
    if _days_off(moment, now) >= _WEEK:
        return f"about {day_text(moment, now)}"
    step = _step(moment - now)
    said = _floor(moment + step * 30, step)
    if days == "words" and _days_off(said, now) == 1 and _clock(said) == "00:00":
        return "tonight about midnight"
    return f"{_on_day(said, now, days)} about {_clock(said)}"


def band_text(earliest: float, latest: float, now: float, days: Days = "words") -> str:
    """Between which moments something is, not narrower than they are: ``tonight between 21:00 and
    02:00``, ``between Friday 14:00 and 7 Dec``.
    """
    begin = _floor(earliest, _step(earliest - now))
    end = _ceiling(latest, _step(latest - now))
    if days == "words" and begin <= now < end:
        return f"between now and {_on_its_own(end, now, days, today=False)}"
    if _days_off(begin, now) >= _WEEK:
        first, last = day_text(begin, now), day_text(end, now)
        return f"about {first}" if first == last else f"between {first} and {last}"
    if _is_night(begin, end, now) and days == "words":
        return f"tonight between {_clock(begin)} and {_clock(end)}"
    midnight = _clock(end) == "00:00" and _days_off(end, begin) == 1
    if midnight or _days_off(end, begin) == 0:
        last = "midnight" if midnight else _clock(end)
        return f"{_on_day(begin, now, days)} between {_clock(begin)} and {last}"
    return f"between {_on_its_own(begin, now, days)} and {_on_its_own(end, now, days)}"


def _on_its_own(moment: float, now: float, days: Days, today: bool = True) -> str:
    """``tomorrow 02:00``; a day without its time where it is far off."""
    if (off := _days_off(moment, now)) >= _WEEK:
        return day_text(moment, now)
    return f"{_day(moment, now, days)} {_clock(moment)}" if off or today else _clock(moment)


def _is_night(begin: float, end: float, now: float) -> bool:
    """Whether that is the night to come."""
    return (
        _days_off(begin, now) == 0
        and _days_off(end, now) == 1
        and time.localtime(begin).tm_hour >= _EVENING
        and time.localtime(end).tm_hour < _MORNING
        and _clock(end) != "00:00"
    )


def _on_day(moment: float, now: float, days: Days) -> str:
    day = _day(moment, now, days)
    return day if day in _NEAR else f"on {day}"


def _day(moment: float, now: float, days: Days) -> str:
    off = _days_off(moment, now)
    if days == "words" and off in (-1, 0, 1):
        return _NEAR[off]
    if days == "dates" or not 0 <= off < _WEEK:
        return day_text(moment, now)
    return _WEEKDAYS[time.localtime(moment).tm_wday]


def _days_off(moment: float, now: float) -> int:
    """How many midnights lie between now and then; days have 23 to 25 hours."""
    return round((_noon(moment) - _noon(now)) / DAY)


def _noon(moment: float) -> float:
    then = time.localtime(moment)
    return time.mktime((then.tm_year, then.tm_mon, then.tm_mday, 12, 0, 0, 0, 0, -1))


def _step(off: float) -> int:
    return next((minutes for most, minutes in _STEPS if abs(off) < most), 60)


def _floor(moment: float, step: int) -> float:
    """By the clock on the wall, whatever its zone is off by."""
    return moment - moment % 60 - time.localtime(moment).tm_min % step * 60


def _ceiling(moment: float, step: int) -> float:
    floor = _floor(moment, step)
    return floor if floor == moment else floor + step * 60


def _clock(moment: float) -> str:
    then = time.localtime(moment)
    return f"{then.tm_hour:02}:{then.tm_min:02}"
