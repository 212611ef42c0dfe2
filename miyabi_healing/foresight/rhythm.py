"""What comes again each day at the same hour: a job at night, growth in the daytime only.

The next day is as the last two were, higher by what a day adds (seasonal naive with drift).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from operator import sub

from miyabi_healing.foresight.tidying import median

DAY = 86_400.0
DAYS = 3  # that must be there
PARTS = 288  # of a day that are looked at
COARSEST = 3600.0  # seconds between two samples: coarser ones do not show a day
LIKE = 0.25  # of the way from low to high in a day: how far most of two days may differ
MATTERS = 0.4  # of what a day adds: less beside it is no rhythm, but a line
SMOOTH = 3  # parts whose median is what it is now
NOW = 12  # parts, the newest, that must be as foreseen: else something new has begun


@dataclass(frozen=True)
class Rhythm:
    """The values of a day to come, the first of them `apart` seconds from now, before the
    `growth` of that day; and what a day adds, 0 where the days do not agree on it.
    """

    day: list[float]
    growth: float
    apart: float

    def until(self, threshold: float) -> float | None:
        """Seconds until the threshold is reached; None where it is not."""
        found = None
        for part, value in enumerate(self.day, 1):
            days = 0
            if value < threshold:
                if self.growth <= 0:
                    continue
                days = ceil((threshold - value) / self.growth)
            eta = part * self.apart + days * DAY
            found = eta if found is None else min(found, eta)
        return found


def daily(times: list[float], values: list[float], step: float) -> Rhythm | None:
    """The rhythm of the last three days, None where there is none."""
    if step > COARSEST or times[-1] - times[0] < DAYS * DAY:
        return None
    apart = max(DAY / PARTS, DAY / int(DAY / step))
    parts = round(DAY / apart)
    seen = [
        values[bisect_right(times, times[-1] - back * apart) - 1]
        for back in range(DAYS * parts - 1, -1, -1)
    ]
    days = [seen[at : at + parts] for at in range(0, len(seen), parts)]
    differ = [list(map(sub, after, before)) for before, after in pairwise(days)]
    grown = [median(each) for each in differ]
    usual = sum(grown) / len(grown)
    growth = usual if min(grown) > 0 else 0.0
    level = [value - usual * at / parts for at, value in enumerate(days[-1])]
    reach = max(level) - min(level)
    if reach <= MATTERS * abs(usual):
        return None
    for each, middle in zip(differ, grown, strict=True):
        off = sorted(abs(one - middle) for one in each)
        if off[int(0.9 * parts)] > LIKE * reach:
            return None
    now = [one - grown[-1] for one in differ[-1][-NOW:]]
    if max(map(abs, now)) > LIKE * reach:
        return None
    here, day_before, two_before = (median(day[-SMOOTH:]) for day in reversed(days))
    coming = [
        here + min(last - day_before, before - two_before)
        for before, last in zip(*days[-2:], strict=True)
    ]
    return Rhythm(coming, growth, apart)
