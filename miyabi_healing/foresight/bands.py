"""How far off such forecasts of this series were until now: the band around a new one.

As in conformal prediction (Gibbs and Candès, 2021), its width comes from past errors alone, and
from no assumption about how they are distributed.
"""

from __future__ import annotations

from math import inf

from miyabi_healing.foresight.growth import growth, time_left

MATURED = 30  # past errors at a like horizon, before which no band is shown
BLOCKS = 320
BLOCKS_AHEAD = 16  # that a forecast reaches
APART = 4  # blocks between two errors: neighbours tell the same
ALIKE = 2.0  # times as far, or as near
LOW, HIGH = 0.07, 0.93  # of past errors, between which eight of ten new ones were


def band(
    times: list[float], values: list[float], gap: float, noise: float, eta: float, step: float
) -> tuple[float, float] | None:
    """The earliest and the latest, in seconds from the last sample, around `eta`."""
    errors = sorted(past_errors(times, values, gap, noise, eta, step))
    if len(errors) < MATURED:
        return None
    low, high = (
        errors[int(LOW * len(errors))],
        errors[min(len(errors) - 1, int(HIGH * len(errors)))],
    )
    if high == inf:
        return None
    return min(eta, eta * low), max(eta, eta * high)


def past_errors(
    times: list[float], values: list[float], gap: float, noise: float, eta: float, step: float
) -> list[float]:
    """At moments of the past, the same is asked about the same gap: the time that it took then,
    in terms of the time that was foreseen. Only what had the time to show counts.
    """
    size = max(1, int(eta / step / BLOCKS_AHEAD))
    times, values = blocks(times, size), blocks(values, size)
    found = []
    for at in range(8, len(values) - 1, APART):
        then = growth(times, values, at, gap, noise)
        if then is None:
            continue
        ahead = time_left(then, values[at] + gap, noise, size * step)
        if (
            not ahead
            or not eta / ALIKE <= ahead <= eta * ALIKE
            or times[at] + 3 * ahead > times[-1]
        ):
            continue
        found.append(taken(times, values, at, gap, 3 * ahead) / ahead)
    return found


def blocks(values: list[float], size: int) -> list[float]:
    """Means of so many each, the newest ones."""
    if size == 1:
        return values[-BLOCKS:]
    newest = values[-BLOCKS * size :]
    begin = len(newest) % size
    return [sum(newest[at : at + size]) / size for at in range(begin, len(newest), size)]


def taken(times: list[float], values: list[float], at: int, gap: float, most: float) -> float:
    """Seconds until it had risen by the gap; infinite where they would be more than `most`."""
    for later in range(at + 1, len(values)):
        if times[later] - times[at] > most:
            break
        if values[later] >= values[at] + gap:
            return times[later] - times[at]
    return inf
