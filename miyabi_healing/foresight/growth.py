"""How fast something grows now: the growth that lasts, at the scale of what is left to grow.

How far back to look is not a number of hours: as far as the last growth of the size of the gap
reaches. So a gap that takes a month is judged by weeks, and one that takes an hour by minutes; and
growth in steps is judged by several steps, however far apart they are.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from operator import sub

from miyabi_healing.foresight.tidying import median

FALL = 0.35  # of the gap: a fall that begins anew
FAR, NEAR = 2.0, 0.4  # times the gap: how far back the two looks reach
LEAST_SAMPLES = 4
LEAST_LOOK = 6  # samples to look back, however small the gap
LEAST_STEPS = 4  # rises; fewer are events, and no growth
LARGEST_STEP = 0.5  # of the whole rise
EARLY = 0.2  # of the rise, that the first half of the time must have seen: else it is a burst
STALLED = 3  # times the longest pause so far without a rise: it has ended
SOON = 18  # samples: so near, the faster of two rates counts, as being late is the worse mistake
NOISE = 4  # standard deviations of it that a fall, and 3 that a rise must exceed


@dataclass(frozen=True)
class Growth:
    """`rate` in a second, and the `fastest` of the two that it is the mean of, by `steps` rises of
    `step` since sample `looked`; `level` is the value now without noise. `rise` since sample
    `begin`, where it began; `new` where that was seen: with a fall, or out of calm.
    """

    rate: float
    fastest: float
    level: float
    rise: float
    begin: int
    new: bool
    steps: int
    step: float
    looked: int


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the line of least squares, through some hundred samples."""
    every = max(1, len(times) // 250)
    times, values = times[::-every], values[::-every]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = total = 0.0
    for at, value in zip(times, values, strict=True):
        away = at - middle
        spread += away * away
        total += away * (value - mean)
    return total / spread if spread else 0.0


def fall_that_counts(gap: float, noise: float) -> float:
    return max(FALL * gap, NOISE * noise)


def look_back(
    values: list[float], end: int, gap: float, noise: float
) -> tuple[int, int | None, bool]:
    """Where the growth up to sample `end` began: where it was two gaps lower, or at the last fall,
    or with the first sample. Then where it was a part of the gap lower, and whether there was a
    fall.
    """
    fall = fall_that_counts(gap, noise)
    now = low = values[end]
    begin, near = end, None
    for at in range(end - 1, -1, -1):
        value = values[at]
        if value < low:
            low, begin = value, at
            if near is None and value <= now - NEAR * gap:
                near = at
            if value <= now - FAR * gap and end - at >= LEAST_LOOK:
                return begin, near, False
        elif value > low + fall:
            return begin, near, True
    return begin, near, False


def after_calm(times: list[float], values: list[float], begin: int, end: int) -> int:
    """Where a growth began that was hardly there in the first half of its time: calm before a
    burst is no part of it.
    """
    while end - begin >= LEAST_SAMPLES:
        middle = bisect(times, (times[begin] + times[end]) / 2, begin, end)
        if values[middle] - values[begin] >= EARLY * (values[end] - values[begin]):
            break
        begin = middle
    return begin


def first_begun(times: list[float], values: list[float], begin: int, end: int) -> int:
    """Where a growth began that was there before `begin`, too."""
    while begin > 0:
        before = max(0, 2 * begin - end)
        as_now = (values[end] - values[begin]) * (begin - before) / (end - begin)
        if values[begin] - values[before] < EARLY * as_now:
            break
        begin = before
    return after_calm(times, values, begin, end)


def stalled(times: list[float], values: list[float], begin: int, end: int) -> bool:
    """Whether the last rise is longer ago than pauses between rises have been."""
    top, last, longest = values[begin], times[begin], 0.0
    for at in range(begin + 1, end + 1):
        if values[at] > top:
            longest = max(longest, times[at] - last)
            top, last = values[at], times[at]
    a_step = (times[end] - times[begin]) / (end - begin)
    return times[end] - last > STALLED * max(longest, a_step)


def rises(times: list[float], values: list[float], begin: int, end: int) -> list[float]:
    """Each from one sample to the next; where samples are missing, as if they had been there."""
    here = values[begin : end + 1]
    plain = [rise for rise in map(sub, here[1:], here) if rise > 0]
    if not plain or max(plain) <= LARGEST_STEP * (values[end] - values[begin]):
        return plain
    usual = 2 * (times[end] - times[begin]) / (end - begin)
    lasted = map(sub, times[begin + 1 : end + 1], times[begin:end])
    each = zip(map(sub, here[1:], here), lasted, strict=True)
    return [rise / max(1.0, time / usual) for rise, time in each if rise > 0]


def growth(
    times: list[float], values: list[float], end: int, gap: float, noise: float
) -> Growth | None:
    """The growth up to sample `end`; None where there is none that one may count on.

    Its rate is the geometric mean of that since it began and that of its newest part.
    """
    begin, near, fell = look_back(values, end, gap, noise)
    begin = after_calm(times, values, begin, end)
    rise = values[end] - values[begin]
    if end - begin < LEAST_SAMPLES or rise <= (NOISE - 1) * noise:
        return None
    ups = rises(times, values, begin, end)
    if len(ups) < LEAST_STEPS or max(ups) > LARGEST_STEP * rise:
        return None
    if stalled(times, values, begin, end):
        return None
    near = max(begin, end - LEAST_SAMPLES if near is None else min(near, end - LEAST_SAMPLES))
    whole = slope(times[begin : end + 1], values[begin : end + 1])
    latest = slope(times[near : end + 1], values[near : end + 1])
    if whole <= 0 or latest <= 0:
        return None
    rate = sqrt(whole) * sqrt(latest)
    few = range(end, end - min(5, end - begin), -1)
    level = median([values[at] + rate * (times[end] - times[at]) for at in few])
    start = begin if fell else first_begun(times, values, begin, end)
    return Growth(
        rate=rate,
        fastest=max(whole, latest),
        level=level,
        rise=values[end] - values[start],
        begin=start,
        new=start > end / 10,
        steps=len(ups),
        step=rise / len(ups),
        looked=begin,
    )


def time_left(now: Growth, threshold: float, noise: float, step: float) -> float:
    """Seconds until the first sample is at the threshold: one that noise has lifted."""
    left = max(0.0, threshold - now.level - noise)
    eta = left / now.rate
    return left / now.fastest if eta <= SOON * step else eta
