"""Growth in few large steps that come regularly, as of a dump a day: steps are counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from operator import lt

from miyabi_healing.foresight.tidying import RECENT, median

LEAST = 4
UNEVEN = 0.3  # of the usual time between two, and of the usual size
QUICK = 0.25  # of the time between two, that one may last: a longer one is growth
LATE = 1.5  # times the usual time: it has ended


@dataclass(frozen=True)
class Steps:
    """`size` of one, the seconds `between` two, and those `since` the last."""

    size: float
    between: float
    since: float

    def until(self, gap: float) -> float:
        """Seconds until they have risen by `gap`."""
        return max(0.0, ceil(gap / self.size) * self.between - self.since)


def regular_steps(times: list[float], values: list[float], least: float) -> Steps | None:
    """The last steps, each of at least `least` within a sample or some in a row, with nothing
    that falls between; None where they are fewer than four, or too uneven to count on, or where
    most samples rise.
    """
    recent = values[-RECENT:]
    if sum(map(lt, recent, recent[1:])) > len(recent) / 3:
        return None
    found: list[tuple[float, float]] = []
    longest = 0.0
    at = len(values) - 1
    while at > 0 and len(found) < 2 * LEAST:
        rise, end = 0.0, at
        while at > 0 and values[at] > values[at - 1]:
            rise += values[at] - values[at - 1]
            at -= 1
        if rise >= least:
            found.append((times[end], rise))
            longest = max(longest, times[end] - times[at])
        elif at > 0 and values[at - 1] - values[at] >= least:
            break
        if at == end:
            at -= 1
    if len(found) < LEAST:
        return None
    between = [later - sooner for (later, _), (sooner, _) in pairwise(found)]
    usual, size = median(between), median([rise for _, rise in found])
    since = times[-1] - found[0][0]
    quick = longest <= QUICK * usual
    even = all(abs(each - usual) <= UNEVEN * usual for each in between)
    alike = all(abs(rise - size) <= UNEVEN * size for _, rise in found)
    return Steps(size, usual, since) if quick and even and alike and since <= LATE * usual else None
