"""A history as it was measured, made fit to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt
from operator import lt, sub

MOST = 10_000  # samples that are looked at, the newest
HUGE = 1e100  # beyond it arithmetic may overflow, and nothing on a host is that large
USUAL = 4  # times a usual rise, which is no event yet
RECENT = 400  # samples that say how far apart they are, and how noisy


@dataclass(frozen=True)
class History:
    """Samples, oldest first, at times (seconds) that only rise; single spikes are taken out of
    `values`, the last one may be one.

    `step` is the usual time between two; `noise` the standard deviation of what comes and goes
    from one sample to the next.
    """

    times: list[float]
    values: list[float]
    step: float
    noise: float


def tidy(times: Sequence[float], values: Sequence[float]) -> History | None:
    """Sorted, without what is no number; of several at one time the last counts. None where
    nothing is left.
    """
    begun, plain = newest(times), newest(values)
    if len(begun) != len(plain) or not clean(begun, plain):
        kept = {
            float(at): float(value)
            for at, value in zip(times, values, strict=False)
            if -HUGE < at < HUGE and -HUGE < value < HUGE
        }
        begun = sorted(kept)[-MOST:]
        plain = [kept[at] for at in begun]
    if not begun:
        return None
    steps = [after - before for before, after in pairwise(begun[-RECENT:])]
    plain = without_spikes(plain)
    return History(begun, plain, median(steps), noise_of(plain))


def newest(numbers: Sequence[float]) -> list[float]:
    try:
        return list(map(float, numbers[-MOST:]))
    except OverflowError:
        return []


def clean(times: list[float], values: list[float]) -> bool:
    """Whether there is nothing to tidy: the usual case, in the fastest way."""
    if not times or not all(map(lt, times, times[1:])):
        return False
    return isfinite(sum(values)) and all(
        -HUGE < each < HUGE for each in (times[0], times[-1], min(values), max(values))
    )


def median(values: Sequence[float]) -> float:
    """The middle one (of two, the upper one); 0 of none."""
    return sorted(values)[len(values) // 2] if values else 0.0


def without_spikes(values: list[float]) -> list[float]:
    """The middle one of each three neighbours, but for the first and the last."""
    middle = [
        two
        if one <= two <= three or one >= two >= three
        else (one if (one > three) == (two > one) else three)
        for one, two, three in zip(values, values[1:], values[2:], strict=False)
    ]
    return values[:1] + middle + values[1:][-1:]


def noise_of(values: list[float]) -> float:
    """From the bends between three neighbours: growth and steps have nearly none. Their median
    is 0.6745 of the standard deviation, which is the square root of six times that of a sample.
    """
    recent = values[-RECENT:]
    bends = [
        abs(one - 2 * two + three)
        for one, two, three in zip(recent, recent[1:], recent[2:], strict=False)
    ]
    return median(bends) / 0.6745 / sqrt(6)


def falls_of(values: list[float], least: float) -> list[tuple[int, int]]:
    """The peak before each fall of more than `least`, and the bottom after it, by their places."""
    found: list[tuple[int, int]] = []
    peak = bottom = 0
    falling = False
    for at, value in enumerate(values):
        if not falling:
            if value >= values[peak]:
                peak = at
            elif value < values[peak] - least:
                falling, bottom = True, at
        elif value <= values[bottom]:
            bottom = at
        elif value > values[bottom] + least:
            found.append((peak, bottom))
            falling, peak = False, at
    if falling:
        found.append((peak, bottom))
    return found


def clean_ups(values: list[float], falls: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of the falls, those that took a part away for once: quick, after a rise that had lasted,
    and not back to where that rise began.
    """
    found, begin = [], 0
    for peak, bottom in falls:
        low = min(values[begin : peak + 1])
        lasted = peak - begin
        quick = bottom - peak <= max(3, lasted // 3)
        if lasted >= 12 and quick and values[bottom] > low + (values[peak] - low) / 4:
            found.append((peak, bottom))
        begin = bottom
    return found


def joined(values: list[float], falls: list[tuple[int, int]]) -> list[float]:
    """As if nothing had been taken away at these falls: what was before is moved down."""
    if not falls:
        return values
    result, down, end = list(values), 0.0, len(values)
    for peak, bottom in reversed(falls):
        for at in range(bottom, end):
            result[at] -= down
        for at in range(peak + 1, bottom):
            result[at] = min(values[at], values[bottom]) - down
        down += values[peak] - values[bottom]
        end = peak + 1
    for at in range(end):
        result[at] -= down
    return result


def without_jumps(history: History, values: list[float], most: float) -> list[float]:
    """As if no sample had been `most` or more above the one before: that is an event, and no
    growth, unless such rises are usual here. Where samples are missing, growth had more time.
    """
    rises = list(map(sub, values[1:], values))
    most = max(most, USUAL * median([rise for rise in rises[-RECENT:] if rise > 0]))
    if max(rises) < most:
        return values
    result, down = list(values), 0.0
    for at in range(len(values) - 1, 0, -1):
        rise = values[at] - values[at - 1]
        if rise >= most:
            longer = (history.times[at] - history.times[at - 1]) / history.step
            if rise >= most * longer:
                down += rise
        if down:
            result[at - 1] += down
    return result
