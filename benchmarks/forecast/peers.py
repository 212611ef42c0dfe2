"""What people forecast with elsewhere, each in a few lines of plain Python.

A peer looks at times (seconds) and values, oldest first, and returns a function: the seconds until
a threshold is crossed, `math.inf` where it foresees none. Windows are in samples: 12, 72 and 288
are 1, 6 and 24 hours at five minutes.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence

from miyabi_healing.foresight.tidying import falls_of

Until = Callable[[float], float]
Numbers = Sequence[float]
Peer = Callable[[Numbers, Numbers], Until]
MOST = 600  # samples that the filters look at: their memory is shorter


def straight(level: float, slope: float) -> Until:
    """A line from the last sample on."""

    def until(threshold: float) -> float:
        if level >= threshold:
            return 0
        return (threshold - level) / slope if slope > 0 else math.inf

    return until


def least_squares(times: Numbers, values: Numbers) -> tuple[float, float]:
    """The line's value at the last sample, and its slope in a second."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    if not spread:
        return values[-1], 0
    slope = sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True))
    slope /= spread
    return mean + slope * (times[-1] - middle), slope


def predict_linear(times: Numbers, values: Numbers) -> Until:
    """Prometheus' predict_linear over six hours, as node_exporter's alarms use it."""
    return straight(*least_squares(times[-72:], values[-72:]))


def day_of_least_squares(times: Numbers, values: Numbers) -> Until:
    """Least squares over a day (Zabbix' timeleft)."""
    return straight(*least_squares(times[-288:], values[-288:]))


def last_hour(times: Numbers, values: Numbers) -> Until:
    """The rate of the last hour (Netdata's former alarms)."""
    return straight(values[-1], (values[-1] - values[-13]) / (times[-1] - times[-13]))


def a_step(times: Numbers) -> float:
    return (times[-1] - times[0]) / (len(times) - 1)


def holt(times: Numbers, values: Numbers) -> Until:
    """Double exponential smoothing, alpha 0.5 and beta 0.1."""
    times, values = times[-MOST:], values[-MOST:]
    level, trend = values[0], 0.0
    for value in values[1:]:
        before, level = level, 0.5 * value + 0.5 * (level + trend)
        trend = 0.1 * (level - before) + 0.9 * trend
    return straight(level, trend / a_step(times))


def kalman(times: Numbers, values: Numbers) -> Until:
    """A Kalman filter of level and trend; the ratio of its variances is fixed."""
    times, values = times[-MOST:], values[-MOST:]
    level, trend = values[0], 0.0
    a, b, d = 1.0, 0.0, 1.0
    for value in values[1:]:
        level += trend
        a, b, d = a + 2 * b + d + 0.05, b + d, d + 0.001
        total = a + 1
        first, second = a / total, b / total
        error = value - level
        level, trend = level + first * error, trend + second * error
        a, b, d = (1 - first) * a, (1 - first) * b, d - second * b
    return straight(level, trend / a_step(times))


def falls(values: Numbers) -> list[tuple[int, int]]:
    """The peaks before each real fall, and the bottoms after it: of more than a tenth of the
    range, and of six usual changes.
    """
    changes = [abs(after - before) for before, after in itertools.pairwise(values)]
    enough = max(6 * statistics.median(changes), 0.1 * (max(values) - min(values)))
    return falls_of(list(values), enough)


def since_last_fall(times: Numbers, values: Numbers) -> int:
    found = falls(values)
    return min(found[-1][1] if found else 0, len(values) - 2)


def theil_sen(times: Numbers, values: Numbers) -> Until:
    """The median of the slopes between any two of some 60 samples since the last fall."""
    begin = since_last_fall(times, values)
    every = max(1, (len(values) - begin) // 60)
    points = list(zip(times[:begin:-every], values[:begin:-every], strict=True))
    slopes = [(v - w) / (t - u) for (t, v), (u, w) in itertools.combinations(points, 2)]
    return straight(values[-1], statistics.median(slopes) if slopes else 0)


def two_witnesses(times: Numbers, values: Numbers) -> Until:
    """The last 36, and all since the last fall: the later counts. From three falls on the peaks
    as well; and a growth is trusted four times as far as it has lasted.
    """
    begin, found = since_last_fall(times, values), falls(values)
    near = straight(values[-1], least_squares(times[-36:], values[-36:])[1])
    far = straight(values[-1], least_squares(times[begin:], values[begin:])[1])
    peaks = [high for high, _ in found][-6:]

    def until(threshold: float) -> float:
        if values[-1] >= threshold:
            return 0
        eta = max(near(threshold), far(threshold))
        if eta > 4 * (times[-1] - times[begin]):
            return math.inf
        if len(peaks) >= 3 and threshold > max(values[at] for at in peaks[-3:]):
            level, slope = least_squares([times[at] for at in peaks], [values[at] for at in peaks])
            later = straight(level, slope)(threshold) - (times[-1] - times[peaks[-1]])
            eta = max(eta, later)
        return eta

    return until


def two_witnesses_and_kalman(times: Numbers, values: Numbers) -> Until:
    """Both must foresee it; the later counts."""
    both = two_witnesses(times, values), kalman(times, values)
    return lambda threshold: max(until(threshold) for until in both)


PEERS: dict[str, Peer] = {
    "predict_linear, 6 h": predict_linear,
    "rate of the last hour": last_hour,
    "least squares, 24 h": day_of_least_squares,
    "Holt": holt,
    "Kalman local trend": kalman,
    "Theil-Sen since the last fall": theil_sen,
    "two witnesses": two_witnesses,
    "two witnesses and Kalman": two_witnesses_and_kalman,
}
