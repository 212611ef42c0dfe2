"""What rises and falls back, again and again: how high it gets."""

from __future__ import annotations

from miyabi_healing.foresight.growth import slope

Falls = list[tuple[int, int]]
FALLS = 3  # from which on it is a habit
LAST = 12  # that count
CLEARLY = 1.0  # times as much as they differ otherwise


def turns_back(values: list[float], falls: Falls, now: float, threshold: float) -> bool:
    """Whether most rises that came as far as now fell back before the threshold."""
    tops = [values[peak] for peak, _ in falls[-LAST:]][1:]
    passed = [top for top in tops if top >= now]
    reached = [top for top in passed if top >= threshold]
    return len(passed) >= 2 and len(reached) < len(passed) / 2


def highest(values: list[float], falls: Falls) -> float:
    return max(values[peak] for peak, _ in falls[-LAST:])


def rate_of_peaks(times: list[float], values: list[float], falls: Falls) -> float:
    """By how much they grow in a second; 0 where that is no more than how they differ."""
    last = [peak for peak, _ in falls[-LAST:]]
    rate = slope([times[peak] for peak in last], [values[peak] for peak in last])
    grown = [rate * (times[peak] - times[last[-1]]) for peak in last]
    besides = [values[peak] - by for peak, by in zip(last, grown, strict=True)]
    return rate if -grown[0] > CLEARLY * (max(besides) - min(besides)) else 0.0
