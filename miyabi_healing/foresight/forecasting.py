"""When a limit will be crossed, or silence: the one function that everything here is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub

from miyabi_healing.foresight.bands import band
from miyabi_healing.foresight.growth import Growth, fall_that_counts, growth, time_left
from miyabi_healing.foresight.peaks import FALLS, Falls, highest, rate_of_peaks, turns_back
from miyabi_healing.foresight.rhythm import DAY, Rhythm, daily
from miyabi_healing.foresight.steps import regular_steps
from miyabi_healing.foresight.tidying import (
    HUGE,
    History,
    clean_ups,
    falls_of,
    joined,
    tidy,
    without_jumps,
)

LEAST = 12  # samples
A_FALL = 0.05  # of the whole range, at least
A_JUMP = 1 / 3  # of the gap, in one sample
# How many times as far as it has risen a growth is trusted.
NEW, FROM_THE_FIRST, WHERE_IT_HAS_BEEN = 0.7, 4, 8
EARNED = 50  # samples, that a new one must have lasted for all of it: for less a part of it
MOST_STEPS = 20  # to go, that are counted one by one
LONGEST = 10 * 365 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds from the last sample until the limit is crossed; between `earliest` and `latest` in
    eight of ten cases, None where too little has come true yet to say. `basis` is for people.
    """

    eta_seconds: float
    earliest: float | None = None
    latest: float | None = None
    basis: str


def forecast(times: Sequence[float], values: Sequence[float], threshold: float) -> Forecast | None:
    """When the values will be at the threshold or above it; None where that cannot be told.

    Times are seconds since the epoch, in any order. Never raises for numbers, whatever they are.
    """
    history = tidy(times, values)
    if history is None or not -HUGE < threshold < HUGE:
        return None
    gap = threshold - history.values[-1]
    if gap <= 0:
        return Forecast(eta_seconds=0.0, basis="is over already")
    if len(history.values) < LEAST:
        return None
    found = foreseen(history, gap, threshold)
    return found if found is None or found.eta_seconds <= LONGEST else None


def foreseen(history: History, gap: float, threshold: float) -> Forecast | None:
    values = history.values
    low, high = min(values), max(values)
    if low == high:
        return None
    least = max(fall_that_counts(gap, history.noise), A_FALL * (high - low))
    falls = falls_of(values, least)
    habit = len(falls) >= FALLS
    level = values if habit else joined(values, clean_ups(values, falls))
    smooth = without_jumps(history, level, A_JUMP * gap)
    steps = None if habit else regular_steps(history.times, level, gap / MOST_STEPS)
    if steps:
        basis = f"grows in steps of {steps.size:.3g} every {lasting(steps.between)}"
        return Forecast(eta_seconds=steps.until(gap), basis=basis)
    rhythm = daily(history.times, level, history.step)
    if rhythm:
        return with_rhythm(rhythm, threshold)
    now = growth(history.times, smooth, len(smooth) - 1, gap, history.noise)
    if now is None:
        return None
    eta = time_left(now, threshold, history.noise, history.step)
    basis = words(history, now)
    if habit:
        return with_peaks(history, falls, threshold, Forecast(eta_seconds=eta, basis=basis))
    if not trusted(now, smooth, gap, threshold <= high):
        return None
    edges = band(history.times, smooth, gap, history.noise, eta, history.step) if eta else None
    earliest, latest = edges or (None, None)
    return Forecast(eta_seconds=eta, earliest=earliest, latest=latest, basis=basis)


def trusted(now: Growth, values: list[float], gap: float, been_there: bool) -> bool:
    """A growth that was seen to begin may be an upgrade, or a job, that ends soon; one that is as
    old as the history is how things are here; and where it has been before it comes again. What
    fell back meanwhile is no part of what has risen: so the wandering of noise earns nothing.
    """
    if been_there:
        return gap <= WHERE_IT_HAS_BEEN * now.rise
    lasted = len(values) - now.begin
    since = values[now.begin :: max(1, lasted // 250)]
    fallen: float = max(map(sub, accumulate(since, max), since))
    earned = now.rise - fallen
    if not now.new:
        return gap <= FROM_THE_FIRST * earned
    return gap <= NEW * earned * min(1.0, lasted / EARNED)


def with_rhythm(rhythm: Rhythm, threshold: float) -> Forecast | None:
    """What comes again each day reaches what it has reached at that hour, and what days add."""
    eta = rhythm.until(threshold)
    if eta is None:
        return None
    basis = "rises and falls as on the days before"
    if rhythm.growth > 0:
        basis = f"{basis}, and grows {per_time(rhythm.growth / DAY)}"
    return Forecast(eta_seconds=eta, basis=basis)


def with_peaks(history: History, falls: Falls, threshold: float, seen: Forecast) -> Forecast | None:
    """What falls back by habit reaches what its peaks reach; once it is far beyond them, it is
    new.
    """
    times, values = history.times, history.values
    if highest(values, falls) >= threshold:
        return None if turns_back(values, falls, values[-1], threshold) else seen
    rate, peak = rate_of_peaks(times, values, falls), falls[-1][0]
    if rate <= 0:
        beyond = values[-1] - highest(values, falls)
        return seen if threshold - values[-1] <= NEW * beyond else None
    eta = (threshold - values[peak]) / rate - (times[-1] - times[peak])
    basis = f"falls back again and again, but its peaks grow {per_time(rate)}"
    return seen if eta <= seen.eta_seconds else Forecast(eta_seconds=eta, basis=basis)


def words(history: History, now: Growth) -> str:
    last = len(history.times) - 1
    text = f"grows {per_time(now.rate)} for {lasting(history.times[-1] - history.times[now.begin])}"
    if now.steps * 3 > last - now.looked:
        return text
    return f"{text}, in steps of about {now.step:.2g}"


def per_time(rate: float) -> str:
    """A rate in a second, in the unit of time in which it is best read."""
    for name, seconds in (("a minute", 60), ("an hour", 3600)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.3g} {name}"
    return f"{rate * 86_400:.3g} a day"


def lasting(seconds: float) -> str:
    for name, unit in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
